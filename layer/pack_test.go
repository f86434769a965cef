package layer

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// sampleTree makes one of everything that a layer stores.
func sampleTree(tb testing.TB) string {
	tb.Helper()
	dir := tb.TempDir()
	write(tb, dir, "a/empty", "")
	write(tb, dir, "a/small", "hello\n")
	write(tb, dir, "a/exact", strings.Repeat("x", 1024))
	write(tb, dir, "a-b", "sorts after a/, not before")
	write(tb, dir, "big", strings.Repeat("0123456789abcdef", 60_000))
	write(tb, dir, "deep/"+strings.Repeat("long-directory-name/", 12)+"f", "deep")
	write(tb, dir, "bad\xff\xfeutf8\nname", "bytes")
	write(tb, dir, "ümlaut", "utf8")
	must(tb, os.Symlink("/etc/passwd", filepath.Join(dir, "abs")))
	must(tb, os.Symlink("../"+strings.Repeat("y", 150), filepath.Join(dir, "a/longlink")))
	must(tb, os.Link(filepath.Join(dir, "a/small"), filepath.Join(dir, "a/hard")))
	must(tb, os.Link(filepath.Join(dir, "a/small"), filepath.Join(dir, "z-hard")))
	must(tb, unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	must(tb, os.Mkdir(filepath.Join(dir, "sticky"), 0o755))
	must(tb, os.Chmod(filepath.Join(dir, "sticky"), os.ModeSticky|0o777))
	if os.Geteuid() == 0 {
		must(tb, unix.Mknod(filepath.Join(dir, "chr"), unix.S_IFCHR|0o660, int(unix.Mkdev(1, 3))))
		must(tb, unix.Mknod(filepath.Join(dir, "blk"), unix.S_IFBLK|0o660, int(unix.Mkdev(259, 70000))))
		write(tb, dir, "owned", "o")
		must(tb, os.Chown(filepath.Join(dir, "owned"), 1000, 3_000_000))
		must(tb, os.Chmod(filepath.Join(dir, "owned"), os.ModeSetuid|os.ModeSetgid|0o755))
		must(tb, os.Lchown(filepath.Join(dir, "abs"), 7, 8))
		write(tb, dir, "cap", "c")
		capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
		must(tb, unix.Setxattr(filepath.Join(dir, "cap"), capabilityXattr, []byte(capability), 0))
	}
	setTimes(tb, dir, 1_500_000_000)
	return dir
}

func TestPackUnpack_TreeComesBackTheSame(t *testing.T) {
	t.Parallel()
	needRoot(t)
	src := sampleTree(t)
	want := dumpTree(t, src)
	for _, c := range []Compression{None, Gzip, Zstd} {
		t.Run(string(c), func(t *testing.T) {
			t.Parallel()
			var blob bytes.Buffer
			p, err := Pack(t.Context(), &blob, openRoot(t, src), nil, PackOptions{Compression: c})
			must(t, err)
			dst := t.TempDir()
			diffID, err := Unpack(t.Context(), &blob, openRoot(t, dst), UnpackOptions{})
			must(t, err)
			if diffID != p.DiffID {
				t.Errorf("unpacked %s, packed %s", diffID, p.DiffID)
			}
			setRootTime(t, dst, 1_500_000_000)
			must(t, os.Chmod(dst, 0o755))
			must(t, os.Chmod(src, 0o755))
			if diff := cmp.Diff(want, dumpTree(t, dst)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func setRootTime(tb testing.TB, dir string, sec int64) {
	tb.Helper()
	must(tb, os.Chtimes(dir, time.Unix(sec, 0), time.Unix(sec, 0)))
}

func TestH7_GNUTarReadsWhatIsPacked(t *testing.T) {
	t.Parallel()
	needRoot(t)
	if _, err := exec.LookPath("tar"); err != nil {
		t.Skip("needs tar")
	}
	src := sampleTree(t)
	data, _ := packTar(t, src, "", PackOptions{})
	dst := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "tar", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", "-", "-C", dst)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	setRootTime(t, dst, 1_500_000_000)
	if diff := cmp.Diff(dumpTree(t, src), dumpTree(t, dst)); diff != "" {
		t.Error(diff)
	}
}

func TestH7_OrderIsByPathParentsFirstRootLeftOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"a/b/c", "a-b", "a.b", "a/a", "B"} {
		write(t, dir, name, name)
	}
	data, p := packTar(t, dir, "", PackOptions{})
	want := "0 B \"B\"\n5 a/\n0 a/a \"a/a\"\n5 a/b/\n0 a/b/c \"a/b/c\"\n0 a-b \"a-b\"\n0 a.b \"a.b\"\n"
	if diff := cmp.Diff(want, listTar(t, data)); diff != "" {
		t.Error(diff)
	}
	if p.Entries != 7 || p.TarSize != int64(len(data)) || p.Size != p.TarSize || p.Digest != p.DiffID {
		t.Errorf("%+v", p)
	}
	if len(data)%blockSize != 0 || !isZero(data[len(data)-tarEnd:]) || isZero(data[len(data)-tarEnd-blockSize:]) {
		t.Error("the tar does not end in exactly two zero blocks")
	}
}

func TestH7_SocketsAreLeftOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Bind(fd, &unix.SockaddrUnix{Name: filepath.Join(dir, "s")}))
	data, _ := packTar(t, dir, "", PackOptions{})
	if got := listTar(t, data); got != "" {
		t.Error(got)
	}
}

func TestH14_LaterTimesAreClamped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "new", "")
	write(t, dir, "old", "")
	must(t, os.Chtimes(filepath.Join(dir, "new"), time.Time{}, time.Unix(5000, 999)))
	must(t, os.Chtimes(filepath.Join(dir, "old"), time.Time{}, time.Unix(50, 999_999_999)))
	epoch := time.Unix(1000, 0)
	data, _ := packTar(t, dir, "", PackOptions{Epoch: &epoch})
	out := t.TempDir()
	_, err := Unpack(t.Context(), bytes.NewReader(data), openRoot(t, out), UnpackOptions{})
	must(t, err)
	for name, want := range map[string]time.Time{"new": epoch, "old": time.Unix(50, 0)} {
		st, err := os.Stat(filepath.Join(out, name))
		must(t, err)
		if !st.ModTime().Equal(want) {
			t.Errorf("%s: %v, want %v", name, st.ModTime(), want)
		}
	}
}

