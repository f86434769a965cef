package builder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/sandbox"
)

// State is how well a capability of the machine serves.
type State string

// The states of a Check.
const (
	StateOK      State = "ok"
	StateLimited State = "limited" // something that a build may want is not there
	StateMissing State = "missing"
)

// Check is one row of gobuild doctor.
type Check struct {
	Name   string `json:"name"`
	State  State  `json:"state"`
	Found  string `json:"found"`            // what is there, in a few words
	Why    string `json:"why,omitempty"`    // what refused it, and what that means for a build
	Remedy string `json:"remedy,omitempty"` // a command or setting that provides it
}

// The rungs on which steps can run.
const (
	RungRoot = "root"
	RungUser = "user namespace"
	RungOne  = "user namespace with one id"
	RungNone = "none"
)

// Diagnosis is what gobuild doctor says of a machine.
type Diagnosis struct {
	CanRun bool    `json:"canRun"` // a build with RUN can run
	Rung   string  `json:"rung"`   // how it would
	Checks []Check `json:"checks"`
}

// DoctorOptions are what Doctor needs beside a Config.
type DoctorOptions struct {
	TempDir      string   // tried in where the state directory cannot be
	Path         []string // where helper programs are looked for
	CgroupParent string
	Namespace    error    // why gobuild is not root of a user namespace, or only of one with one id
	Registries   []string // HOST[:PORT] that are asked, too
}

// Doctor says what this machine offers, by trying it in the state directory. It opens nothing there and leaves nothing behind; a
// directory that is missing is made for that time only.
func Doctor(ctx context.Context, cfg Config, opt DoctorOptions) *Diagnosis {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	place := newPlace(cfg.Root)
	defer place.remove()
	probe := sandbox.ProbeConfig{Dir: place.dir, Executable: cfg.Executable, Path: opt.Path, CgroupParent: opt.CgroupParent, Owners: cfg.keeper()}
	if probe.Dir == "" {
		probe.Dir = opt.TempDir
	}
	d := diagnose(machine{
		facts: sandbox.Probe(ctx, probe), root: cfg.Root, rootErr: place.err, disk: diskOf(probe.Dir), clock: clockOf(probe.Dir, cfg),
		namespace: opt.Namespace, oneID: cfg.RecordOwners,
	})
	d.Checks = append(d.Checks, registryChecks(ctx, cfg, opt.Registries)...)
	return d
}

// place is the state directory while it is tried.
type place struct {
	dir  string   // "" when it cannot be used
	made []string // outermost first
	err  error
}

func newPlace(root string) *place {
	p := &place{}
	if p.err = p.make(root); p.err == nil {
		p.err = inspectRoot(root)
	}
	if p.err == nil {
		p.dir = root
	}
	return p
}

// make makes a directory and those above it that are missing.
func (p *place) make(dir string) error {
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir) {
		return err
	}
	if err := p.make(filepath.Dir(dir)); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	p.made = append(p.made, dir)
	return nil
}

// remove takes away what make made, unless another process has put something there meanwhile.
func (p *place) remove() {
	for i := len(p.made) - 1; i >= 0; i-- {
		_ = unix.Rmdir(p.made[i])
	}
}

// inspectRoot is what checkRoot would refuse, without changing anything.
func inspectRoot(root string) error {
	if _, err := ownDirectory(root); err != nil {
		return err
	}
	return unix.Access(root, unix.W_OK)
}

// disk is the file system of the state directory.
type disk struct {
	kind        string
	free, total uint64 // bytes, for this user
	inodes      uint64 // free ones
	inodesTotal uint64 // 0: the file system has no such limit
	readOnly    bool
	err         error
}

func diskOf(dir string) disk {
	if dir == "" {
		return disk{err: errors.New("there is no directory to look at")}
	}
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return disk{err: err}
	}
	size := uint64(st.Bsize) //nolint:gosec // never negative
	return disk{
		kind: fsName(int64(st.Type)), free: st.Bavail * size, total: st.Blocks * size, inodes: st.Ffree, inodesTotal: st.Files, //nolint:unconvert // int32 elsewhere
		readOnly: st.Flags&unix.ST_RDONLY != 0,
	}
}

// fsName names the file systems that matter to an overlay (statfs(2)).
func fsName(magic int64) string {
	names := map[int64]string{
		unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs",
		unix.OVERLAYFS_SUPER_MAGIC: "overlay", unix.NFS_SUPER_MAGIC: "nfs", unix.FUSE_SUPER_MAGIC: "fuse", unix.F2FS_SUPER_MAGIC: "f2fs",
		0x2fc12fc1: "zfs", 0xff534d42: "cifs", 0x01021997: "9p", 0xca451a4e: "bcachefs",
	}
	if name := names[magic]; name != "" {
		return name
	}
	return fmt.Sprintf("type %#x", magic)
}

// clock is our time beside others that should agree with it.
type clock struct {
	now    time.Time
	binary time.Time // when this program was written: it cannot run before
	file   time.Time // what the file system gives a new file; zero when none could be made
}

func clockOf(dir string, cfg Config) clock {
	c := clock{}
	if info, err := os.Stat(cfg.Executable); err == nil {
		c.binary = info.ModTime()
	}
	if dir != "" {
		if f, err := os.CreateTemp(dir, "probe-"); err == nil {
			if info, err := f.Stat(); err == nil {
				c.file = info.ModTime()
			}
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}
	c.now = cfg.Now()
	return c
}
