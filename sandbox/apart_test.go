package sandbox

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/treetest"
)

// A step that may mount takes its own root apart, in each way that there is: nothing of that is seen outside, and the step ends as others.
func TestHostileH68_AStepThatTakesItsRootApart(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	f.guard(t)
	mark := "mark-" + filepath.Base(filepath.Dir(f.dir)) // as the source of its mounts
	for name, script := range map[string]string{
		"root under another": `mkdir /n && mount -t tmpfs $M /n && cp -a /bin /n/ && mkdir /n/old && cd /n && pivot_root . old && mount --make-rshared / && umount -l /old/proc /old/sys /old/dev
echo fine > /old/made; umount -l /old`,
		"root unmounted":   `echo fine > /made; umount -l /proc; umount -l /sys; umount -l /dev; umount -l /; mount -t tmpfs $M /`,
		"root covered":     `echo fine > /made; mkdir /m && mount -t tmpfs $M /m && mount --bind / /m && mount -t tmpfs $M / && mount --make-rshared /`,
		"proc replaced":    `echo fine > /made; umount -l /proc; mount -t tmpfs $M /proc; mkdir /proc/self /proc/1; mount -t proc $M /proc && mount -t sysfs $M /sys`,
		"root read-only":   `echo fine > /made; mount -o remount,ro / && ! echo x 2>/dev/null > /made && mount --make-rshared /`,
		"names":            `echo fine > /made; hostname evil && [ $(hostname) = evil ]; mount --make-rshared /; for i in 1 2 3 4 5; do mount --bind /bin /bin; done`,
		"mount point gone": `echo fine > /made; umount -l /etc/hosts; rm -f /etc/hosts; umount -l /t/a; rmdir /t/a && ln -s /proc/1/root /t/a`,
	} {
		t.Run(name, func(t *testing.T) {
			s := f.spec(t, script+"\nexit 7")
			s.Insecure, s.Env = true, []string{"M=" + mark}
			s.Mounts = []Mount{{Type: MountTmpfs, Target: "/t/a"}}
			if out, res := f.sh(t, s); res.ExitCode != 7 {
				t.Errorf("%+v: %s", res, out)
			}
			if data, err := os.ReadFile(filepath.Join(s.Upper, "made")); err != nil || string(data) != "fine\n" {
				t.Errorf("in its layer: %q, %v", data, err)
			}
			assertGone(t, s)
			if left := treetest.Traces(mark); len(left) > 0 {
				t.Errorf("its mounts are seen by %q", left)
			}
		})
	}
}

// What overlays obey can be made by no step, so that no layer hides or leads to what is below it.
func TestHostileH38_AStepMakesNothingThatOverlaysObey(t *testing.T) {
	t.Parallel()
	f := attacked(t, Config{})
	must(t, os.MkdirAll(filepath.Join(f.lower, "d/sub"), 0o755))
	must(t, os.WriteFile(filepath.Join(f.lower, "d/file"), []byte("below\n"), 0o644))
	s := f.spec(t, "")
	out, _ := f.attack(t, s, "overlay")
	if out != "done\n" {
		t.Error(out)
	}
	next := f.spec(t, "ls /d; cat /d/file; [ -d /d/sub ] && echo sub")
	next.Lower = []string{s.Upper, f.lower}
	if out, _ := f.sh(t, next); out != "file\nmine\nsub\nbelow\nsub\n" {
		t.Errorf("the next step sees %q", out)
	}
}

// A command that has stopped itself, or takes no notice of TERM, is killed when the step is cancelled.
func TestHostileH77_CancelEndsWhatDoesNotListen(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{KillDelay: time.Millisecond})
	f.guard(t)
	for name, script := range map[string]string{
		"stopped": "echo up; kill -STOP $$", "deaf": "trap '' TERM INT HUP; echo up; while :; do :; done", "loud": "trap '' TERM; echo up; yes",
		"deaf children": "trap '' TERM; echo up; setsid sleep 1000 & setsid sh -c 'while :; do :; done' & wait; sleep 1000", "closed": "trap '' TERM; echo up; exec >&- 2>&- <&-; while :; do :; done",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := f.spec(t, script)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s.Stdout = writerFunc(func(p []byte) (int, error) {
				if strings.HasPrefix(string(p), "up") {
					cancel()
				}
				return len(p), nil
			})
			if _, err := f.Run(ctx, s); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			assertGone(t, s)
		})
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A step that sets limits of its init, or another priority, loses itself at most.
func TestHostileH77_LimitsOfTheInit(t *testing.T) {
	t.Parallel()
	f := attacked(t, Config{})
	if out, res := f.attack(t, f.spec(t, ""), "init"); !strings.HasSuffix(out, "done\n") || res.ExitCode != 0 {
		t.Errorf("%s, %+v", out, res)
	}
	var l unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &l))
	if l.Cur < 16 {
		t.Errorf("this process may have %d descriptors", l.Cur)
	}
	if out, _ := f.sh(t, f.spec(t, "echo the next works")); out != "the next works\n" {
		t.Error(out)
	}
}