func TestH10_WhiteoutNamesCannotBeStored(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "sub/.wh.x", "")
	_, err := Pack(t.Context(), &bytes.Buffer{}, openRoot(t, dir), nil, PackOptions{})
	if !errors.Is(err, ErrWhiteoutName) || !strings.Contains(err.Error(), "sub/.wh.x") {
		t.Errorf("got %v", err)
	}
	var out bytes.Buffer
	must(t, Export(t.Context(), &out, openRoot(t, dir), nil))
	if got := listTar(t, out.Bytes()); !strings.Contains(got, "sub/.wh.x") {
		t.Errorf("an export keeps the name: %s", got)
	}
}

func TestHostileH16_HugeSparseFileIsRefusedBeforeItIsRead(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "huge"))
	must(t, err)
	must(t, f.Truncate(8<<40))
	must(t, f.Close())
	start := time.Now()
	_, err = Pack(t.Context(), &bytes.Buffer{}, openRoot(t, dir), nil, PackOptions{})
	if !errors.Is(err, ErrBound) || !strings.Contains(err.Error(), "huge") {
		t.Errorf("got %v", err)
	}
	if time.Since(start) > 5*time.Second {
		t.Errorf("took %v", time.Since(start))
	}
}

func TestH12_HolesAreStoredAsZerosAndBecomeHolesAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f, err := os.Create(filepath.Join(dir, "sparse"))
	must(t, err)
	for _, at := range []int64{0, 3<<20 + 17, 9 << 20} {
		_, err = f.WriteAt([]byte("data"), at)
		must(t, err)
	}
	must(t, f.Truncate(20<<20+1))
	must(t, f.Close())
	data, p := packTar(t, dir, "", PackOptions{})
	if p.TarSize < 20<<20 {
		t.Errorf("tar of %d bytes", p.TarSize)
	}
	out := t.TempDir()
	_, err = Unpack(t.Context(), bytes.NewReader(data), openRoot(t, out), UnpackOptions{})
	must(t, err)
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(out, "sparse"), &st))
	if st.Blocks*512 > 1<<20 {
		t.Errorf("%d bytes on disk", st.Blocks*512)
	}
	a, _ := os.ReadFile(filepath.Join(dir, "sparse"))
	b, _ := os.ReadFile(filepath.Join(out, "sparse"))
	if !bytes.Equal(a, b) {
		t.Error("content differs")
	}
}

