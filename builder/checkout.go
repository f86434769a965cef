package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/rootfs"
	"gobuild/layer"
	"gobuild/remote"
)

// maxSubmoduleDepth bounds submodules of submodules; the deepest that are known have four.
const maxSubmoduleDepth = 10

// checkout is a repository on its way to the disk, submodules included (FEATURES C9).
type checkout struct {
	bd    *build
	top   gitSource
	root  *rootfs.Root // of the files
	files string       // its path
	bare  string       // where repositories are while they are needed
	made  int          // repositories so far
}

// spot is where a repository belongs in a checkout.
type spot struct {
	path   string // below files, "" the top
	git    string // where its .git belongs if that stays, below files
	bare   string // where it is while it is needed
	around *spot  // of the repository that it is a submodule of
}

// checkout makes the files of a commit below dir. They have the commit's time, so that a layer of them does not depend on
// when it was made.
func (bd *build) checkout(ctx context.Context, repo gitSource, dir string) (*rootfs.Root, error) {
	c := &checkout{bd: bd, top: repo, bare: filepath.Join(dir, "repositories"), files: filepath.Join(dir, "files")}
	for _, d := range []string{c.bare, c.files} {
		if err := os.Mkdir(d, 0o700); err != nil {
			return nil, err
		}
	}
	var err error
	if c.root, err = rootfs.Open(c.files); err != nil {
		return nil, err
	}
	if err = c.all(ctx); err != nil {
		return nil, errors.Join(err, c.root.Close())
	}
	return c.root, nil
}

func (c *checkout) all(ctx context.Context) error {
	top := &spot{git: ".git", bare: c.next()}
	if err := c.repository(ctx, c.top, top); err != nil {
		return err
	}
	secs, err := c.bd.remote.GitTime(ctx, c.top.Git, c.top.rev.Commit, top.bare)
	if err != nil {
		return err
	}
	if err := c.bd.cache.Put(timeKey("git "+c.top.rev.Commit), "time", timeRecord{Seconds: secs}); err != nil {
		return err
	}
	if c.top.keep {
		if err := plainModes(filepath.Join(top.bare, ".git")); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(top.bare, ".git"), filepath.Join(c.files, ".git")); err != nil {
			return err
		}
	}
	if c.made > 1 || c.top.keep {
		if err := stamp(c.files, secs); err != nil {
			return err
		}
	}
	if err := os.Chmod(c.files, 0o755); err != nil {
		return err
	}
	return os.Chtimes(c.files, time.Time{}, time.Unix(secs, 0))
}

// plainModes gives a repository the modes that it has with the usual umask, whatever this process's is.
func plainModes(dir string) error {
	return filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink != 0 {
			return err
		}
		mode := fs.FileMode(0o644)
		info, err := d.Info()
		switch {
		case err != nil:
			return err
		case d.IsDir():
			mode = 0o755
		case info.Mode()&0o200 == 0: // objects never change
			mode = 0o444
		}
		return os.Chmod(name, mode)
	})
}

// stamp gives everything below a folder one time: archives of submodules have the times of their own commits, and a .git has
// the clock's.
func stamp(dir string, secs int64) error {
	times := []unix.Timespec{{Nsec: unix.UTIME_OMIT}, {Sec: secs}}
	return filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, name, times, unix.AT_SYMLINK_NOFOLLOW)
	})
}

// next names a folder for a repository.
func (c *checkout) next() string {
	c.made++
	return filepath.Join(c.bare, strconv.Itoa(c.made))
}

