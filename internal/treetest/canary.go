package treetest

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Canary is a tree that nobody is to read or change.
type Canary struct {
	Dir    string // its root
	Secret string // what its files hold, and nothing else in the world does

	watch  int // fanotify group
	before map[string]string
}

// Plant makes a canary in a directory: files of several modes, a folder in a folder, a link. It needs root, also of a user namespace.
func Plant(parent string) (*Canary, error) {
	c := &Canary{Secret: "canary-" + rand.Text(), watch: -1}
	var err error
	if c.Dir, err = os.MkdirTemp(parent, "canary"); err != nil {
		return nil, err
	}
	err = errors.Join(os.Chmod(c.Dir, 0o755), os.MkdirAll(filepath.Join(c.Dir, "etc/ssl"), 0o755), os.Symlink("etc/shadow", filepath.Join(c.Dir, "link")),
		os.Mkdir(filepath.Join(c.Dir, "empty"), 0o777))
	for name, mode := range map[string]fs.FileMode{"etc/shadow": 0o600, "etc/passwd": 0o644, "etc/ssl/key": 0o400, "open": 0o666} {
		path := filepath.Join(c.Dir, name)
		// An access time before the others is set anew by the next read (mount(8), "relatime").
		err = errors.Join(err, os.WriteFile(path, []byte(c.Secret+"\n"), mode), os.Chmod(path, mode), os.Chtimes(path, time.Unix(1, 0), time.Time{}))
	}
	if err != nil {
		return nil, err
	}
	if c.before, err = c.state(); err != nil {
		return nil, err
	}
	c.watch, err = unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_CLOEXEC)
	if errors.Is(err, unix.EPERM) {
		return c, nil // inside of a user namespace: the access times must do
	}
	if err != nil {
		return nil, fmt.Errorf("fanotify_init: %w", err)
	}
	for path := range c.before {
		mask := uint64(unix.FAN_OPEN | unix.FAN_ACCESS | unix.FAN_MODIFY | unix.FAN_ONDIR)
		err := unix.FanotifyMark(c.watch, unix.FAN_MARK_ADD|unix.FAN_MARK_DONT_FOLLOW, mask, unix.AT_FDCWD, path)
		if err != nil {
			return nil, fmt.Errorf("fanotify_mark %s: %w", path, err)
		}
	}
	return c, nil
}

// Alarms are what was done to the canary since it was planted, or since the last call; none if nothing was.
func (c *Canary) Alarms() []string {
	var alarms []string
	alarms = append(alarms, c.accesses()...)
	after, err := c.state()
	if err != nil {
		alarms = append(alarms, err.Error())
	}
	c.accesses() // our own
	for path, was := range c.before {
		if is := after[path]; is != was {
			alarms = append(alarms, fmt.Sprintf("%s was %q, is %q", path, was, is))
		}
	}
	for path := range after {
		if _, known := c.before[path]; !known {
			alarms = append(alarms, path+" is new")
		}
	}
	c.before = after
	slices.Sort(alarms)
	return alarms
}

// Close ends the watch. The tree stays.
func (c *Canary) Close() error {
	if c.watch < 0 {
		return nil
	}
	return unix.Close(c.watch)
}

// accesses reads the events that are there, and tells which files they are of. This process's own do not count.
func (c *Canary) accesses() []string {
	if c.watch < 0 {
		return nil
	}
	var list []string
	buf := make([]byte, 64<<10)
	for {
		n, err := unix.Read(c.watch, buf)
		if err != nil || n <= 0 {
			return slices.Compact(list)
		}
		for at := 0; at+unix.FAN_EVENT_METADATA_LEN <= n; {
			// struct fanotify_event_metadata: length, 4 bytes, mask, descriptor, process.
			length := int(binary.NativeEndian.Uint32(buf[at:]))
			mask := binary.NativeEndian.Uint64(buf[at+8:])
			fd, pid := int(int32(binary.NativeEndian.Uint32(buf[at+16:]))), int(int32(binary.NativeEndian.Uint32(buf[at+20:])))
			path, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd)) // no name is a name, too
			_ = unix.Close(fd)
			if pid != os.Getpid() {
				list = append(list, fmt.Sprintf("process %d reads or writes %s (%#x)", pid, path, mask))
			}
			at += length
		}
	}
}

// state is what there is to know of each path, by path. The change time betrays what was undone.
func (c *Canary) state() (map[string]string, error) {
	all := map[string]string{}
	err := filepath.WalkDir(c.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		text := fmt.Sprintf("%o %d:%d links %d size %d changed %d", st.Mode, st.Uid, st.Gid, st.Nlink, st.Size, st.Ctim.Nano())
		names := make([]byte, 4096)
		if n, err := unix.Llistxattr(path, names); err == nil {
			text += " " + strings.ReplaceAll(string(names[:n]), "\x00", " ")
		}
		if d.Type().IsRegular() {
			data, err := readUnseen(path)
			if err != nil {
				return err
			}
			text += fmt.Sprintf(" read %d %s", st.Atim.Nano(), data)
		}
		all[path] = text
		return nil
	})
	return all, err
}

// readUnseen reads a file without a trace in its access time.
func readUnseen(path string) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOATIME, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(f)
}
