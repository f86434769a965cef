package layer

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"
)

func gz(tb testing.TB, data []byte) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, err := w.Write(data)
	must(tb, err)
	must(tb, w.Close())
	return buf.Bytes()
}

func zst(tb testing.TB, data []byte) []byte {
	tb.Helper()
	w, err := zstd.NewWriter(nil)
	must(tb, err)
	return w.EncodeAll(data, nil)
}

func xzs(tb testing.TB, data []byte) []byte {
	tb.Helper()
	var buf bytes.Buffer
	w, err := xz.WriterConfig{BlockSize: 100_000}.NewWriter(&buf)
	must(tb, err)
	_, err = w.Write(data)
	must(tb, err)
	must(tb, w.Close())
	return buf.Bytes()
}

// tool compresses with a program, since no bzip2 writer is at hand and other
// people's xz has other shapes.
func tool(tb testing.TB, data []byte, name string, args ...string) []byte {
	tb.Helper()
	if _, err := exec.LookPath(name); err != nil {
		tb.Skipf("needs %s", name)
	}
	cmd := exec.CommandContext(tb.Context(), name, args...)
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	must(tb, err)
	return out
}

func sampleTar(tb testing.TB) []byte {
	tb.Helper()
	return tarOf(tb, "dir d\nfile d/x "+strings.Repeat("sample", 30_000)+"\nfile y Y")
}

func TestDecompress_AllFormatsGiveTheSameBytes(t *testing.T) {
	t.Parallel()
	want := sampleTar(t)
	for name, make := range map[string]func() []byte{
		"plain":            func() []byte { return want },
		"gzip":             func() []byte { return gz(t, want) },
		"two gzip members": func() []byte { return append(gz(t, want[:1000]), gz(t, want[1000:])...) },
		"zstd":             func() []byte { return zst(t, want) },
		"two zstd frames":  func() []byte { return append(zst(t, want[:1000]), zst(t, want[1000:])...) },
		"zstd with skippable frame": func() []byte {
			return append([]byte("\x5a\x2a\x4d\x18\x04\x00\x00\x00skip"), zst(t, want)...)
		},
		"xz":              func() []byte { return xzs(t, want) },
		"two xz streams":  func() []byte { return append(append(xzs(t, want[:1000]), 0, 0, 0, 0), xzs(t, want[1000:])...) },
		"xz program":      func() []byte { return tool(t, want, "xz", "-9", "-C", "sha256") },
		"xz, many blocks": func() []byte { return tool(t, want, "xz", "-T2", "--block-size=20000", "-C", "crc32") },
		"bzip2":           func() []byte { return tool(t, want, "bzip2") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			blob := make()
			r, err := Decompress(bytes.NewReader(blob))
			must(t, err)
			got, err := io.ReadAll(r)
			must(t, err)
			must(t, r.Close())
			if !bytes.Equal(got, want) {
				t.Error("other bytes")
			}
			ok, err := IsArchive(bytes.NewReader(blob))
			if !ok || err != nil {
				t.Errorf("IsArchive: %v %v", ok, err)
			}
			cutShort(t, blob, name)
		})
	}
}

// Row H-30: an archive that is cut, at each 1/16, is corrupt.
func cutShort(t *testing.T, blob []byte, name string) {
	t.Helper()
	for i := range 16 {
		cut := blob[:len(blob)*i/16]
		err := Extract(t.Context(), bytes.NewReader(cut), openRoot(t, t.TempDir()), "/", ExtractOptions{})
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s cut at %d/16: %v", name, i, err)
		}
	}
}

