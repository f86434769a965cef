package builder

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	buildcontext "gobuild/context"
	"gobuild/internal/owners"
	"gobuild/internal/retried"
)

// fileWorkers fill the files of one COPY. The walk makes them, one after the other: makers of files in one directory
// only spin on its lock. More workers than this gain nothing on any machine tried.
const fileWorkers = 4

// fileJob is one regular file: its source is open, and so is its destination, new and empty.
type fileJob struct {
	entry buildcontext.Entry
	src   int // descriptors
	out   int
}

func (j fileJob) close() error {
	_ = unix.Close(j.src) // read only
	return unix.Close(j.out)
}

// fileWriters run beside the walk of one source tree. What one wrote is only relied on after drain.
type fileWriters struct {
	jobs chan fileJob
	wg   sync.WaitGroup // workers
	busy sync.WaitGroup // jobs
	mu   sync.Mutex
	err  error
}

func (cp *copier) startWriters() *fileWriters {
	w := &fileWriters{jobs: make(chan fileJob, fileWorkers)}
	for range fileWorkers {
		w.wg.Go(func() {
			buf := make([]byte, 256<<10)
			for j := range w.jobs {
				w.fail(guard(func() error { return cp.writeFile(j, buf) }))
				w.busy.Done()
			}
		})
	}
	return w
}

func (w *fileWriters) fail(err error) {
	if err == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

func (w *fileWriters) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// drain waits until everything handed over is written.
func (w *fileWriters) drain() error {
	w.busy.Wait()
	return w.failed()
}

// stop ends the workers; nothing of the copy is running afterwards.
func (w *fileWriters) stop() error {
	close(w.jobs)
	w.wg.Wait()
	return w.failed()
}

// fileEntry hands a regular file to the writers. Files with several names stay in order: the first must be there
// before the others can be linked to it.
func (cp *copier) fileEntry(e buildcontext.Entry, name, target string) error {
	if err := cp.files.failed(); err != nil {
		return err
	}
	id := inode{e.Info.Dev, e.Info.Ino}
	if first, ok := cp.links[id]; ok && e.Info.Nlink > 1 {
		if err := cp.files.drain(); err != nil {
			return err
		}
		return cp.link(first, int(cp.dir.Fd()), name)
	}
	src, err := e.OpenFD()
	if err != nil {
		return err
	}
	job := fileJob{entry: e, src: src}
	if job.out, err = cp.newFile(int(cp.dir.Fd()), name); err != nil {
		_ = unix.Close(src)
		return err
	}
	if e.Info.Nlink > 1 {
		cp.links[id] = target
	}
	cp.files.busy.Add(1)
	select {
	case cp.files.jobs <- job:
		return nil
	case <-cp.ctx.Done():
		cp.files.busy.Done()
		return errors.Join(context.Cause(cp.ctx), job.close())
	}
}

func (cp *copier) writeFile(j fileJob, buf []byte) error {
	err := cp.fill(j, buf)
	if err = errors.Join(err, j.close()); err != nil {
		return fmt.Errorf("copy %s: %w", j.entry.Path, err)
	}
	return nil
}

func (cp *copier) fill(j fileJob, buf []byte) error {
	e := j.entry
	if err := pour(cp.ctx, j.out, j.src, e.Info.Size, buf); err != nil {
		return err
	}
	if err := e.CheckUnchangedFD(j.src); err != nil {
		return err
	}
	uid, gid := cp.ids(e.Info)
	if err := cp.dst.Owners().Set(j.out, uid, gid); err != nil {
		return err
	}
	if err := unix.Fchmod(j.out, cp.mode(e.Info.Mode&0o7777, false)); err != nil { // after chown, which clears setuid
		return err
	}
	if err := copyXattrs(j.src, j.out); err != nil {
		return err
	}
	return futimens(j.out, e.Info.Mtime)
}

// newFile makes a regular file, in place of what had its name.
func (cp *copier) newFile(fd int, name string) (out int, err error) {
	err = cp.replacing(fd, name, func() (err error) {
		out, err = retried.Openat(fd, name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
		return err
	}, func() error { return nil })
	return out, err
}

// create makes a regular file and lets fill write it.
func (cp *copier) create(fd int, name string, fill func(out int) error) error {
	out, err := cp.newFile(fd, name)
	if err != nil {
		return err
	}
	return errors.Join(fill(out), unix.Close(out))
}

// copyXattrs copies what a layer may carry. Few files have any, and one call says so.
func copyXattrs(src, out int) error {
	var buf [1024]byte
	n, err := unix.Flistxattr(src, buf[:])
	list := buf[:max(n, 0)]
	if errors.Is(err, unix.ERANGE) {
		list = make([]byte, 64<<10) // the kernel's own limit, XATTR_LIST_MAX
		if n, err = unix.Flistxattr(src, list); err == nil {
			list = list[:n]
		}
	}
	if errors.Is(err, unix.ENOTSUP) || err == nil && len(list) == 0 {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list extended attributes: %w", err)
	}
	all := map[string][]byte{}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(list), "\x00"), "\x00") {
		value := make([]byte, 64<<10) // XATTR_SIZE_MAX
		n, err := unix.Fgetxattr(src, name, value)
		if err != nil {
			continue // vanished, or not ours to read: then not ours to copy
		}
		all[name] = value[:n]
	}
	return setXattrs(all, out)
}

// setXattrs sets capabilities and user attributes; a lost capability is an error, since the program would not work.
func setXattrs(all map[string][]byte, fd int) error {
	for name, value := range all {
		switch {
		case name == "security.capability":
			if err := unix.Fsetxattr(fd, name, value, 0); err != nil {
				return fmt.Errorf("set %s: %w", name, err)
			}
		case strings.HasPrefix(name, "user.") && !strings.HasPrefix(name, "user.overlay.") && !strings.HasPrefix(name, owners.Prefix) && !strings.HasPrefix(name, "user.com.apple."):
			_ = unix.Fsetxattr(fd, name, value, 0) // in no layer by default (FEATURES H8, B47)
		}
	}
	return nil
}
