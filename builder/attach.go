package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"gobuild/internal/atomicfile"
	"gobuild/sandbox"
	"gobuild/snapshot"
	"gobuild/stages"
)

// AttachOptions open a shell in a step that runs, of this process or another one with the same state directory (FEATURES P3).
type AttachOptions struct {
	Step    string // the process number of its init, or its number, STAGE:NUMBER or :LINE, all as Running has them
	Secrets bool   // a step that has secrets or agents may be entered, and the shell has its secret variables
	Busybox string // path of a static busybox, for images without a shell; "" is none
	// Console says what the shell reads and writes. It is called when the step was found.
	Console func(*RunningStep) (Console, error)
	Notice  func(string)
}

// Attach enters a step, and gives the exit code of the shell. What is done there is done to the step, whose result is then in no cache.
func (b *Builder) Attach(ctx context.Context, opt AttachOptions) (code int, err error) {
	found, err := b.findRunning(opt.Step)
	if err != nil {
		return 0, classify(err, CategoryEnvironment)
	}
	step, entry := found.step, found.entry
	if entry == nil {
		return 0, classify(fmt.Errorf("enter step %s: its build has not recorded what a shell there needs to know, which is more than %d bytes", opt.Step, maxEntry), CategoryEnvironment)
	}
	if entry.Emulated {
		return 0, classify(&hinted{err: fmt.Errorf("step %s runs under an emulator of its build's own, and cannot be entered", opt.Step), hint: emulatorRemedy}, CategoryEnvironment)
	}
	if entry.Secrets && !opt.Secrets {
		return 0, classify(usage{&hinted{err: fmt.Errorf("step %s has secrets or an SSH agent, which a shell in it can read", opt.Step), hint: "give --with-secrets, too"}}, CategoryUsage)
	}
	// Before the shell is there: the build looks when the step is over, and with it the shell.
	mark := filepath.Join(b.runningDir(), found.build+markOf(step.Pid))
	if err := atomicfile.Write(mark, nil, atomicfile.Options{}); err != nil {
		return 0, classify(err, CategoryEnvironment)
	}
	console, err := opt.Console(step)
	if err != nil {
		return 0, err
	}
	res, err := sandbox.Attach(ctx, sandbox.AttachSpec{
		Entry: entry.Entry, Pid: step.Pid, StartTime: step.StartTime, Secrets: opt.Secrets, Busybox: opt.Busybox,
		Terminal: console.Terminal, Stdin: console.Stdin, Stdout: console.Stdout, Stderr: console.Stderr, Notice: opt.Notice,
	})
	if errors.Is(err, sandbox.ErrUnsupported) && opt.Busybox == "" {
		err = &Error{Category: CategoryEnvironment, Err: err, Hint: "install busybox-static"}
	}
	if err = errors.Join(err, console.Close(res.ExitCode)); err != nil {
		return 0, classify(err, CategoryEnvironment)
	}
	if res.StepEnded {
		opt.Notice("the step has ended, and the shell with it")
	}
	return res.ExitCode, nil
}

// runningEntry is what a build records of a step for those who enter it.
type runningEntry struct {
	sandbox.Entry
	Secrets  bool // it has secrets or agents, in whatever form
	Emulated bool `json:",omitempty"` // it is in a user namespace that its init is not in
}

// runningFile is what a build keeps of itself while it goes on.
type runningFile struct {
	RunningBuild
	Entries map[int]*runningEntry `json:"entries,omitempty"` // by process number
}

// entryOf is that of a step. A variable whose value must not be shown is not recorded either.
func (r *register) entryOf(spec *sandbox.Spec, kinds map[int]stages.MountType) *runningEntry {
	e := &runningEntry{Entry: spec.Entry(), Secrets: len(spec.SecretEnv) > 0, Emulated: spec.Emulation != nil}
	for _, kind := range kinds {
		e.Secrets = e.Secrets || kind == stages.MountSecret || kind == stages.MountSSH
	}
	size := len(e.Privileges.Seccomp)
	e.Env = nil
	for _, kv := range spec.Env {
		if size += len(kv); r.mask(kv) == kv {
			e.Env = append(e.Env, kv)
			continue
		}
		name, _, _ := strings.Cut(kv, "=")
		e.SecretNames = append(e.SecretNames, name)
	}
	if size > maxEntry {
		return nil
	}
	return e
}