func TestHostileH13_FileThatChangesWhilePackedIsAnError(t *testing.T) {
	t.Parallel()
	for _, size := range []int{100, 5 << 20} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, dir, "f", strings.Repeat("x", size))
			w := newWalker(t.Context(), PackOptions{Limits: Limits{}.withDefaults()}, func(e *entry) error {
				must(t, os.WriteFile(filepath.Join(dir, "f"), make([]byte, size+1), 0o644))
				b := &batch{entries: []*entry{e}, out: &chunk{}}
				return b.fill(PackOptions{})
			})
			if err := w.walk(openRoot(t, dir), nil); !errors.Is(err, ErrChanged) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestH9_LinksAreManyAndTheMapStaysSmall(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "f0", "data")
	for i := 1; i < 500; i++ {
		must(t, os.Link(filepath.Join(dir, "f0"), filepath.Join(dir, fmt.Sprintf("f%d", i))))
	}
	w := newWalker(t.Context(), PackOptions{Limits: Limits{}.withDefaults()}, func(*entry) error { return nil })
	must(t, w.walk(openRoot(t, dir), nil))
	if len(w.links) != 0 {
		t.Errorf("%d files are still remembered", len(w.links))
	}
	if w.meter.bytes != 4 {
		t.Errorf("%d bytes of content, want 4", w.meter.bytes)
	}
}

func TestPack_DeepTreeNeedsFewDescriptors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fd, err := unix.Open(dir, unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	must(t, err)
	for range 2100 {
		must(t, unix.Mkdirat(fd, "d", 0o755))
		sub, err := unix.Openat(fd, "d", unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		must(t, err)
		_ = unix.Close(fd)
		fd = sub
	}
	_ = unix.Close(fd)
	t.Cleanup(func() { must(t, removeAll(unix.AT_FDCWD, dir)) })
	data, p := packTar(t, dir, "", PackOptions{})
	if p.Entries != 2100 {
		t.Fatalf("%d entries", p.Entries)
	}
	out := t.TempDir()
	t.Cleanup(func() { must(t, removeAll(unix.AT_FDCWD, out)) })
	_, err = Unpack(t.Context(), bytes.NewReader(data), openRoot(t, out), UnpackOptions{})
	must(t, err)
	again, _ := packTar(t, out, "", PackOptions{})
	if !bytes.Equal(data, again) {
		t.Error("the unpacked tree packs to other bytes")
	}
}

// Not parallel: it counts the descriptors of the process.
func TestHostileF14_FewDescriptorsForAWideAndDeepTree(t *testing.T) {
	dir := t.TempDir()
	for i := range 60 {
		write(t, dir, strings.Repeat("deep/", i)+fmt.Sprintf("d%d/f", i), "x")
	}
	open := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		must(t, err)
		return len(list)
	}
	before, most := open(), 0
	w := newWalker(t.Context(), PackOptions{Limits: Limits{}.withDefaults()}, func(*entry) error {
		most = max(most, open())
		return nil
	})
	must(t, w.walk(openRoot(t, dir), openRoot(t, dir)))
	if most > before+2*openLevels+10 {
		t.Errorf("%d descriptors, %d before", most, before)
	}
	var blob bytes.Buffer
	_, err := Pack(t.Context(), &blob, openRoot(t, dir), nil, PackOptions{})
	must(t, err)
	after := open()
	_, err = Unpack(t.Context(), &blob, openRoot(t, t.TempDir()), UnpackOptions{})
	must(t, err)
	if now := open(); now > after+1 { // the root that was opened for it
		t.Errorf("%d descriptors after unpacking, %d before", now, after)
	}
}

func TestUnpack_CancelledContextEndsIt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("why")
	cancel(why)
	_, err := Unpack(ctx, bytes.NewReader(sampleTar(t)), openRoot(t, t.TempDir()), UnpackOptions{})
	if !errors.Is(err, why) {
		t.Errorf("got %v", err)
	}
}

