package hostdevice

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func TestG10_PathsOfDevices(t *testing.T) {
	t.Parallel()
	zero := Node{Path: "/dev/zero", Major: 1, Minor: 5, Mode: 0o666, Access: "rwm"}
	with := func(path, access string) Node {
		n := zero
		n.Path, n.Access = path, access
		return n
	}
	for name, want := range map[string]Node{
		"/dev/zero": zero, "/dev/zero:/dev/null0": with("/dev/null0", "rwm"), "/dev/zero:r": with("/dev/zero", "r"), "/dev/zero:/x/y:rw": with("/x/y", "rw"),
	} {
		set, err := Find(nil, name)
		if err != nil || len(set.Nodes) != 1 || set.Nodes[0] != want {
			t.Errorf("%s: %+v, %v", name, set, err)
		}
	}
	for _, bad := range []string{"/etc/passwd", "/dev/../etc/passwd", "/dev/zero:x", "/dev/zero:/a:/b", "/dev/zero:r:/a", "/dev/zero:", "/dev/zero:/", "zero", "vendor.com/class", "/dev"} {
		if err := Check(bad); err == nil {
			t.Errorf("%s can name a device", bad)
		}
	}
	if _, err := Find(nil, "/dev/no-such-device"); !errors.Is(err, ErrAbsent) {
		t.Error(err)
	}
}

const vendorFile = `cdiVersion: "0.6.0"
kind: "vendor1.com/device"
devices:
- name: foo
  containerEdits:
    env: [FOO=injected]
    deviceNodes: [{path: /dev/foo, hostPath: /dev/zero, permissions: r}]
    mounts: [{hostPath: LINK, containerPath: /opt/lib, options: [ro, nosuid]}]
- name: hooked
  containerEdits:
    hooks: [{hookName: createContainer, path: /bin/true}]
containerEdits:
  env: [ALL=yes]
`

func TestB30_NamesOfVendors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/usr", link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "vendor1.yaml"), []byte(strings.ReplaceAll(vendorFile, "LINK", link)), 0o600); err != nil {
		t.Fatal(err)
	}
	dirs := []string{filepath.Join(dir, "none"), dir}
	set, err := Find(dirs, "vendor1.com/device=foo")
	want := &Set{
		Nodes:  []Node{{Path: "/dev/foo", Major: 1, Minor: 5, Mode: 0o666, Access: "r"}},
		Env:    []string{"ALL=yes", "FOO=injected"},
		Mounts: []Mount{{Source: "/usr", Target: "/opt/lib", ReadOnly: true}},
	}
	if err != nil || !reflect.DeepEqual(set, want) {
		t.Errorf("%+v, %v\nwant %+v", set, err, want)
	}
	if set, err := Find(dirs, "vendor1.com/device=hooked"); err != nil || !reflect.DeepEqual(set.Missing, []string{"hooks"}) {
		t.Errorf("%+v, %v", set, err)
	}
	if _, err := Find(dirs, "vendor2.com/device=foo"); !errors.Is(err, ErrAbsent) {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "broken.json"), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Find(dirs, "vendor2.com/device=foo"); !errors.Is(err, ErrAbsent) || !strings.Contains(err.Error(), "broken.json") {
		t.Error(err)
	}
}

func TestB30_FilesOfVendorsAreBounded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := os.OpenFile(filepath.Join(dir, "large.yaml"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(f.Truncate(maxSpecSize+1), f.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Find([]string{dir}, "vendor1.com/device=foo"); err == nil || errors.Is(err, ErrAbsent) {
		t.Error(err)
	}
}
