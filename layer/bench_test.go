package layer

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// spent is wall clock and processor time. On a machine with other work the
// second is what can be compared: processes get a larger share by having more
// threads.
type spent struct{ wall, cpu time.Duration }

func now(b *testing.B) spent {
	b.Helper()
	s := spent{wall: time.Duration(time.Now().UnixNano())}
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		must(b, unix.Getrusage(who, &u))
		s.cpu += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return s
}

func (s *spent) add(b *testing.B, start spent) {
	b.Helper()
	end := now(b)
	s.wall += end.wall - start.wall
	s.cpu += end.cpu - start.cpu
}

func (s *spent) report(b *testing.B, floor spent) {
	b.Helper()
	b.ReportMetric(s.wall.Seconds()/floor.wall.Seconds(), "wall/floor")
	b.ReportMetric(s.cpu.Seconds()/floor.cpu.Seconds(), "cpu/floor")
}

// The floor of SPEED S4: GNU tar into pigz over the same files. Both are run in
// each iteration, and their ratio is what counts on a busy machine.
func BenchmarkPackSmallFiles(b *testing.B) {
	for _, tool := range []string{"tar", "pigz"} {
		if _, err := exec.LookPath(tool); err != nil {
			b.Skipf("needs %s", tool)
		}
	}
	dir := manyFiles(b, 30_000, 100)
	root := openRoot(b, dir)
	var ours, floor spent
	var size, floorSize int64
	for b.Loop() {
		start := now(b)
		out, err := exec.CommandContext(b.Context(), "sh", "-c", `tar -cf - -C "$0" . | pigz | wc -c`, dir).Output()
		must(b, err)
		floor.add(b, start)
		n, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
		must(b, err)
		floorSize += n
		start = now(b)
		p, err := Pack(b.Context(), io.Discard, root, nil, PackOptions{})
		must(b, err)
		ours.add(b, start)
		size += p.Size
		b.SetBytes(p.TarSize)
	}
	ours.report(b, floor)
	b.ReportMetric(float64(size)/float64(floorSize), "size/floor")
}

// S11: unpacking against pigz -d | tar -x.
func BenchmarkUnpack(b *testing.B) {
	for _, tool := range []string{"tar", "pigz"} {
		if _, err := exec.LookPath(tool); err != nil {
			b.Skipf("needs %s", tool)
		}
	}
	var blob bytes.Buffer
	p, err := Pack(b.Context(), &blob, openRoot(b, manyFiles(b, 20_000, 100)), nil, PackOptions{})
	must(b, err)
	b.SetBytes(p.TarSize)
	var ours, floor spent
	for b.Loop() {
		dir := b.TempDir()
		start := now(b)
		cmd := exec.CommandContext(b.Context(), "sh", "-c", `pigz -d | tar -xpf - -C "$0"`, dir)
		cmd.Stdin = bytes.NewReader(blob.Bytes())
		must(b, cmd.Run())
		floor.add(b, start)
		must(b, os.RemoveAll(dir))
		dir = b.TempDir()
		start = now(b)
		_, err := Unpack(b.Context(), bytes.NewReader(blob.Bytes()), openRoot(b, dir), UnpackOptions{})
		must(b, err)
		ours.add(b, start)
		must(b, os.RemoveAll(dir))
	}
	ours.report(b, floor)
}

// The walk, headers and reading without compression.
func BenchmarkPackUncompressed(b *testing.B) {
	dir := manyFiles(b, 10_000, 100)
	root := openRoot(b, dir)
	b.ReportAllocs()
	for b.Loop() {
		p, err := Pack(b.Context(), io.Discard, root, nil, PackOptions{Compression: None})
		must(b, err)
		b.SetBytes(p.TarSize)
	}
}