func TestHostileH30_DamagedArchives(t *testing.T) {
	t.Parallel()
	whole := sampleTar(t)
	flip := func(data []byte, at int) []byte {
		data = bytes.Clone(data)
		data[at] ^= 0x55
		return data
	}
	zipped := gz(t, whole)
	for name, data := range map[string][]byte{
		"bad gzip checksum":      flip(zipped, len(zipped)-6),
		"bad header checksum":    flip(whole, 3),
		"junk after gzip":        append(bytes.Clone(zipped), "junk"...),
		"junk after tar":         append(bytes.Clone(whole), "junk"...),
		"tar without its end":    whole[:len(whole)-tarEnd],
		"gzip in gzip":           gz(t, zipped),
		"zip":                    []byte("PK\x03\x04" + strings.Repeat("z", 2000)),
		"nothing":                {},
		"text":                   []byte(strings.Repeat("text\n", 500)),
		"zstd with bad checksum": flip(zst(t, whole), len(zst(t, whole))-1),
		"xz with bad check":      flip(xzs(t, whole), len(xzs(t, whole))-1),
	} {
		err := Extract(t.Context(), bytes.NewReader(data), openRoot(t, t.TempDir()), "/", ExtractOptions{})
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestB55_WhatIsNoArchive(t *testing.T) {
	t.Parallel()
	whole := sampleTar(t)
	for name, data := range map[string][]byte{
		"nothing": {}, "zip": []byte("PK\x03\x04zzzzzzzzzzzzzzzzzzzzzzz"), "text": []byte(strings.Repeat("text\n", 500)),
		"gzip of text": gz(t, bytes.Repeat([]byte("text\n"), 500)), "gzip in gzip": gz(t, gz(t, whole)),
		"gzip magic only": {0x1f, 0x8b, 8}, "xz magic only": []byte("\xfd7zXZ\x00"), "BZh9": []byte("BZh9 is no archive"),
		"zeros": make([]byte, 4096),
	} {
		if ok, err := IsArchive(bytes.NewReader(data)); ok || err != nil {
			t.Errorf("%s: %v %v", name, ok, err)
		}
	}
	// A tar whose first file has the name of a magic is a tar.
	if ok, err := IsArchive(bytes.NewReader(tarOf(t, "file BZh91 X"))); !ok || err != nil {
		t.Errorf("BZh91 in a tar: %v %v", ok, err)
	}
	if _, err := IsArchive(io.MultiReader(bytes.NewReader([]byte{0x1f}), failingReader{})); !errors.Is(err, errFull) {
		t.Errorf("read error: %v", err)
	}
}

type failingReader struct{}

func (failingReader) Read([]byte) (int, error) { return 0, errFull }

func TestUnpack_ReadErrorIsNotCorruption(t *testing.T) {
	t.Parallel()
	for name, data := range map[string][]byte{"gzip": gz(t, sampleTar(t)), "zstd": zst(t, sampleTar(t)), "xz": xzs(t, sampleTar(t)), "tar": sampleTar(t)} {
		r := io.MultiReader(bytes.NewReader(data[:len(data)/2]), failingReader{})
		_, err := Unpack(t.Context(), r, openRoot(t, t.TempDir()), UnpackOptions{})
		if !errors.Is(err, errFull) || errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// xzAsking is a whole xz block header that asks for a dictionary.
func xzAsking(dict byte) []byte {
	stream := []byte("\xfd7zXZ\x00\x00\x01")
	stream = binary.LittleEndian.AppendUint32(stream, crc32.ChecksumIEEE(stream[6:]))
	block := []byte{2, 0, 0x21, 1, dict, 0, 0, 0}
	block = binary.LittleEndian.AppendUint32(block, crc32.ChecksumIEEE(block))
	return append(append(stream, block...), 1, 0, 0, 'x')
}

func TestHostileH29_DecodersAreBoundedBeforeTheyAllocate(t *testing.T) {
	t.Parallel()
	second := append(xzs(t, sampleTar(t)), xzAsking(40)...)
	window := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 19 << 3, 0x01, 0, 0} // 512 MiB
	for name, blob := range map[string][]byte{
		"xz asking for 4 GiB": xzAsking(40), "xz asking for 96 MiB": xzAsking(29), "xz, second stream": second, "zstd window of 512 MiB": window,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		r, err := Decompress(bytes.NewReader(blob))
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrBound) {
			t.Errorf("%s: %v", name, err)
		}
		if got := after.TotalAlloc - before.TotalAlloc; got > 600<<20 {
			t.Errorf("%s: %d bytes allocated", name, got)
		}
	}
	r, err := Decompress(bytes.NewReader(xzAsking(28))) // 64 MiB is allowed
	must(t, err)
	if _, err := r.Read(make([]byte, 1)); errors.Is(err, ErrBound) {
		t.Errorf("64 MiB: %v", err)
	}
	if _, err := IsArchive(bytes.NewReader(xzAsking(40))); !errors.Is(err, ErrBound) {
		t.Errorf("IsArchive: %v", err)
	}
}

// bomb is a gzip of a tar with one file of n equal bytes, made as it is read.
func bomb(n int64, fill byte) io.Reader {
	pr, pw := io.Pipe()
	go func() {
		w, _ := gzip.NewWriterLevel(pw, gzip.BestSpeed)
		head, _ := appendHeader(nil, &entry{name: "bomb", kind: '0', mode: 0o644, size: n})
		_, _ = w.Write(head)
		block := bytes.Repeat([]byte{fill}, 1<<20)
		for left := n; left > 0; left -= int64(len(block)) {
			if _, err := w.Write(block[:min(left, 1<<20)]); err != nil {
				return
			}
		}
		_, _ = w.Write(make([]byte, padding(n)+tarEnd))
		_ = w.Close()
		_ = pw.Close()
	}()
	return pr
}

func TestHostileH29_BombsAreRefusedAndZerosAreHoles(t *testing.T) {
	t.Parallel()
	small := Limits{Ratio: 100, RatioFrom: 8 << 20}
	dir := t.TempDir()
	err := Extract(t.Context(), bomb(64<<20, 'A'), openRoot(t, dir), "/", ExtractOptions{Limits: small})
	if !errors.Is(err, ErrBound) {
		t.Errorf("64 MiB of A: %v", err)
	}
	must(t, Extract(t.Context(), bomb(512<<20, 0), openRoot(t, dir), "/", ExtractOptions{Limits: small}))
	var st unix.Stat_t
	must(t, unix.Stat(filepath.Join(dir, "bomb"), &st))
	if st.Size != 512<<20 || st.Blocks > 64 {
		t.Errorf("%d bytes in %d blocks", st.Size, st.Blocks)
	}
	// Repeated, but not above the ratio from which on it is looked at.
	must(t, Extract(t.Context(), bomb(4<<20, 'A'), openRoot(t, dir), "/", ExtractOptions{Limits: small}))
	// The same without compression is a large file, no bomb.
	plain, err := Decompress(bomb(16<<20, 'A'))
	must(t, err)
	must(t, Extract(t.Context(), plain, openRoot(t, dir), "/", ExtractOptions{Limits: small}))
}

func TestHostileH29_ManyGzipMembers(t *testing.T) {
	t.Parallel()
	empty := gz(t, nil)
	blob := append(bytes.Repeat(empty, 100_000), gz(t, sampleTar(t))...)
	start := time.Now()
	must(t, Extract(t.Context(), bytes.NewReader(blob), openRoot(t, t.TempDir()), "/", ExtractOptions{}))
	if time.Since(start) > 10*time.Second {
		t.Errorf("took %v", time.Since(start))
	}
}

// Row H-37: twice the entries take at most 2.5 times as long.
func TestHostileH37_UnpackIsLinear(t *testing.T) {
	if testing.Short() {
		t.Skip("slow")
	}
	shapes := map[string]func(n int) string{
		"whiteouts": func(n int) string {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, "file d/.wh.f%d\n", i)
			}
			return b.String()
		},
		"opaque, content first": func(n int) string {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, "file o%d/x X\nfile o%d/.wh..wh..opq\nfile .wh..wh..opq\n", i, i)
			}
			return b.String()
		},
		"alternating deep paths": func(n int) string {
			var b strings.Builder
			for i := range n {
				fmt.Fprintf(&b, "file %sf%d\nfile g%d\n", strings.Repeat("p/", 20), i, i)
			}
			return b.String()
		},
	}
	for name, shape := range shapes {
		used := func(n int) time.Duration {
			dir := t.TempDir()
			write(t, dir, "d/low", "")
			data := tarOf(t, shape(n))
			start := cpuTime(t)
			_, err := Unpack(t.Context(), bytes.NewReader(data), openRoot(t, dir), UnpackOptions{})
			must(t, err)
			return cpuTime(t) - start
		}
		// 32 times the work: a thousand times the time if it were quadratic. The time is that of this process alone, and a bad
		// measurement is taken again, so other work on the machine does not count.
		var few, many time.Duration
		for range 4 {
			if few, many = used(40), used(1280); many <= 200*few {
				break
			}
		}
		if many > 200*few {
			t.Errorf("%s: %v for n, %v for 32n", name, few, many)
		}
	}
}

// cpuTime is what this process has used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var ru unix.Rusage
	must(t, unix.Getrusage(unix.RUSAGE_SELF, &ru))
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

func TestUnpack_NoProgramIsRun(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"unpigz", "gzip", "xz", "bzip2", "zstd", "tar"} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\ntouch "+dir+"/was-run\n"), 0o755))
	}
	t.Setenv("PATH", dir)
	must(t, Extract(t.Context(), bytes.NewReader(gz(t, sampleTar(t))), openRoot(t, t.TempDir()), "/", ExtractOptions{}))
	if _, err := os.Stat(filepath.Join(dir, "was-run")); err == nil {
		t.Error("a program from PATH was run")
	}
}
