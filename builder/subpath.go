package builder

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/rootfs"
)

// narrowFolder makes a folder of a context that is a folder the context itself (FEATURES C13).
func (bd *build) narrowFolder() error {
	if bd.opt.ContextSubPath == "" {
		return nil
	}
	root, err := rootfs.Open(bd.opt.Context)
	if err != nil {
		return fmt.Errorf("open build context %s: %w", bd.opt.Context, plainCause(err))
	}
	defer root.Close()
	sub, err := bd.narrow(root)
	if err != nil {
		return err
	}
	bd.opt.ContextSubPath = "" // from here on the folder is the context, also to what a record says
	return sub.Close()
}

// takeContext makes what was unpacked the context, or the folder in it that is wanted, and reads the Dockerfile there.
func (bd *build) takeContext(root *rootfs.Root, what string) error {
	if bd.opt.ContextSubPath == "" {
		return bd.takeDockerfile(root, what)
	}
	sub, err := bd.narrow(root)
	if err != nil {
		return err
	}
	defer sub.Close()
	return bd.takeDockerfile(sub, filepath.Join(what, bd.opt.ContextSubPath))
}

// narrow opens the folder, and makes it the context. The context is a stranger's: the way there has no link, which could lead anywhere.
func (bd *build) narrow(root *rootfs.Root) (*rootfs.Root, error) {
	given := bd.opt.ContextSubPath
	if !filepath.IsLocal(given) {
		return nil, usage{&hinted{err: fmt.Errorf("--context-sub-path=%s leads out of the context", given), hint: "give a path below it"}}
	}
	clean := filepath.ToSlash(filepath.Clean(given))
	at := ""
	for part := range strings.SplitSeq(clean, "/") {
		at += "/" + part
		st, err := root.Lstat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil, usage{fmt.Errorf("--context-sub-path=%s: the context has no folder %s", given, strings.TrimPrefix(at, "/"))}
		case err != nil:
			return nil, fmt.Errorf("--context-sub-path=%s: %w", given, err)
		case st.Mode&unix.S_IFMT == unix.S_IFLNK:
			return nil, usage{&hinted{err: fmt.Errorf("--context-sub-path=%s: %s is a link", given, strings.TrimPrefix(at, "/")), hint: "name the folder that the link is to"}}
		case st.Mode&unix.S_IFMT != unix.S_IFDIR:
			return nil, usage{fmt.Errorf("--context-sub-path=%s: %s is no folder", given, strings.TrimPrefix(at, "/"))}
		}
	}
	bd.opt.Context = filepath.Join(bd.opt.Context, filepath.FromSlash(clean))
	return rootfs.Open(bd.opt.Context)
}