func TestH15_BytesDoNotDependOnCores(t *testing.T) {
	dir := manyFiles(t, 400, 20)
	for _, opt := range []PackOptions{{}, {Compression: Zstd}, {Level: 9}, {Level: ExplicitZero}, {Compression: Zstd, Level: 1}} {
		var first Packed
		for _, procs := range []int{1, 2, 8} {
			old := runtime.GOMAXPROCS(procs)
			p, err := Pack(t.Context(), &bytes.Buffer{}, openRoot(t, dir), nil, opt)
			runtime.GOMAXPROCS(old)
			must(t, err)
			if first.Digest == "" {
				first = p
			} else if p != first {
				t.Errorf("%+v: %+v with %d processors, %+v with 1", opt, p, procs, first)
			}
		}
	}
}

// manyFiles makes n files of a few kilobytes, and some large ones, whose
// content depends on their number alone.
func manyFiles(tb testing.TB, n, perDir int) string {
	tb.Helper()
	dir := tb.TempDir()
	seed := uint32(1)
	buf := make([]byte, 1<<20)
	for i := range n {
		size := 200 + i*37%9000
		if i%97 == 0 {
			size = 700_000
		}
		for j := range buf[:size] {
			if j%64 < 48 {
				seed = seed*1664525 + 1013904223
			}
			buf[j] = "etaoin shrdlu\n0123456789ABCDEF=;"[seed>>27]
		}
		name := filepath.Join(dir, fmt.Sprintf("d%d/f%d", i/perDir, i))
		must(tb, os.MkdirAll(filepath.Dir(name), 0o755))
		must(tb, os.WriteFile(name, buf[:size], 0o644))
	}
	setTimes(tb, dir, 1_600_000_000)
	return dir
}

func TestH15_SmallGzipHasTheBytesOfLarge(t *testing.T) {
	t.Parallel()
	data := make([]byte, gzipBlock+gzipSmall)
	for i := range data {
		data[i] = byte(i*i>>7) & 31
	}
	for _, level := range []int{ExplicitZero, 0, 1, 6, 9} {
		for _, size := range []int{0, 1, tarEnd, gzipSmall - 1, gzipSmall, gzipSmall + 1, gzipBlock, len(data)} {
			var want bytes.Buffer
			large := &gzipWriter{w: &want, level: max(level, 0)}
			if level == 0 {
				large.level = gzipDefaultLevel
			}
			must(t, large.start(gzipBlock, 2))
			_, err := large.Write(data[:size])
			must(t, errors.Join(err, large.Close()))

			var got bytes.Buffer
			zw, err := newGzip(&got, level)
			must(t, err)
			for rest := data[:size]; len(rest) > 0 && err == nil; {
				n := min(len(rest), 30_000)
				_, err = zw.Write(rest[:n])
				rest = rest[n:]
			}
			must(t, errors.Join(err, zw.Close()))
			if !bytes.Equal(got.Bytes(), want.Bytes()) {
				t.Errorf("level %d, %d bytes: %d bytes, want the %d of a writer for large layers", level, size, got.Len(), want.Len())
			}
		}
	}
}

func TestH15_GoldenDigests(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := manyFiles(t, 200, 20)
	golden := []struct {
		opt    PackOptions
		diffID string
		digest string
	}{
		{PackOptions{Compression: Gzip}, goldenDiffID, goldenGzip},
		{PackOptions{Compression: Zstd}, goldenDiffID, goldenZstd},
		{PackOptions{Compression: None}, goldenDiffID, goldenDiffID},
	}
	for _, g := range golden {
		var blob bytes.Buffer
		p, err := Pack(t.Context(), &blob, openRoot(t, dir), nil, g.opt)
		must(t, err)
		// A change here changes the digest of every image: it needs a decision,
		// a note in the change log and another salt of the cache.
		if p.DiffID.Encoded() != g.diffID || p.Digest.Encoded() != g.digest {
			t.Errorf("%s: diffID %s digest %s", g.opt.Compression, p.DiffID.Encoded(), p.Digest.Encoded())
		}
		var again bytes.Buffer
		r, err := Recompress(t.Context(), &again, &blob, g.opt)
		must(t, err)
		if r.Digest != p.Digest || r.DiffID != p.DiffID || r.TarSize != p.TarSize {
			t.Errorf("%s: recompressed to %+v", g.opt.Compression, r)
		}
	}
}

