package sandbox

import (
	"runtime"
	"strings"
	"testing"
)

// A shell that was attached is held by the walls of its step: the same attacks, started in it, find none open.
//
// hostile: H68 H69 H71 H72 H73
func TestHostileH68H69H71H73_AnAttachedShell(t *testing.T) {
	t.Parallel()
	f := attacked(t, Config{})
	canary := f.guard(t)
	for _, user := range []string{"", "app"} {
		s := f.spec(t, waiting)
		s.User = user
		r := f.wait(t, s)
		out, _ := r.attach(r.attachment(`/bin/attack self | grep -v 'sees the process [0-9]*$'; /bin/attack chroot | tail -n 1
cat /proc/*/root` + canary.Dir + `/etc/shadow /proc/*/cwd/../../../../..` + canary.Dir + `/etc/passwd 2>/dev/null && echo BAD
for fd in /proc/self/fd/*; do case $(readlink $fd) in pipe:*|/proc/*|"") ;; *) echo BAD $fd $(readlink $fd);; esac; done
ls /proc | grep -E '^[0-9]+$' | while read p; do case $(cat /proc/$p/comm 2>/dev/null) in *attach*) echo BAD the helper is seen;; esac; done
(mount -t tmpfs x /tmp || unshare -m true || unshare -U true || echo x >/proc/sys/kernel/hostname || mknod /tmp/d b 7 0 && cat /tmp/d) 2>/dev/null && echo BAD; echo end`))
		if out != "done\ndone\nend\n" {
			t.Errorf("user %q: %s", user, out)
		}
		r.stop()
	}
}

// A step that may trace others sees no process that has more than the shell: what enters the step has given it up before. It stops
// whatever appears as soon as it does, and looks at it.
//
// hostile: H71
func TestHostileH71_WhatEntersAStepHasNoMoreThanTheStep(t *testing.T) {
	t.Parallel()
	if runtime.GOARCH != "amd64" {
		t.Skip("the attack program has the call numbers of x86_64")
	}
	f := attacked(t, Config{})
	s := f.spec(t, "")
	s.Args = []string{"/bin/attack", "ambush"}
	s.AddCaps = []string{"SYS_PTRACE"}
	var out strings.Builder
	s.Stderr = &out
	r := f.wait(t, s)
	for range 20 {
		if got, _ := r.attach(r.attachment("echo in")); got != "in\n" {
			t.Error(got)
		}
	}
	r.stop()
	if said := out.String(); !strings.Contains(said, "met ") || strings.Contains(said, "BAD") {
		t.Error(said)
	}
}
