package builder

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	buildcontext "gobuild/context"
	"gobuild/internal/atomicfile"
	"gobuild/internal/rootfs"
	"gobuild/layer"
	"gobuild/stages"
)

// splits says whether an output of files has a folder for each platform (FEATURES K2).
func (bd *build) splits(o Output) (bool, error) {
	text := o.Attrs["platform-split"]
	if text == "" {
		return bd.several(), nil
	}
	on, err := strconv.ParseBool(text)
	if err != nil {
		return false, usage{fmt.Errorf("platform-split=%s is not true or false", text)}
	}
	return on, nil
}

// merged finds files that two platforms have in an output that is not split.
type merged map[string]string // path to the platform that has it

func (m merged) add(ln *lane, p string) error {
	if other := m[p]; other != "" {
		return usage{&hinted{
			err:  fmt.Errorf("both %s and %s have the file %s", other, platformText(ln.platform), p),
			hint: "leave platform-split=false out: each platform has a folder then",
		}}
	}
	m[p] = platformText(ln.platform)
	return nil
}

// outputTar writes the files of the target, of several platforms one after the other.
func (bd *build) outputTar(ctx context.Context, o Output) error {
	split, err := bd.splits(o)
	if err != nil {
		return err
	}
	return writeOutput(o, func(w io.Writer) error {
		if !split && len(bd.lanes) == 1 && !bd.statesFiles() {
			return bd.lanes[0].exportTar(ctx, w)
		}
		out := tar.NewWriter(w)
		seen, folders := merged{}, map[string]bool{}
		for _, ln := range bd.lanes {
			if err := ln.appendTar(ctx, out, split, seen, folders); err != nil {
				return err
			}
			if err := ln.appendStatements(ctx, out, split, seen); err != nil {
				return err
			}
		}
		return out.Close()
	})
}

func (ln *lane) exportTar(ctx context.Context, w io.Writer) error {
	root, err := ln.finalTree(ctx)
	if err != nil {
		return err
	}
	defer root.Close()
	return layer.Export(ctx, w, root, ln.opt.SourceDateEpoch)
}

// appendTar adds a platform's files to an archive of several.
func (ln *lane) appendTar(ctx context.Context, out *tar.Writer, split bool, seen merged, folders map[string]bool) error {
	r, w := io.Pipe()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		err := guard(func() error { return ln.exportTar(ctx, w) })
		_ = w.CloseWithError(err) // never fails
		return err
	})
	group.Go(func() error {
		err := guard(func() error { return ln.moveTar(out, tar.NewReader(r), split, seen, folders) })
		_ = r.CloseWithError(err) // never fails
		return err
	})
	return group.Wait()
}

// appendStatements adds what is stated of a platform's files to an archive.
func (ln *lane) appendStatements(ctx context.Context, out *tar.Writer, split bool, seen merged) error {
	list, err := ln.fileStatements(ctx)
	if err != nil {
		return err
	}
	for _, s := range list {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: s.filename, Mode: 0o644, Size: int64(len(s.Data)), ModTime: time.Unix(0, 0)}
		if split {
			h.Name = ln.folder() + "/" + h.Name
		} else if err := seen.add(ln, h.Name); err != nil {
			return err
		}
		if err := out.WriteHeader(h); err != nil {
			return err
		}
		if _, err := out.Write(s.Data); err != nil {
			return err
		}
	}
	return nil
}

func (ln *lane) moveTar(out *tar.Writer, in *tar.Reader, split bool, seen merged, folders map[string]bool) error {
	prefix := ""
	if split {
		prefix = ln.folder() + "/"
		top := &tar.Header{Typeflag: tar.TypeDir, Name: prefix, Mode: 0o755}
		if err := out.WriteHeader(top); err != nil {
			return err
		}
	}
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch isDir := h.Typeflag == tar.TypeDir; {
		case split:
		case !isDir:
			if err := seen.add(ln, h.Name); err != nil {
				return err
			}
		case folders[h.Name]:
			continue
		default:
			folders[h.Name] = true
		}
		if h.Name = prefix + h.Name; h.Typeflag == tar.TypeLink {
			h.Linkname = prefix + h.Linkname
		}
		h.Format = tar.FormatUnknown // a longer name may need another
		delete(h.PAXRecords, "path")
		delete(h.PAXRecords, "linkpath")
		if err := out.WriteHeader(h); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
		if _, err := io.Copy(out, in); err != nil {
			return fmt.Errorf("%s: %w", h.Name, err)
		}
	}
}

