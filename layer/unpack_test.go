package layer

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// caged is a root inside a directory with a canary: what must not change.
type caged struct {
	dir  string // the cage
	root string

	fresh string // outside as it was at first
}

const canary = "must not be read or changed"

func newCage(tb testing.TB) caged {
	tb.Helper()
	c := caged{dir: tb.TempDir()}
	c.root = filepath.Join(c.dir, "root")
	must(tb, os.Mkdir(c.root, 0o755))
	write(tb, c.dir, "canary", canary)
	write(tb, c.dir, "etc/passwd", canary)
	setTimes(tb, c.dir, 1000)
	c.fresh = c.outside(tb)
	return c
}

// outside describes what is beside the root.
func (c caged) outside(tb testing.TB) string {
	tb.Helper()
	out := ""
	for line := range strings.SplitSeq(dumpTree(tb, c.dir), "\n") {
		if !strings.HasPrefix(line, `"root`) {
			out += line + "\n"
		}
	}
	return out
}

// check fails when anything beside the root changed.
func (c caged) check(tb testing.TB) {
	tb.Helper()
	if diff := cmp.Diff(c.fresh, c.outside(tb)); diff != "" {
		tb.Errorf("the archive changed something outside its root:\n%s", diff)
	}
}

// names lists the objects in the root: type, path, and content or target.
func (c caged) names(tb testing.TB) string {
	tb.Helper()
	var out strings.Builder
	must(tb, filepath.WalkDir(c.root, func(p string, e os.DirEntry, err error) error {
		rel, _ := filepath.Rel(c.root, p)
		if err != nil || rel == "." {
			return err
		}
		switch {
		case e.IsDir():
			rel += "/"
		case e.Type()&os.ModeSymlink != 0:
			target, _ := os.Readlink(p)
			rel += "->" + target
		case e.Type().IsRegular():
			data, _ := os.ReadFile(p)
			rel += "=" + string(data)
		default:
			rel += "?"
		}
		fmt.Fprintf(&out, "%s ", rel)
		return nil
	}))
	return strings.TrimSpace(out.String())
}

func (c caged) unpack(tb testing.TB, data []byte) error {
	tb.Helper()
	_, err := Unpack(tb.Context(), bytes.NewReader(data), openRoot(tb, c.root), UnpackOptions{})
	return err
}

func (c caged) extract(tb testing.TB, data []byte) error {
	tb.Helper()
	return Extract(tb.Context(), bytes.NewReader(data), openRoot(tb, c.root), "/", ExtractOptions{})
}

