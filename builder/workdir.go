package builder

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/cache"
	"gobuild/internal/passwd"
	"gobuild/internal/rootfs"
	"gobuild/snapshot"
	"gobuild/stages"
)

// workdirJob makes a directory (FEATURES B60, I7).
func (sr *stageRun) workdirJob(s state, step *stages.Step) *job {
	w := step.Workdir
	k := cache.NewKey("workdir").Add("parent", s.key.String()).Add("path", w.Path).Add("owner", w.User)
	if e := sr.opt.SourceDateEpoch; e != nil {
		k.Add("epoch", fmt.Sprint(e.Unix()))
	}
	exec := func(_ context.Context, work *snapshot.Work) (usageOf, error) {
		return usageOf{}, sr.execWorkdir(w, work)
	}
	return &job{key: k.Key(), verb: "WORKDIR", exec: exec, close: func() {}}
}

func (sr *stageRun) execWorkdir(w *stages.Workdir, work *snapshot.Work) error {
	root, err := work.Root()
	if err != nil {
		return err
	}
	attr := rootfs.Attr{Mode: 0o755, Mtime: unix.NsecToTimespec(sr.cfg.Now().UnixNano())}
	uid, gid, err := folderOwner(root, w.User)
	if err != nil {
		return fmt.Errorf("owner of the new folder: %w", err)
	}
	attr.UID, attr.GID = int(uid), int(gid)
	if w.User == "" {
		attr.GID = rootfs.AnyGroup
	}
	if e := sr.opt.SourceDateEpoch; e != nil {
		attr.Mtime = unix.NsecToTimespec(e.UnixNano())
	}
	full, err := root.Resolve(w.Path)
	if err != nil {
		return err
	}
	restore, err := existingParent(root, full)
	if err != nil {
		return err
	}
	if _, err := root.MkdirAll(full, attr); err != nil {
		if errors.Is(err, unix.ENOTDIR) {
			return usage{fmt.Errorf("%s is not a folder in the image", w.Path)}
		}
		return err
	}
	return restore()
}

// folderOwner is who a folder made for USER belongs to. A number alone is user and group both, as for --chown. A name that
// the image lacks is 0, as in the reference: USER is not checked before a RUN needs it (B61), so an image without
// /etc/passwd may name one that only its runtime knows.
func folderOwner(root *rootfs.Root, spec string) (uid, gid uint32, err error) {
	user, group, _ := strings.Cut(spec, ":")
	uid, gid, err = passwd.Owner(root, user)
	if err != nil && !errors.Is(err, passwd.ErrUnknown) {
		return 0, 0, err
	}
	if group == "" {
		return uid, gid, nil
	}
	_, other, err := passwd.Owner(root, ":"+group)
	switch {
	case err == nil:
		gid = other
	case !errors.Is(err, passwd.ErrUnknown):
		return 0, 0, err
	}
	return uid, gid, nil
}

// existingParent remembers the time of the directory that a new one will be made in.
func existingParent(root *rootfs.Root, full string) (restore func() error, err error) {
	at := full
	for {
		st, err := root.Lstat(at)
		if err == nil {
			return func() error {
				f, err := root.Open(at, unix.O_RDONLY|unix.O_NOFOLLOW)
				if err != nil {
					return err
				}
				defer f.Close()
				return futimens(int(f.Fd()), st.Mtim)
			}, nil
		}
		if at == "/" {
			return nil, err
		}
		at = path.Dir(at)
	}
}