// maxEntry bounds what is recorded of one step. Most environments have some hundred bytes.
const maxEntry = 256 << 10

// markOf ends the name of a file that says that a step was entered.
func markOf(pid int) string { return ".entered-" + strconv.Itoa(pid) }

// entered says whether somebody was in a step, which is over.
func (r *register) entered(info *StepInfo) bool {
	if r == nil || info == nil {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.build.Steps {
		s := &r.build.Steps[i]
		if s.Pid == 0 || !s.is(info) {
			continue
		}
		if _, err := os.Lstat(r.path(markOf(s.Pid))); !errors.Is(err, fs.ErrNotExist) {
			return true // or nobody knows
		}
	}
	return false
}

// removeMarks removes those of a build.
func removeMarks(build string) error {
	marks, err := filepath.Glob(build + markOf(0)[:len(markOf(0))-1] + "*")
	for _, mark := range marks {
		if e := os.Remove(mark); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	return err
}

// keepEntered keeps what a step gave that somebody was in, for this build alone: under a key that is made by chance, so that what is
// done on top of it is found by no other build either.
func (sr *stageRun) keepEntered(job *job, work *snapshot.Work, rec stepRecord, out outcome) (outcome, error) {
	sr.notice("a step that was entered by gobuild debug --attach is not kept in the cache, and neither is what follows it")
	if _, err := sr.hasLayer(rec.ID); err != nil {
		return out, err
	}
	if err := work.Commit(rec.ID); err != nil {
		return out, err
	}
	out.key = digest.FromString(string(out.key) + " entered " + string(rec.ID))
	out.layer = &fsLayer{id: rec.ID, created: rec.Created, bytes: rec.Bytes, alone: job.alone}
	return out, nil
}

// foundStep is a step that runs, and what its build, which has this name, recorded of it.
type foundStep struct {
	build string
	step  *RunningStep
	entry *runningEntry
}

// findRunning finds the one step that a word names. A number is that of a process if there is one with it.
func (b *Builder) findRunning(word string) (*foundStep, error) {
	files, err := b.runningFiles()
	if err != nil {
		return nil, err
	}
	var byPid, byPlace []*foundStep
	elsewhere := false
	for i := range files {
		f := &files[i]
		elsewhere = elsewhere || f.Elsewhere && len(f.Steps) > 0
		for j := range f.Steps {
			s := &f.Steps[j]
			if s.Pid == 0 || f.Elsewhere {
				continue
			}
			found := &foundStep{f.ID, s, f.Entries[s.Pid]}
			if word == strconv.Itoa(s.Pid) {
				byPid = append(byPid, found)
			} else if s.called(word) {
				byPlace = append(byPlace, found)
			}
		}
	}
	list := byPid
	if len(list) == 0 {
		list = byPlace
	}
	switch len(list) {
	case 1:
		return list[0], nil
	case 0:
		if elsewhere {
			return nil, &hinted{err: fmt.Errorf("no step %s runs in this pid namespace, but builds go on in another one", word), hint: "run gobuild debug in the container of the build"}
		}
		return nil, usage{&hinted{err: fmt.Errorf("no step %s runs", word), hint: "gobuild ps lists the steps that run: name one by its process number, or as NUMBER, STAGE:NUMBER or :LINE"}}
	}
	slices.SortFunc(list, func(x, y *foundStep) int { return cmp.Compare(x.step.Pid, y.step.Pid) })
	var pids []string
	for _, f := range list {
		pids = append(pids, strconv.Itoa(f.step.Pid))
	}
	return nil, usage{&hinted{err: fmt.Errorf("%d steps that run are called %s", len(list), word), hint: "name one by its process number: " + strings.Join(pids, ", ")}}
}

// called says whether a step is meant by NUMBER, STAGE:NUMBER or :LINE.
func (s *RunningStep) called(word string) bool {
	stage, number, named := strings.Cut(word, ":")
	if !named {
		stage, number = "", stage
	}
	n, err := strconv.Atoi(number)
	switch {
	case err != nil || n <= 0:
		return false
	case named && stage == "":
		return s.Line == n
	}
	return s.Number == n && (stage == "" || strings.EqualFold(stage, s.Stage))
}