// Rows H-23 to H-27 and H-34: the same archive as a base layer and as an ADD
// archive. An expected error is a sentinel, else the tree is compared.
func TestHostile_Names(t *testing.T) {
	t.Parallel()
	needRoot(t)
	long := strings.Repeat(strings.Repeat("n", 200)+"/", 400) + "x"
	for _, c := range []struct {
		name    string
		tar     string
		layer   string
		extract string
		layerIs error
		addIs   error
	}{
		{name: "H-23 leading dotdot", tar: "file ../../x X", layer: "x=X", addIs: ErrUnsafe},
		{name: "H-23 inner dotdot", tar: "file a/../../x X", layer: "x=X", addIs: ErrUnsafe},
		{name: "H-23 dotdot that stays inside", tar: "file a/../x X", layer: "x=X", extract: "x=X"},
		{name: "H-23 absolute", tar: "file /canary X", layer: "canary=X", extract: "canary=X"},
		{name: "H-23 64 KiB", tar: "file " + long + " X", layerIs: ErrCorrupt, addIs: ErrCorrupt},
		{name: "H-23 256 byte component", tar: "file " + strings.Repeat("n", 256) + " X", layerIs: ErrCorrupt, addIs: ErrCorrupt},
		{
			name: "H-24 file through an absolute link", tar: "link a /etc\nfile a/passwd X",
			layer: "a->/etc etc/ etc/passwd=X", extract: "a->/etc etc/ etc/passwd=X",
		},
		{
			name: "H-24 file through a relative link", tar: "link a ../../etc\nfile a/passwd X",
			layer: "a->../../etc etc/ etc/passwd=X", extract: "a->../../etc etc/ etc/passwd=X",
		},
		{name: "H-24 chain", tar: "link a b\nlink b ../c\ndir c\nfile a/x X", layer: "a->b b->../c c/ c/x=X", extract: "a->b b->../c c/ c/x=X"},
		{name: "H-24 loop", tar: "link a b\nlink b a\nfile a/x X", layerIs: ErrCorrupt, addIs: ErrCorrupt},
		{name: "H-24 link to itself", tar: "link a a\nfile a/x X", layerIs: ErrCorrupt, addIs: ErrCorrupt},
		{
			name: "H-24 link replaced by directory and back", tar: "link a /etc\ndir a\nfile a/passwd X\nlink a /etc\nfile a/shadow S",
			layer: "a->/etc etc/ etc/shadow=S", extract: "a->/etc etc/ etc/shadow=S",
		},
		{name: "H-24 mode and owner of a link", tar: "link a ../etc mode=0 uid=5", layer: "a->../etc", extract: "a->../etc"},
		{name: "H-25 hard link out", tar: "hard x ../../etc/passwd", layerIs: ErrCorrupt, addIs: ErrCorrupt},
		{name: "H-25 hard link to absent", tar: "hard x y", layerIs: ErrCorrupt, addIs: ErrCorrupt},
		{name: "H-25 hard link to itself", tar: "hard x x", layerIs: ErrCorrupt, addIs: ErrCorrupt},
		{name: "H-25 hard link to itself, existing", tar: "file x X\nhard x x", layer: "x=X", extract: "x=X"},
		{name: "H-25 hard link to a directory", tar: "dir d\nhard x d", layerIs: ErrCorrupt, addIs: ErrCorrupt},
		{name: "H-25 hard link to a link is a link", tar: "link l /canary\nhard x l", layer: "l->/canary x->/canary", extract: "l->/canary x->/canary"},
		{name: "H-25 hard link through a link", tar: "dir d\nfile d/f F\nlink l d\nhard x l/f", layer: "d/ d/f=F l->d x=F", extract: "d/ d/f=F l->d x=F"},
		{name: "H-27 one name, many types, last wins", tar: "file n 1\ndir n\nfile n/in I\nlink n ../canary\nfile n 2", layer: "n=2", extract: "n=2"},
		{name: "H-27 file in the way of a path", tar: "file n 1\nfile n/x X", layerIs: ErrCorrupt, addIs: ErrCorrupt},
		{name: "H-34 root as link", tar: "link . /etc", layerIs: ErrCorrupt, addIs: ErrCorrupt},
		{name: "H-34 root as file", tar: "file . X", layerIs: ErrCorrupt, addIs: ErrCorrupt},
		{name: "H-38 char 0:0", tar: "char c 0 0", layerIs: ErrCorrupt, addIs: ErrCorrupt},
		{name: "H-40 owner of 2^32", tar: "file x X uid=4294967296", layerIs: ErrCorrupt, addIs: ErrCorrupt},
		{name: "H-40 owner that means leave alone", tar: "file x X gid=4294967295", layerIs: ErrCorrupt, addIs: ErrCorrupt},
		{name: "H-40 time of 10^18", tar: "file x X mtime=1000000000000000000", layerIs: ErrCorrupt, addIs: ErrCorrupt},
		{name: "H-40 time of -10^18", tar: "file x X mtime=-1000000000000000000", layerIs: ErrCorrupt, addIs: ErrCorrupt},
		{name: "device out of range", tar: "char x 4096 0", layerIs: ErrCorrupt, addIs: ErrCorrupt},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			data := tarOf(t, c.tar)
			for _, mode := range []struct {
				name string
				run  func(caged) error
				want string
				is   error
			}{
				{"layer", func(cage caged) error { return cage.unpack(t, data) }, c.layer, c.layerIs},
				{"extract", func(cage caged) error { return cage.extract(t, data) }, c.extract, c.addIs},
			} {
				cage := newCage(t)
				err := mode.run(cage)
				if !errors.Is(err, mode.is) {
					t.Errorf("%s: got %v, want %v", mode.name, err, mode.is)
				}
				if mode.is == nil {
					must(t, err)
					if diff := cmp.Diff(mode.want, cage.names(t)); diff != "" {
						t.Errorf("%s: %s", mode.name, diff)
					}
				}
				cage.check(t)
			}
		})
	}
}