// outputLocal copies the target's files into a folder, over what is there (FEATURES K4).
func (bd *build) outputLocal(ctx context.Context, o Output) error {
	if o.Dest == "" || o.Dest == "-" {
		return usage{errors.New("dest= must name a folder")}
	}
	split, err := bd.splits(o)
	if err != nil {
		return err
	}
	seen := merged{}
	if !split && len(bd.lanes) > 1 {
		for _, ln := range bd.lanes {
			if err := ln.noteMerged(ctx, seen); err != nil {
				return err
			}
		}
	}
	for _, ln := range bd.lanes {
		dest := o.Dest
		if split {
			dest = filepath.Join(dest, ln.folder())
		}
		if err := ln.writeOut(ctx, dest, split, seen); err != nil {
			return err
		}
	}
	return nil
}

// writeOut copies a platform's files into a folder, and puts what is stated about them beside them.
func (ln *lane) writeOut(ctx context.Context, dest string, split bool, seen merged) error {
	list, err := ln.fileStatements(ctx) // before anything is written: it may refuse
	if err != nil {
		return err
	}
	for _, s := range list {
		if split {
			break
		}
		if err := seen.add(ln, s.filename); err != nil {
			return err
		}
	}
	if err := ln.copyOut(ctx, dest); err != nil {
		return err
	}
	for _, s := range list {
		if err := atomicfile.Write(filepath.Join(dest, s.filename), s.Data, atomicfile.Options{Mode: 0o644}); err != nil {
			return err
		}
	}
	return nil
}

// noteMerged adds what a platform has that is no folder.
func (ln *lane) noteMerged(ctx context.Context, seen merged) error {
	root, err := ln.finalTree(ctx)
	if err != nil {
		return err
	}
	defer root.Close()
	return eachEntry(ctx, root, func(p string, _ os.DirEntry) error { return seen.add(ln, strings.TrimPrefix(p, "/")) })
}

// eachEntry calls f with all of a tree but its folders, by their absolute paths, in no order.
func eachEntry(ctx context.Context, root *rootfs.Root, f func(p string, e os.DirEntry) error) error {
	for folders := []string{"/"}; len(folders) > 0; {
		dir := folders[len(folders)-1]
		folders = folders[:len(folders)-1]
		list, err := readFolder(root, dir)
		if err != nil {
			return err
		}
		for _, e := range list {
			p := path.Join(dir, e.Name())
			if e.IsDir() {
				folders = append(folders, p)
			} else if err := f(p, e); err != nil {
				return err
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func readFolder(root *rootfs.Root, dir string) ([]os.DirEntry, error) {
	f, err := root.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return f.ReadDir(-1)
}

// copyOut copies a platform's files into a folder of the user's.
func (ln *lane) copyOut(ctx context.Context, dest string) error {
	if err := os.MkdirAll(dest, 0o755); err != nil {
		return err
	}
	root, err := ln.finalTree(ctx)
	if err != nil {
		return err
	}
	defer root.Close()
	dst, err := rootfs.Open(dest)
	if err != nil {
		return err
	}
	defer dst.Close()
	tree := buildcontext.FromRoot(root, buildcontext.Options{Owner: true, Now: ln.cfg.Now, Notice: ln.notice})
	defer tree.Close()
	c := &stages.Copy{Paths: []string{"/"}, Dest: "/"}
	sel, err := tree.Select(ctx, buildcontext.Query{Paths: c.Paths})
	if err != nil {
		return err
	}
	cp, err := newCopier(ctx, dst, c, nil, ln.cfg.Now())
	if err != nil {
		return err
	}
	if ln.cfg.OwnFiles {
		cp.owner = &owner{}
	}
	for _, src := range sel.Sources {
		for _, m := range src.Matches {
			if err := cp.match(ctx, tree, m); err != nil {
				return err
			}
		}
	}
	return cp.finish()
}
