package sandbox

import (
	"context"
	"os"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// SPEED row S3 is the ratio of these two, read in one run:
//
//	go test ./sandbox -run - -bench 'RunTrue|RawFloor' -benchtime 50x -count 6
func BenchmarkRunTrue(b *testing.B) {
	f := newFixture(b, Config{StubDir: newDir(b, b.TempDir())})
	f.Prepare(NetworkHost)
	for b.Loop() {
		s := f.spec(b, "")
		s.Args, s.Network = []string{"/bin/true"}, NetworkHost
		if res, err := f.Run(context.Background(), s); err != nil || res.ExitCode != 0 {
			b.Fatal(res, err)
		}
	}
}

// BenchmarkRawFloor is the least that a sandboxed command can cost in Go: namespaces, an overlay, pivot_root and exec, from a
// locked thread that is thrown away, without an init, /proc, /dev, a filter or limits.
func BenchmarkRawFloor(b *testing.B) {
	f := newFixture(b, Config{})
	for b.Loop() {
		s := f.spec(b, "")
		done := make(chan error, 1)
		go func() { done <- rawRun(&s) }()
		must(b, <-done)
	}
}

func rawRun(s *Spec) error {
	runtime.LockOSThread()
	flags := unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP
	if err := unix.Unshare(flags); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	options := "lowerdir=" + s.Lower[0] + ",upperdir=" + s.Upper + ",workdir=" + s.Work + ",volatile"
	if err := unix.Mount("overlay", s.Upper, "overlay", 0, options); err != nil {
		return err
	}
	if err := unix.Chdir(s.Upper); err != nil {
		return err
	}
	if err := pivotHere(); err != nil {
		return err
	}
	p, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{Env: []string{}, Sys: &syscall.SysProcAttr{}})
	if err != nil {
		return err
	}
	_, err = p.Wait()
	return err
}