// Rows H-32 and H-33: a layer over a lower tree.
func TestHostile_Whiteouts(t *testing.T) {
	t.Parallel()
	needRoot(t)
	const lower = "dir d\nfile d/low L\ndir d/sub\nfile d/sub/deep D\nfile f F\nlink l /d\nlink out /etc"
	const same = "d/ d/low=L d/sub/ d/sub/deep=D f=F l->/d out->/etc"
	for _, c := range []struct {
		name  string
		layer string
		want  string
		is    error
	}{
		{name: "H-32 plain", layer: "file .wh.f\nfile d/.wh.sub", want: "d/ d/low=L l->/d out->/etc"},
		{name: "H-32 of what is absent", layer: "file .wh.none\nfile none/.wh.x", want: same},
		{name: "H-32 of a link removes the link", layer: "file .wh.l", want: "d/ d/low=L d/sub/ d/sub/deep=D f=F out->/etc"},
		{name: "H-32 dot", layer: "file .wh..", is: ErrCorrupt},
		{name: "H-32 dotdot", layer: "file d/.wh...", is: ErrCorrupt},
		{name: "H-32 empty", layer: "file .wh.", is: ErrCorrupt},
		{name: "H-32 not one component", layer: "file .wh.a/b X", is: ErrCorrupt},
		{name: "H-32 aufs names are ignored", layer: "file .wh..wh.aufs\ndir .wh..wh.plnk\nfile .wh..wh.plnk/1.2 X\nfile .wh..wh.orph", want: same},
		{name: "H-32 opaque root before siblings", layer: "file .wh..wh..opq\nfile new N", want: "new=N"},
		{name: "H-32 opaque root after siblings", layer: "file new N\nfile d/mine M\nfile .wh..wh..opq", want: "d/ d/mine=M new=N"},
		{name: "H-32 opaque before", layer: "dir d\nfile d/.wh..wh..opq\nfile d/mine M", want: "d/ d/mine=M f=F l->/d out->/etc"},
		{name: "H-32 opaque after", layer: "dir d\nfile d/mine M\nfile d/sub/mine M\nfile d/.wh..wh..opq", want: "d/ d/mine=M d/sub/ d/sub/mine=M f=F l->/d out->/etc"},
		{name: "H-32 opaque twice", layer: "file d/.wh..wh..opq\nfile d/mine M\nfile d/.wh..wh..opq", want: "d/ d/mine=M f=F l->/d out->/etc"},
		{name: "H-32 opaque, deepest first", layer: "file d/sub/mine M\nfile d/sub/.wh..wh..opq\nfile d/.wh..wh..opq", want: "d/ d/sub/ d/sub/mine=M f=F l->/d out->/etc"},
		{name: "H-32 opaque of an empty own directory", layer: "dir n\nfile n/.wh..wh..opq", want: "d/ d/low=L d/sub/ d/sub/deep=D f=F l->/d n/ out->/etc"},
		{name: "H-32 whiteout after own file", layer: "file f mine\nfile .wh.f", want: "d/ d/low=L d/sub/ d/sub/deep=D f=mine l->/d out->/etc"},
		{name: "H-32 whiteout before own file", layer: "file .wh.f\nfile f mine", want: "d/ d/low=L d/sub/ d/sub/deep=D f=mine l->/d out->/etc"},
		{name: "H-32 whiteout after own content of a directory", layer: "file d/sub/mine M\nfile .wh.d", want: "d/ d/sub/ d/sub/mine=M f=F l->/d out->/etc"},
		{name: "H-32 whiteout through a lower link hides nothing", layer: "file l/.wh.low", want: same},
		{name: "H-33 below a lower link", layer: "file l/x X", want: "d/ d/low=L d/sub/ d/sub/deep=D f=F l/ l/x=X out->/etc"},
		{name: "H-33 below a lower link that leaves", layer: "file out/passwd X", want: "d/ d/low=L d/sub/ d/sub/deep=D f=F l->/d out/ out/passwd=X"},
		{name: "H-33 below a lower file", layer: "file f/x X", want: "d/ d/low=L d/sub/ d/sub/deep=D f/ f/x=X l->/d out->/etc"},
		{name: "H-33 below an own link", layer: "link l /d\nfile l/x X", want: "d/ d/low=L d/sub/ d/sub/deep=D d/x=X f=F l->/d out->/etc"},
		{name: "own directory over a lower link", layer: "dir l\nfile l/x X", want: "d/ d/low=L d/sub/ d/sub/deep=D f=F l/ l/x=X out->/etc"},
		{name: "own file over a lower directory", layer: "file d X", want: "d=X f=F l->/d out->/etc"},
		{name: "own directory over own file over lower directory", layer: "file d X\ndir d\nfile d/.wh.low\nfile d/y Y", want: "d/ d/y=Y f=F l->/d out->/etc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cage := newCage(t)
			must(t, cage.unpack(t, tarOf(t, lower)))
			err := cage.unpack(t, tarOf(t, c.layer))
			if !errors.Is(err, c.is) {
				t.Fatalf("got %v, want %v", err, c.is)
			}
			cage.check(t)
			if c.is != nil {
				return
			}
			must(t, err)
			if diff := cmp.Diff(c.want, cage.names(t)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHostile_BadNamesAreCorrupt(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "a\x00b"} {
		u := unpacker{meter: meter{limits: Limits{}.withDefaults()}}
		if _, err := u.place(name); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestHostileH34_RootEntryGivesModeOwnerAndTime(t *testing.T) {
	t.Parallel()
	needRoot(t)
	cage := newCage(t)
	must(t, cage.unpack(t, tarOf(t, "dir ./ mode=01711 uid=3 gid=4 mtime=77\nfile x X")))
	var st unix.Stat_t
	must(t, unix.Stat(cage.root, &st))
	if st.Mode&0o7777 != 0o1711 || st.Uid != 3 || st.Gid != 4 || st.Mtim.Sec != 77 {
		t.Errorf("%o %d:%d %d", st.Mode, st.Uid, st.Gid, st.Mtim.Sec)
	}
	must(t, cage.extract(t, tarOf(t, "dir ./ mode=0700 uid=9 mtime=99\nfile y Y")))
	must(t, unix.Stat(cage.root, &st))
	if st.Mode&0o7777 != 0o1711 || st.Uid != 3 || st.Mtim.Sec != 77 {
		t.Errorf("an extracted archive changed its destination: %o %d %d", st.Mode, st.Uid, st.Mtim.Sec)
	}
}

func TestUnpack_DirectoryTimesSurviveTheirContent(t *testing.T) {
	t.Parallel()
	needRoot(t)
	cage := newCage(t)
	must(t, cage.unpack(t, tarOf(t, "dir a mtime=10\ndir a/b mtime=20\nfile a/b/x X\nfile a/y Y\nfile implied/z Z mtime=30\nfile a/b/later L")))
	must(t, cage.unpack(t, tarOf(t, "file a/b/.wh.x\nfile a/new N")))
	for name, want := range map[string]int64{"a": 10, "a/b": 20, "implied": 30} {
		st, err := os.Stat(filepath.Join(cage.root, name))
		must(t, err)
		if st.ModTime().Unix() != want {
			t.Errorf("%s: %d, want %d", name, st.ModTime().Unix(), want)
		}
	}
}

// rows: H8
func TestHostileH31_ModesAndAttributes(t *testing.T) {
	t.Parallel()
	needRoot(t)
	cage := newCage(t)
	var notices []string
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	data := tarOf(t, "file suid S mode=06755 uid=12 gid=13 "+strconv.Quote("x:security.capability="+capability)+"\n"+
		"file over O x:trusted.overlay.opaque=y x:user.overlay.redirect=/etc x:user.note=hi x:trusted.note=t\n"+
		"link ln over x:user.note=refused\n"+
		"dir opq x:trusted.overlay.opaque=y")
	_, err := Unpack(t.Context(), bytes.NewReader(data), openRoot(t, cage.root),
		UnpackOptions{Notice: func(s string) { notices = append(notices, s) }})
	must(t, err)
	dump := dumpTree(t, cage.root)
	for _, want := range []string{
		`"suid" 106755 12:13 1000 1 8de0b3c4 security.capability=` + strconv.Quote(capability),
		`user.note="hi" trusted.note="t"`,
	} {
		if !strings.Contains(dump, want) {
			t.Errorf("no %s in\n%s", want, dump)
		}
	}
	for _, p := range []string{"over", "opq"} {
		for _, name := range []string{"trusted.overlay.opaque", "user.overlay.redirect"} {
			if _, err := unix.Lgetxattr(filepath.Join(cage.root, p), name, nil); err == nil {
				t.Errorf("%s has %s", p, name)
			}
		}
	}
	if len(notices) != 2 || !strings.Contains(notices[0], "overlay.") || !strings.Contains(notices[1], "user.note") {
		t.Errorf("notices: %q", notices)
	}
}

func TestHostileH26_DevicesAndFIFOs(t *testing.T) {
	t.Parallel()
	needRoot(t)
	cage := newCage(t)
	old := unix.Umask(0o077)
	err := cage.unpack(t, tarOf(t, "char null 1 3 mode=0666\nblock sda 8 0 mode=0660 gid=6\nfifo p mode=0622"))
	unix.Umask(old)
	must(t, err)
	for _, want := range []string{`"null" 020666 0:0 1000 1:3`, `"sda" 060660 0:6 1000 8:0`, `"p" 010622 0:0 1000 `} {
		if dump := dumpTree(t, cage.root); !strings.Contains(dump, want) {
			t.Errorf("no %s in\n%s", want, dump)
		}
	}
}

func TestB55_Extract(t *testing.T) {
	t.Parallel()
	needRoot(t)
	cage := newCage(t)
	must(t, cage.unpack(t, tarOf(t, "dir app\nfile app/old O\nfile app/kind K\nlink app/l /etc")))
	uid, gid := 21, 22
	err := Extract(t.Context(), bytes.NewReader(tarOf(t, "dir kind uid=1\nfile kind/x X uid=1\nfile .wh.old W\nfile .wh..wh..opq W\nlink l2 x\nfile l L\nfile imp/y Y")),
		openRoot(t, cage.root), "/app", ExtractOptions{UID: &uid, GID: &gid})
	must(t, err)
	want := "app/ app/.wh..wh..opq=W app/.wh.old=W app/imp/ app/imp/y=Y app/kind/ app/kind/x=X app/l=L app/l2->x app/old=O"
	if diff := cmp.Diff(want, cage.names(t)); diff != "" {
		t.Error(diff)
	}
	for name, owner := range map[string]uint32{"app": 0, "app/kind": 21, "app/kind/x": 21, "app/l2": 21, "app/imp": 0, "app/imp/y": 21, "app/old": 0} {
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(cage.root, name), &st))
		if st.Uid != owner {
			t.Errorf("%s belongs to %d", name, st.Uid)
		}
	}
	must(t, Extract(t.Context(), bytes.NewReader(tarOf(t, "file f F")), openRoot(t, cage.root), "/new/dir", ExtractOptions{}))
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(cage.root, "new/dir"), &st))
	if st.Mode&0o7777 != 0o755 {
		t.Errorf("destination has mode %o", st.Mode)
	}
	// A hard link's target is a name in the archive, not in the root.
	must(t, Extract(t.Context(), bytes.NewReader(tarOf(t, "file f F\nhard h /f")), openRoot(t, cage.root), "/new/dir", ExtractOptions{}))
}

func TestB55_TimesOutsideOfWhatIsCountedAreTheEpoch(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	data := tarOf(t, "file before B mtime=-5\nfile after A mtime=9223372037\nfile last L mtime=9223372036")
	must(t, Extract(t.Context(), bytes.NewReader(data), openRoot(t, dir), "/", ExtractOptions{}))
	for name, want := range map[string]int64{"before": 0, "after": 0, "last": 9223372036} {
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(dir, name), &st))
		if st.Mtim.Sec != want {
			t.Errorf("%s has the time %d, want %d", name, st.Mtim.Sec, want)
		}
	}
}