// repository fetches one repository and puts its files where they belong, then those of its submodules.
func (c *checkout) repository(ctx context.Context, repo gitSource, at *spot) error {
	bd := c.bd
	if err := os.Mkdir(at.bare, 0o700); err != nil {
		return err
	}
	if err := bd.reach("fetch " + repo.Remote); err != nil {
		return err
	}
	if err := bd.remote.GitFetch(ctx, repo.Git, repo.rev, at.bare, repo.auth, c.top.keep); err != nil {
		return err
	}
	// It says when and from where, which is of no use to a checkout.
	if err := os.Remove(filepath.Join(at.bare, ".git", "FETCH_HEAD")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	size, _, err := diskSize(ctx, at.bare)
	if err != nil {
		return err
	}
	bd.em.emit(Event{Type: EventTransfer, Text: "fetch " + repo.Remote, Bytes: size, Total: size})
	owner := 0
	err = bd.remote.GitArchive(ctx, repo.Git, repo.rev.Commit, at.bare, func(r io.Reader) error {
		return layer.Extract(ctx, r, c.root, "/"+at.path, layer.ExtractOptions{UID: &owner, GID: &owner, Notice: bd.notice})
	})
	if err != nil || !repo.Submodules {
		return err
	}
	list, err := bd.remote.GitSubmodules(ctx, repo.Git, repo.rev.Commit, at.bare)
	if err != nil {
		return err
	}
	for _, sub := range list {
		inner := &spot{path: path.Join(at.path, sub.Path), git: path.Join(at.git, "modules", sub.Name), bare: c.next(), around: at}
		if err := c.submodule(ctx, sub, inner); err != nil {
			return fmt.Errorf("submodule %s: %w", inner.path, err)
		}
	}
	return nil
}

func (c *checkout) submodule(ctx context.Context, sub remote.Submodule, at *spot) error {
	depth := 0
	for p := at; p.around != nil; p = p.around {
		depth++
	}
	switch {
	case depth > maxSubmoduleDepth:
		return fmt.Errorf("%w: submodules in submodules, more than %d deep", remote.ErrTooLarge, maxSubmoduleDepth)
	case c.made > remote.MaxSubmodules:
		return fmt.Errorf("%w: more than %d submodules in all", remote.ErrTooLarge, remote.MaxSubmodules)
	}
	// A malformed tree could have a link where the folder belongs; what is written would still stay inside.
	if real, err := c.root.Resolve("/" + at.path); err != nil || strings.Trim(real, "/") != at.path {
		return fmt.Errorf("%w: its folder is reached through a link", remote.ErrRefused)
	}
	repo := gitSource{Git: sub.Git, rev: remote.GitRevision{Commit: sub.Commit}}
	var err error
	if repo.auth, err = c.bd.moduleAuth(c.top.Remote, sub.Remote); err != nil {
		return err
	}
	if err := c.repository(ctx, repo, at); err != nil || !c.top.keep {
		return err
	}
	return c.keepModule(ctx, sub, at)
}

// keepModule puts the repository of a submodule where git looks for it: below the .git of the repository around it.
func (c *checkout) keepModule(ctx context.Context, sub remote.Submodule, at *spot) error {
	up, err := filepath.Rel(at.path, at.git)
	if err != nil {
		return err
	}
	back, err := filepath.Rel(at.git, at.path)
	if err != nil {
		return err
	}
	if err := c.bd.remote.GitConfigure(ctx, sub.Git, at.bare, "core.worktree", back); err != nil {
		return err
	}
	for key, value := range map[string]string{"active": "true", "url": sub.Remote} {
		if err := c.bd.remote.GitConfigure(ctx, sub.Git, at.around.bare, "submodule."+sub.Name+"."+key, value); err != nil {
			return err
		}
	}
	home := filepath.Join(at.around.bare, ".git", "modules", sub.Name)
	if err := os.MkdirAll(filepath.Dir(home), 0o755); err != nil {
		return err
	}
	if err := os.Rename(filepath.Join(at.bare, ".git"), home); err != nil {
		return err
	}
	// Made anew, never through a link: nothing in the tree can be called .git.
	link, err := os.OpenFile(filepath.Join(c.files, at.path, ".git"), os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(link, "gitdir: %s\n", up)
	return errors.Join(err, link.Chmod(0o644), link.Close())
}

// noLinks refuses a folder of a repository that is reached through a link, as BuildKit does: it could be any other one.
func noLinks(root *rootfs.Root, repo gitSource) error {
	real, err := root.Resolve("/" + repo.Subdir)
	if err != nil {
		return err
	}
	if strings.Trim(real, "/") != repo.Subdir {
		return &hinted{err: fmt.Errorf("%w: the folder %s of %s is reached through a link", remote.ErrRefused, repo.Subdir, repo.Remote), hint: "name the folder that the link is to"}
	}
	return nil
}
