package builder

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"gobuild/sandbox"
)

// Two builds of one state directory are listed with what they do; what a killed one left is removed by whoever looks.
func TestN9_RunningBuildsAreThoseWhoseLockIsHeld(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\n", nil)
	b := p.builder()
	defer b.Close()
	var live []*register
	for i, name := range []string{"one", "two"} {
		bd := b.newBuild(Options{Context: filepath.Join(p.dir, name)})
		bd.begun = time.Unix(int64(100+i), 0)
		bd.rec = newRecorder(bd)
		bd.rec.hide([]byte("hunter2"))
		bd.live = newRegister(context.WithoutCancel(t.Context()), bd)
		bd.live.write()
		live = append(live, bd.live)
	}
	info := &StepInfo{Stage: "s", Number: 1, Total: 2, Text: "RUN echo hunter2", Line: 7}
	done := live[0].step(info)
	if first, later := (&register{}).delay(), live[0].delay(); first >= later {
		t.Errorf("the first change waits %v, those after it %v", first, later)
	}
	live[0].started(info, os.Getpid(), &sandbox.Spec{}, nil)
	live[0].write()
	list := running(t, b)
	if len(list) != 2 || len(list[0].Steps) != 1 || len(list[1].Steps) != 0 || list[0].Pid != os.Getpid() || list[0].Elsewhere {
		t.Fatalf("listed: %+v", list)
	}
	s := list[0].Steps[0]
	if s.Text != "RUN echo ***" || s.Line != 7 || s.Pids < 1 || s.Memory < 1<<20 || s.StartTime != sandbox.StartTime(os.Getpid()) {
		t.Errorf("the step: %+v", s)
	}
	live[0].mu.Lock()
	live[0].build.Steps[0].StartTime++ // as if the number had passed on to another process
	live[0].mu.Unlock()
	live[0].write()
	if s := running(t, b)[0].Steps[0]; s.Pid != 0 || s.Namespaces != nil {
		t.Errorf("a process of another time is shown: %+v", s)
	}
	done()
	must(t, live[0].lock.Release()) // as the kernel does when a process is killed
	if list = running(t, b); len(list) != 1 || list[0].ID != live[1].build.ID {
		t.Errorf("after one was killed: %+v", list)
	}
	live[1].close()
	if list = running(t, b); len(list) != 0 {
		t.Errorf("after both ended: %+v", list)
	}
	left, err := os.ReadDir(b.runningDir())
	must(t, err)
	if len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func running(t *testing.T, b *Builder) []RunningBuild {
	t.Helper()
	list, err := b.Running()
	must(t, err)
	return list
}
