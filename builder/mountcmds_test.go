package builder

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A cache mount that one machine exports is what a step of another finds, owner and mode included: also where its id is that of
// several.
//
// rows: I13
func TestI13_MountTravels(t *testing.T) {
	t.Parallel()
	const mount = "RUN --mount=type=cache,id=/a/../b,target=/c,mode=0750,uid=7,gid=8 "
	first := newShellProject(t, "FROM base\n"+mount+"mkdir /c/d && echo kept > /c/d/f && ln -s d/f /c/l && touch /c/.wh.x\n", nil)
	if _, err := first.build(); err != nil {
		t.Fatal(err)
	}
	var archive bytes.Buffer
	if err := first.builder().ExportMount(t.Context(), "/a/../b", "-", &archive); err != nil {
		t.Fatal(err)
	}
	second := newShellProject(t, "FROM base\nRUN --mount=type=cache,id=/a/../b,target=/c echo other > /c/f\n", nil)
	if _, err := second.build(); err != nil {
		t.Fatal(err)
	}
	b := second.builder()
	for range 2 { // over nothing, then over what is there
		if _, err := b.ImportMount(t.Context(), "/a/../b", bytes.NewReader(archive.Bytes())); err != nil {
			t.Fatal(err)
		}
	}
	second.write("Dockerfile", shellBase+"FROM base\n"+mount+"ls -A /c; cat /c/l; stat -c '%a %u %g' /c\n")
	if _, err := second.build(); err != nil || second.output() != ".wh.x\nd\nl\nkept\n750 7 8\n" {
		t.Errorf("the step finds %q, %v", second.output(), err)
	}
	if err := b.ExportMount(t.Context(), "/a/../b", "-", io.Discard); err == nil || !strings.Contains(err.Error(), "2 cache mounts have this id") {
		t.Errorf("an id of two: %v", err)
	}
}

// Archives of other programs fill the mount that has the id, or a new one; what is wrong with an archive leaves the mount as it was.
//
// rows: I13
func TestI13_ForeignArchives(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\n", nil)
	b := p.builder()
	plain := archiveOf(t, tar.Header{Name: "f", Typeflag: tar.TypeReg, Size: 1, Mode: 0o644}, "1")
	m, err := b.ImportMount(t.Context(), "go", bytes.NewReader(plain))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(p.root, "mounts", m.Name, "data", "f")
	if m.Name != (mountIdentity{ID: "go"}).name() {
		t.Errorf("it is not the mount of RUN --mount=type=cache,id=go: %+v", m)
	}
	for name, bad := range map[string][]byte{
		"cut short":  plain[:700],
		"outside":    archiveOf(t, tar.Header{Name: "../f", Typeflag: tar.TypeReg, Size: 1, Mode: 0o644}, "2"),
		"no archive": []byte("nothing of a tar"),
		"bad record": archiveOf(t, tar.Header{Typeflag: tar.TypeXGlobalHeader, PAXRecords: map[string]string{mountRecordKey: "{"}}, ""),
	} {
		if _, err := b.ImportMount(t.Context(), "go", bytes.NewReader(bad)); err == nil {
			t.Errorf("%s: no error", name)
		}
		if data, err := os.ReadFile(file); err != nil || string(data) != "1" {
			t.Errorf("after %s: %q, %v", name, data, err)
		}
	}
	if left, err := filepath.Glob(filepath.Join(p.root, "mounts", m.Name, "imported")); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	// By what gobuild du shows under ID: there is one, so nothing is made.
	if again, err := b.ImportMount(t.Context(), m.Name[:8], bytes.NewReader(archiveOf(t, tar.Header{Name: "g", Typeflag: tar.TypeReg, Size: 1, Mode: 0o644}, "3"))); err != nil || again.Name != m.Name {
		t.Errorf("by name: %+v, %v", again, err)
	}
	if _, err := os.Stat(file); !errors.Is(err, unix.ENOENT) {
		t.Errorf("what the archive lacks is still there: %v", err)
	}
}

// A mount that a build holds is not removed. Not parallel: what other tests start may have our locks for a moment.
//
// rows: I13
func TestI13_MountInUseStays(t *testing.T) {
	p := newProject(t, "FROM scratch\n", nil)
	holder, other := p.builder(), p.builder()
	mode := uint32(0o700)
	for _, identity := range []mountIdentity{{ID: "x"}, {ID: "x", Mode: &mode}, {ID: "y"}} {
		if _, err := holder.makeMount(identity); err != nil {
			t.Fatal(err)
		}
	}
	if gone, err := other.RemoveMount(t.Context(), "x"); err == nil || len(gone) > 0 || !strings.Contains(err.Error(), "a build is using it") {
		t.Errorf("removed while held: %v, %v", gone, err)
	}
	if err := holder.Close(); err != nil {
		t.Fatal(err)
	}
	if gone, err := other.RemoveMount(t.Context(), "x"); err != nil || len(gone) != 2 {
		t.Errorf("removed %v, %v", gone, err)
	}
	var none *noMountError
	if _, err := other.RemoveMount(t.Context(), "x"); !errors.As(err, &none) {
		t.Errorf("removed twice: %v", err)
	}
	if left, err := other.findMounts("y"); err != nil || len(left) != 1 {
		t.Errorf("another's: %v, %v", left, err)
	}
}

// archiveOf is an archive of one file.
func archiveOf(t *testing.T, h tar.Header, content string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := w.WriteHeader(&h); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
