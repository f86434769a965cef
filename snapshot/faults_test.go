package snapshot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// childSteps makes layer 2 above layers 0 and 1, and removes layer 3.
func childSteps(dir string) {
	s, err := Open(dir)
	step(err)
	release, err := s.Pin(id(0), id(1))
	step(err)
	defer release()
	w, err := s.New([]ID{id(0), id(1)})
	step(err)
	r, err := w.Root()
	step(err)
	fd, err := unix.Openat(int(r.File().Fd()), "two", unix.O_CREAT|unix.O_WRONLY, 0o644)
	step(err)
	_, err = unix.Write(fd, []byte("2"))
	step(errors.Join(err, unix.Close(fd)))
	step(w.Commit(id(2)))
	step(s.Remove(id(3)))
	step(s.Sync(context.Background()))
	os.Exit(0)
}

func TestHostileF01_KilledAtEachCall(t *testing.T) {
	needOverlay(t)
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("strace is not installed")
	}
	before := mounts(t)
	for _, call := range []string{
		"mkdirat", "openat", "flock", "fcntl", "write", "fchmod", "renameat", "unlinkat", "fsopen", "fsconfig", "fsmount", "syncfs",
	} {
		n := 1
		for ; ; n++ {
			s := open(t)
			commit(t, s, nil, id(0), []string{"f zero 0"})
			commit(t, s, nil, id(1), []string{"f one 1"})
			commit(t, s, nil, id(3), []string{"d a", "f a/b x"})
			cmd := exec.Command(strace, "-f", "-qq", "-o", "/dev/null", "-e", "trace="+call,
				"-e", fmt.Sprintf("inject=%s:signal=KILL:when=%d", call, n), os.Args[0], s.dir)
			cmd.Env = append(os.Environ(), childEnv+"=steps", "GOMAXPROCS=1")
			out, err := cmd.CombinedOutput()
			if err != nil && !strings.Contains(err.Error(), "killed") {
				t.Skipf("strace: %v: %s", err, out)
			}
			afterKill(t, s, fmt.Sprintf("%s %d", call, n))
			if err == nil {
				break // it got through: there is no nth call
			}
		}
		if n == 1 {
			t.Errorf("no %s was hit: the test tests nothing", call)
		}
	}
	if after := mounts(t); after != before {
		t.Errorf("mount table changed:\n%s", after)
	}
}

// afterKill wants a store in which layer 2 is whole or absent and nothing is left after a sweep.
func afterKill(t *testing.T, s *Store, when string) {
	t.Helper()
	must(t, s.Close())
	must(t, s.Sweep(context.Background()))
	if left := entries(t, s.workDir()); len(left) != 0 {
		t.Errorf("%s: left %v", when, left)
	}
	if !s.Has(id(0)) || !s.Has(id(1)) {
		t.Errorf("%s: a layer was lost", when)
	}
	if !s.Has(id(2)) {
		commit(t, s, []ID{id(0), id(1)}, id(2), []string{"f two 2"})
	}
	r, err := s.View([]ID{id(0), id(1), id(2)})
	must(t, err)
	wantTree(t, r, "one=1", "two=2", "zero=0")
	must(t, r.Close())
	must(t, s.Sync(t.Context()))
	for n := range 4 {
		must(t, s.Remove(id(n)))
	}
}

func TestHostileF22_SweepersCommittersAndRemoversAtOnce(t *testing.T) {
	s := open(t)
	stop := make(chan struct{})
	var committers, sweepers sync.WaitGroup
	for range 2 {
		sweepers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.Sweep(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for g := range 4 {
		committers.Go(func() {
			for i := range 60 {
				if err := lifeOfALayer(s, id(g*1000+i), i); err != nil {
					t.Error(err)
				}
			}
		})
	}
	committers.Wait()
	close(stop)
	sweepers.Wait()
	must(t, s.Close())
	if left := entries(t, s.workDir()); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func lifeOfALayer(s *Store, l ID, i int) error {
	w, err := s.New(nil)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(w.upper(), "f"), []byte("x"), 0o600); err != nil {
		return err
	}
	if i%3 == 0 {
		return w.Discard()
	}
	if err := w.Commit(l); err != nil {
		return err
	}
	release, err := s.Pin(l)
	if err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(s.Dir(l), "f")); err != nil {
		return err
	}
	release()
	if i%3 == 1 {
		return s.Remove(l)
	}
	return nil
}

// childFull runs in a mount namespace of its own, on a disk that gets full at each stage of a layer's life in turn.
func childFull(dir string) {
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m,nr_inodes=60"); err != nil {
		fmt.Println("mount:", err)
		os.Exit(2)
	}
	s, err := Open(filepath.Join(dir, "s"))
	step(err)
	w, err := s.New(nil)
	step(err)
	step(w.Commit(id(0)))
	hog := filepath.Join(dir, "hog")
	step(os.Mkdir(hog, 0o700))
	full := 0
	for room := range 40 { // that many inodes left
		step(os.RemoveAll(hog))
		step(os.Mkdir(hog, 0o700))
		var st unix.Statfs_t
		step(unix.Statfs(dir, &st))
		for i := range int(st.Ffree) - room {
			step(os.WriteFile(filepath.Join(hog, fmt.Sprint(i)), nil, 0o600))
		}
		err := makeLayer(s, id(room+1))
		switch {
		case errors.Is(err, unix.ENOSPC):
			full++
		case err != nil:
			step(fmt.Errorf("with %d inodes left: %w", room, err))
		default:
			step(s.Close())
			step(s.Remove(id(room + 1)))
		}
		step(s.Close())
		names, err := os.ReadDir(s.workDir())
		step(err)
		if len(names) != 0 {
			step(fmt.Errorf("with %d inodes left: work stays: %v", room, names))
		}
	}
	if full < 4 || full == 40 {
		step(fmt.Errorf("%d of 40 were full", full))
	}
	os.Exit(0)
}

func makeLayer(s *Store, l ID) error {
	w, err := s.New([]ID{id(0)})
	if err != nil {
		return err
	}
	r, err := w.Root()
	if err == nil {
		err = unix.Mkdirat(int(r.File().Fd()), "d", 0o755)
	}
	if err == nil {
		err = w.Commit(l)
	}
	if err != nil {
		return errors.Join(err, w.Discard())
	}
	return nil
}

func TestHostileF10_NoInodesLeftIsAnErrorAndLeavesNothingBehind(t *testing.T) {
	needOverlay(t)
	out, err := child(t, "full", &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}, t.TempDir())
	var exit *exec.ExitError
	if errors.Is(err, unix.EPERM) || (errors.As(err, &exit) && exit.ExitCode() == 2) {
		t.Skipf("mounts: %v %s", err, out)
	}
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