func TestH15_GzipHeaderSaysNothing(t *testing.T) {
	t.Parallel()
	var blob bytes.Buffer
	_, err := Pack(t.Context(), &blob, openRoot(t, t.TempDir()), nil, PackOptions{})
	must(t, err)
	if want := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255}; !bytes.Equal(blob.Bytes()[:10], want) {
		t.Errorf("% x", blob.Bytes()[:10])
	}
}

func TestH15_Levels(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		compression Compression
		level       int
		ok          bool
	}{
		{"", 0, true}, {"", 9, true}, {"", 10, false}, {Gzip, -1, false}, {Zstd, 22, true}, {Zstd, 23, false},
		{None, 0, true}, {None, 1, false}, {"estargz", 0, false},
	} {
		if err := ValidLevel(c.compression, c.level); (err == nil) != c.ok {
			t.Errorf("%s %d: %v", c.compression, c.level, err)
		}
	}
	_, err := Pack(t.Context(), &bytes.Buffer{}, openRoot(t, t.TempDir()), nil, PackOptions{Level: 11})
	if err == nil {
		t.Error("level 11 was taken")
	}
}

func TestPack_CancelledContextEndsIt(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Pack(ctx, &bytes.Buffer{}, openRoot(t, manyFiles(t, 50, 10)), nil, PackOptions{})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

type failingWriter struct{ left int }

var errFull = errors.New("no space")

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.left -= len(p); w.left < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestPack_WriteErrorIsReturned(t *testing.T) {
	t.Parallel()
	dir := manyFiles(t, 300, 10)
	for _, c := range []Compression{Gzip, Zstd, None} {
		for _, room := range []int{0, 5, 100_000} {
			_, err := Pack(t.Context(), &failingWriter{room}, openRoot(t, dir), nil, PackOptions{Compression: c})
			if !errors.Is(err, errFull) {
				t.Errorf("%s, room for %d: %v", c, room, err)
			}
		}
	}
}

func TestHeader_EqualsWhatArchiveTarWrites(t *testing.T) {
	t.Parallel()
	for _, e := range []entry{
		{name: "a", kind: '0', mode: 0o644, size: 5, mtime: 1},
		{name: "a/", kind: '5', mode: 0o1777, uid: 1<<21 - 1, gid: 1000, mtime: 1<<33 - 1},
		{name: strings.Repeat("n", 100), kind: '2', link: strings.Repeat("l", 100), mode: 0o777},
		{name: "c", kind: '3', mode: 0o7777, major: 259, minor: 1<<20 - 1},
		{name: "big", kind: '0', size: 1<<33 - 1},
		{name: "p", kind: '6'},
		{name: ".wh.x", kind: '0'},
	} {
		if !e.plain() {
			t.Errorf("%q is not plain", e.name)
		}
		fast, err := appendHeader(nil, &e)
		must(t, err)
		slow, err := appendLongHeader(nil, &e)
		must(t, err)
		if !bytes.Equal(fast, slow) {
			t.Errorf("%q:\n%q\n%q", e.name, fast, slow)
		}
	}
}

// Stray attributes of a developer's disk would change digests: of a file's, only its capabilities are stored.
func TestH8_OnlyCapabilitiesAreStored(t *testing.T) {
	t.Parallel()
	needRoot(t)
	dir := t.TempDir()
	write(t, dir, "f", "1")
	capability := "\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	for name, value := range map[string]string{capabilityXattr: capability, "trusted.note": "t", "security.other": "s"} {
		must(t, unix.Setxattr(filepath.Join(dir, "f"), name, []byte(value), 0))
	}
	data, _ := packTar(t, dir, "", PackOptions{})
	h, err := tar.NewReader(bytes.NewReader(data)).Next()
	must(t, err)
	for key, value := range h.PAXRecords {
		if strings.HasPrefix(key, "SCHILY.xattr.") && key != "SCHILY.xattr."+capabilityXattr {
			t.Errorf("%s=%q is stored", key, value)
		}
	}
	if h.PAXRecords["SCHILY.xattr."+capabilityXattr] != capability {
		t.Errorf("records %q lack the capabilities", h.PAXRecords)
	}
}