func TestLimits(t *testing.T) {
	t.Parallel()
	small := tarOf(t, "file a "+strings.Repeat("x", 100)+"\nfile b B\nfile c C")
	for name, l := range map[string]Limits{
		"entries": {Entries: 2}, "bytes of files": {Unpacked: 101}, "bytes of the tar": {Unpacked: 2048},
	} {
		_, err := Unpack(t.Context(), bytes.NewReader(small), openRoot(t, t.TempDir()), UnpackOptions{Limits: l})
		if !errors.Is(err, ErrBound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	dir := t.TempDir()
	write(t, dir, "a/b/c", "")
	for name, l := range map[string]Limits{"entries": {Entries: 2}, "path": {Path: 4}} {
		_, err := Pack(t.Context(), &bytes.Buffer{}, openRoot(t, dir), nil, PackOptions{Limits: l})
		if !errors.Is(err, ErrBound) {
			t.Errorf("pack, %s: %v", name, err)
		}
	}
}

func TestHostileH28_ClaimedSizes(t *testing.T) {
	t.Parallel()
	header := func(change func([]byte)) []byte {
		data := tarOf(t, "file x X")
		change(data)
		sum := 0
		copy(data[148:156], "        ")
		for _, c := range data[:blockSize] {
			sum += int(c)
		}
		copy(data[148:156], fmt.Sprintf("%06o\x00 ", sum))
		return data
	}
	pax := func(records string) []byte {
		var buf bytes.Buffer
		w := tar.NewWriter(&buf)
		must(t, w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "pax", Size: int64(len(records))}))
		_, _ = w.Write([]byte(records))
		_ = w.Flush()
		data := append(buf.Bytes(), tarOf(t, "file x X")...)
		data[156] = 'x'
		return append(header(func(d []byte) { copy(d, data[:blockSize]) })[:blockSize], data[blockSize:]...)
	}
	for name, data := range map[string][]byte{
		"2^63 in base 256":    header(func(b []byte) { copy(b[124:136], "\x80\x00\x00\x00\x80\x00\x00\x00\x00\x00\x00\x00") }),
		"2^62 in base 256":    header(func(b []byte) { copy(b[124:136], "\x80\x00\x00\x00\x40\x00\x00\x00\x00\x00\x00\x00") }),
		"negative":            header(func(b []byte) { copy(b[124:136], "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff") }),
		"8 GiB":               header(func(b []byte) { copy(b[124:136], "77777777777\x00") }),
		"PAX size":            pax("29 size=9223372036854775807\n"),
		"PAX size negative":   pax("11 size=-1\n"),
		"a million regions":   pax(paxRecord("GNU.sparse.map", strings.Repeat("1,0,", 600_000)+"1,0") + paxRecord("GNU.sparse.numblocks", "600001") + paxRecord("GNU.sparse.size", "2")),
		"100 MiB of records":  pax(paxRecord("comment", strings.Repeat("c", 100<<20))),
		"64 KiB + 1 of xattr": pax(paxRecord(paxXattr+"trusted.x", strings.Repeat("v", 2<<20))),
	} {
		t.Run(name, func(t *testing.T) {
			cage := newCage(t)
			err := cage.unpack(t, data)
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrBound) {
				t.Errorf("got %v", err)
			}
			cage.check(t)
		})
	}
}

func paxRecord(key, value string) string {
	n := len(key) + len(value) + 3
	size := n + len(strconv.Itoa(n))
	size = n + len(strconv.Itoa(size))
	return fmt.Sprintf("%d %s=%s\n", size, key, value)
}
