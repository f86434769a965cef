package builder

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"gobuild/sandbox"
)

var updateDoctor = flag.Bool("update", false, "rewrite the golden diagnoses")

func done() sandbox.Attempt              { return sandbox.Attempt{Tried: true} }
func refused(why string) sandbox.Attempt { return sandbox.Attempt{Tried: true, Why: why} }
func limit(n, why string) sandbox.ControllerFacts {
	return sandbox.ControllerFacts{Name: n, Dir: "/sys/fs/cgroup/x", Use: refused(why)}
}

// healthy is root on a machine that lacks nothing.
func healthy() machine {
	now := time.Date(2030, 5, 6, 7, 8, 9, 0, time.UTC)
	return machine{
		root:  "/var/lib/gobuild",
		disk:  disk{kind: "ext4", free: 100 << 30, total: 200 << 30, inodes: 5_000_000, inodesTotal: 9_000_000},
		clock: clock{now: now, binary: now.AddDate(0, -1, 0), file: now},
		facts: sandbox.Facts{
			Kernel: "6.12.0", Machine: "x86_64",
			Step: done(), StepNoNet: done(), Filter: done(), Owners: done(), Overlay: done(), Whiteout: done(),
			NewUserNS: done(), UserMounts: done(), UserOver: done(), Bridge: done(), NetFilter: done(), Tun: done(),
			Cgroup:  sandbox.CgroupFacts{Version: 2, Controllers: []sandbox.ControllerFacts{limit("memory", ""), limit("cpu", ""), limit("cpuset", ""), limit("pids", "")}},
			SubUIDs: 65536, SubGIDs: 65536, Forwarding: true, MaxUserNS: "10000", BinfmtOn: true,
			Helpers:  map[string]string{"newuidmap": "/usr/bin/newuidmap", "newgidmap": "/usr/bin/newgidmap", "slirp4netns": "/usr/bin/slirp4netns"},
			Binfmt:   []sandbox.BinfmtHandler{{Name: "qemu-aarch64", Interpreter: "/usr/bin/qemu-aarch64-static", Flags: "OCF", Enabled: true}},
			Resolver: sandbox.ResolverFacts{Others: 2},
		},
	}
}

// TestN10_Diagnoses compares what is said of machines with testdata/doctor.
func TestN10_Diagnoses(t *testing.T) {
	t.Parallel()
	const notRoot = "prepare sandbox: not supported: running steps without root"
	tests := []struct {
		name   string
		change func(*machine)
		canRun bool
	}{
		{"healthy", func(*machine) {}, true},
		{"plain-user", func(m *machine) {
			m.root = "/home/u/.local/share/gobuild"
			f := &m.facts
			f.UID, f.SubUIDs, f.SubGIDs, f.Helpers = 1000, 0, 0, nil
			f.Step, f.StepNoNet, f.Owners, f.Overlay, f.Whiteout = refused(notRoot), refused(notRoot), refused("change owner: operation not permitted"), refused("mount overlay: operation not permitted"), sandbox.Attempt{}
			f.NewUserNS, f.UserMounts, f.UserOver = done(), refused("make mounts private: operation not permitted"), sandbox.Attempt{}
			f.AppArmor = true
			m.namespace = &hinted{errors.New("make user namespace: operation not permitted"), "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0"}
			f.Tun = refused("open /dev/net/tun: permission denied")
			for i := range f.Cgroup.Controllers {
				f.Cgroup.Controllers[i].Use = refused("its cgroup is not delegated to this user: permission denied")
			}
		}, false},
		{"rootless", func(m *machine) {
			m.root = "/home/u/.local/share/gobuild"
			f := &m.facts
			f.UserNS, f.SubUIDs, f.SubGIDs, f.Network = true, 1000, 65536, refused("operation not permitted")
			f.Tun = refused("open /dev/net/tun: permission denied")
			for i := range f.Cgroup.Controllers {
				f.Cgroup.Controllers[i].Use = refused("cgroup /sys/fs/cgroup/x is not delegated: permission denied")
			}
		}, true},
		{"one-id", func(m *machine) {
			m.root, m.oneID, m.namespace = "/home/u/.local/share/gobuild", true, errors.New("map ids: /etc/subuid gives user u none")
			m.facts.UserNS, m.facts.SubUIDs, m.facts.SubGIDs = true, 0, 0
		}, true},
		{"docker-default", func(m *machine) {
			m.disk.kind = "overlay"
			f := &m.facts
			f.PIDNS, f.Container, f.Missing, f.BinfmtOn, f.Binfmt, f.Forwarding = true, "docker", []string{"CAP_SYS_ADMIN"}, false, nil, false
			const no = "create namespaces: root with CAP_SYS_ADMIN is needed to run steps: operation not permitted"
			f.Step, f.StepNoNet, f.Overlay, f.Whiteout = refused(no), refused(no), refused("mount overlay: operation not permitted"), sandbox.Attempt{}
			f.NewUserNS, f.UserMounts, f.UserOver = refused("create namespaces: operation not permitted"), sandbox.Attempt{}, sandbox.Attempt{}
			f.Bridge, f.NetFilter = refused("create namespaces: operation not permitted"), refused("create namespaces: operation not permitted")
			f.Cgroup.Controllers = []sandbox.ControllerFacts{limit("memory", "cgroup is read-only"), limit("cpu", "cgroup is read-only")}
			f.Resolver = sandbox.ResolverFacts{Loopback: 1}
		}, false},
		{"privileged-on-overlay", func(m *machine) {
			m.disk.kind = "overlay"
			f := &m.facts
			f.PIDNS, f.Container = true, "docker"
			const no = "mount overlay: filesystem on /var/lib/gobuild/probe/upper not supported: invalid argument"
			f.Step, f.StepNoNet, f.Overlay, f.Whiteout = refused(no), refused(no), refused(no), sandbox.Attempt{}
		}, false},
		{"some-limits", func(m *machine) {
			m.facts.Cgroup.Controllers = []sandbox.ControllerFacts{limit("memory", ""), limit("cpu", "the controller is not there or not delegated"), limit("cpuset", "the controller is not there or not delegated"), limit("pids", "")}
			m.disk.free, m.disk.inodes = 1<<30, 10
			m.clock.file = m.clock.now.Add(-time.Minute)
			m.facts.StepNoNet = refused("create namespaces: no space left on device")
		}, true},
		{"no-state-directory", func(m *machine) {
			m.rootErr = &os.PathError{Op: "mkdir", Path: "/var/lib/gobuild", Err: unix.EROFS}
			m.clock.now = time.Date(1970, 1, 1, 0, 0, 5, 0, time.UTC)
			m.facts.Resolver = sandbox.ResolverFacts{Why: "open /etc/resolv.conf: no such file or directory"}
		}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := healthy()
			tt.change(&m)
			d := diagnose(m)
			if d.CanRun != tt.canRun {
				t.Errorf("can run: %v", d.CanRun)
			}
			checkRows(t, d)
			var got bytes.Buffer
			enc := json.NewEncoder(&got)
			enc.SetEscapeHTML(false)
			enc.SetIndent("", "  ")
			if err := enc.Encode(d); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata/doctor", tt.name+".json")
			if *updateDoctor {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("differs (-want +got), -update rewrites it:\n%s", diff)
			}
		})
	}
}

// checkRows holds what every diagnosis must: a reason and a remedy for all that is not well.
func checkRows(t *testing.T, d *Diagnosis) {
	t.Helper()
	for _, c := range d.Checks {
		if c.Name == "" || c.Found == "" {
			t.Errorf("unfinished row %+v", c)
		}
		if c.State != StateOK && (c.Why == "" || c.Remedy == "") {
			t.Errorf("%s is %s without reason or remedy: %+v", c.Name, c.State, c)
		}
		if c.State == StateOK && (c.Why != "" || c.Remedy != "") {
			t.Errorf("%s is well and says more: %+v", c.Name, c)
		}
	}
}

func TestN10_EveryRowCanFail(t *testing.T) {
	t.Parallel()
	none := machine{root: "/x", rootErr: errForeign, disk: disk{err: unix.ENOENT}, facts: sandbox.Facts{UID: 7, Step: sandbox.Attempt{Why: "there is no directory to try it in"}}}
	d := diagnose(none)
	checkRows(t, d)
	for _, c := range d.Checks {
		if c.State == StateOK && c.Name != "machine" {
			t.Errorf("%s is said to be well on a machine that has nothing: %+v", c.Name, c)
		}
	}
	root := none
	root.facts.UID = 0
	checkRows(t, diagnose(root))
}

func TestN10_DoctorMakesTheStateDirectoryForAMomentOnly(t *testing.T) {
	t.Parallel()
	needRoot(t)
	base := t.TempDir()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	d := Doctor(t.Context(), Config{Root: filepath.Join(base, "a/b/state"), Executable: exe}, DoctorOptions{Path: []string{"/usr/bin"}})
	if !d.CanRun || d.Rung != RungRoot {
		t.Errorf("%+v", d)
	}
	checkRows(t, d)
	left, err := os.ReadDir(base)
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestN10_DoctorRefusesWhatABuildRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, open := filepath.Join(dir, "file"), filepath.Join(dir, "open")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(open, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	for root, want := range map[string]string{file: "it is not a directory", open: "others may write to it", filepath.Join(file, "x"): "not a directory"} {
		p := newPlace(root)
		if p.dir != "" || p.err == nil || !strings.Contains(p.err.Error(), want) {
			t.Errorf("%s: %+v", root, p)
		}
		p.remove()
	}
	if info, err := os.Stat(open); err != nil || info.Mode().Perm() != 0o777 {
		t.Errorf("the doctor changed it: %v %v", info.Mode(), err)
	}
}
