package builder

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"gobuild/internal/atomicfile"
	"gobuild/internal/filelock"
	"gobuild/sandbox"
	"gobuild/stages"
)

// RunningBuild is a build that goes on, of this process or another one with the same state directory.
type RunningBuild struct {
	ID      string    `json:"id"` // of its record in the history, once it has ended
	Pid     int       `json:"pid"`
	Project string    `json:"project"`
	Context string    `json:"context,omitempty"`
	Target  string    `json:"target,omitempty"`
	Begun   time.Time `json:"begun"`
	// PidNamespace tells where the process numbers count: builds in several containers may share a state directory.
	PidNamespace uint64        `json:"pidNamespace"`
	Elsewhere    bool          `json:"elsewhere,omitempty"` // in another pid namespace: its steps cannot be looked at from here
	Steps        []RunningStep `json:"steps"`
}

// RunningStep is a step that is being done.
type RunningStep struct {
	Stage    string    `json:"stage"`
	Number   int       `json:"number"`
	Total    int       `json:"total"`
	Line     int       `json:"line"`
	Platform string    `json:"platform,omitempty"` // where the build is for several
	Text     string    `json:"text"`
	Begun    time.Time `json:"begun"`

	// Of a RUN whose command has begun.
	Pid        int               `json:"pid,omitempty"` // of its init
	StartTime  uint64            `json:"startTime,omitempty"`
	Namespaces map[string]uint64 `json:"namespaces,omitempty"` // inode numbers by name
	Cgroup     string            `json:"cgroup,omitempty"`
	Pids       int               `json:"pids,omitempty"`
	Memory     int64             `json:"memoryBytes,omitempty"`
}

// A running build is a file with what it does, and one that is locked as long as its process lives.
const (
	runningLock = ".lock"
	runningData = ".json"
)

// maxRunningFile bounds one such file: hundreds of steps at once, each with the longest instruction that is kept.
const maxRunningFile = 4 << 20

// maxRunningText is how much of an instruction is kept.
const maxRunningText = 4 << 10

func (b *Builder) runningDir() string { return filepath.Join(b.cfg.Root, "running") }

// register keeps the file of one running build.
type register struct {
	dir    string
	lock   *filelock.File
	now    func() time.Time
	mask   func(string) string
	notice func(string)

	mu     sync.Mutex
	build  RunningBuild
	inside map[int]*runningEntry // of its steps' processes
	soon   *time.Timer           // to write what has changed; nil: nothing has
	shown  bool                  // written once
	closed bool
	broken bool
}

// showDelay is how long a change may wait to be written: what is over sooner, such as a build that finds all in its cache, costs no write.
// Later changes wait longer: each write makes a file and removes one, which short steps would wait for.
const (
	showDelay = 50 * time.Millisecond
	showAgain = 250 * time.Millisecond
)

// newRegister makes the build visible to others. A build does not fail because that cannot be done: nil then does nothing.
func newRegister(ctx context.Context, bd *build) *register {
	r := &register{dir: bd.runningDir(), now: bd.cfg.Now, mask: bd.rec.mask, notice: bd.notice, inside: map[int]*runningEntry{}}
	r.build = RunningBuild{
		ID: bd.rec.id, Pid: os.Getpid(), Context: bd.folder(), Target: bd.opt.Target, Begun: bd.begun.UTC(), Steps: []RunningStep{},
	}
	err := atomicfile.Mkdir(r.dir)
	if err == nil {
		r.build.PidNamespace, err = sandbox.OwnNamespace("pid")
	}
	if err == nil {
		r.lock, err = filelock.Lock(ctx, r.path(runningLock), filelock.Exclusive, nil)
	}
	if err != nil {
		r.fail(err)
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changed()
	return r
}

func (r *register) path(ending string) string { return filepath.Join(r.dir, r.build.ID+ending) }

func (r *register) fail(err error) {
	r.notice("this build is not shown by gobuild ps: " + err.Error())
}

// changed has the file written soon; r.mu is held.
func (r *register) changed() {
	if r.soon == nil {
		r.soon = time.AfterFunc(r.delay(), r.write)
	}
}

// delay is how long the next change waits; r.mu is held.
func (r *register) delay() time.Duration {
	if r.shown {
		return showAgain
	}
	return showDelay
}

// write replaces the file. After an error no more is tried: it would come with each step.
func (r *register) write() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.soon, r.shown = nil, true
	if r.broken || r.closed {
		return
	}
	data, err := json.Marshal(runningFile{r.build, r.inside})
	if err == nil {
		err = atomicfile.Write(r.path(runningData), data, atomicfile.Options{})
	}
	if err != nil {
		r.broken = true
		r.fail(err)
	}
}

// read notes what is known once the Dockerfile and the context are there.
func (r *register) read(project, folder string) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.build.Project, r.build.Context = project, folder
	r.changed()
}

// step notes a step that is being done, until the returned function is called.
func (r *register) step(info *StepInfo) (done func()) {
	if r == nil || info == nil {
		return func() {}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	text := r.mask(info.Text)
	r.build.Steps = append(r.build.Steps, RunningStep{
		Stage: info.Stage, Number: info.Number, Total: info.Total, Line: info.Line, Platform: info.Platform, Text: text[:min(len(text), maxRunningText)], Begun: r.now().UTC(),
	})
	r.changed()
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.build.Steps = slices.DeleteFunc(r.build.Steps, func(s RunningStep) bool {
			if s.is(info) {
				delete(r.inside, s.Pid)
			}
			return s.is(info)
		})
		r.changed()
	}
}

func (s *RunningStep) is(info *StepInfo) bool {
	return s.Stage == info.Stage && s.Number == info.Number && s.Line == info.Line && s.Platform == info.Platform
}

// started notes the process of a RUN, and what a shell in it needs to know.
func (r *register) started(info *StepInfo, pid int, spec *sandbox.Spec, kinds map[int]stages.MountType) {
	if r == nil || info == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.build.Steps {
		if s := &r.build.Steps[i]; s.is(info) {
			s.Pid, s.StartTime = pid, sandbox.StartTime(pid)
			if e := r.entryOf(spec, kinds); e != nil {
				r.inside[pid] = e
			}
		}
	}
	r.changed()
}

// close takes the build off the list.
func (r *register) close() {
	if r == nil {
		return
	}
	r.mu.Lock()
	r.closed = true
	if r.soon != nil {
		r.soon.Stop()
	}
	r.mu.Unlock()
	err := os.Remove(r.path(runningData))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err = errors.Join(err, removeMarks(r.path("")), r.lock.Remove()); err != nil {
		r.notice("the entry of this build for gobuild ps could not be removed: " + err.Error())
	}
}

// Running lists the builds that go on with this state directory, the oldest first, and removes what killed ones left.
func (b *Builder) Running() ([]RunningBuild, error) {
	files, err := b.runningFiles()
	if err != nil {
		return nil, classify(err, CategoryEnvironment)
	}
	var list []RunningBuild
	for i := range files {
		list = append(list, files[i].RunningBuild)
	}
	return list, nil
}

func (b *Builder) runningFiles() ([]runningFile, error) {
	names, err := os.ReadDir(b.runningDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := atomicfile.Sweep(b.runningDir()); err != nil {
		return nil, err
	}
	here, err := sandbox.OwnNamespace("pid")
	if err != nil {
		return nil, err
	}
	var list []runningFile
	for _, e := range names {
		id, ok := strings.CutSuffix(e.Name(), runningLock)
		if !ok || atomicfile.IsTemp(e.Name()) {
			continue
		}
		found, ok, err := b.runningBuild(id)
		if err != nil {
			return nil, err
		}
		if ok {
			found.Elsewhere = found.PidNamespace != here
			found.inspect()
			list = append(list, found)
		}
	}
	slices.SortFunc(list, func(x, y runningFile) int {
		return cmp.Or(x.Begun.Compare(y.Begun), strings.Compare(x.ID, y.ID))
	})
	return list, nil
}

// runningBuild reads one build, or removes it if nobody holds its lock: its process has ended.
func (b *Builder) runningBuild(id string) (found runningFile, ok bool, err error) {
	path := filepath.Join(b.runningDir(), id)
	lock, err := filelock.TryLock(path+runningLock, filelock.Exclusive)
	if err == nil {
		if err := os.Remove(path + runningData); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return found, false, errors.Join(err, lock.Release())
		}
		return found, false, errors.Join(removeMarks(path), lock.Remove())
	}
	if !errors.Is(err, filelock.ErrHeld) {
		return found, false, err
	}
	f, err := os.Open(path + runningData)
	if errors.Is(err, fs.ErrNotExist) {
		return found, false, nil // it has just begun, or just ended
	}
	if err != nil {
		return found, false, err
	}
	defer f.Close() // read only
	data, err := io.ReadAll(io.LimitReader(f, maxRunningFile))
	if err != nil {
		return found, false, err
	}
	if json.Unmarshal(data, &found) != nil || found.ID != id {
		return found, false, nil // of another version
	}
	return found, true, nil
}

// inspect asks the kernel about the steps. One that has ended meanwhile has nothing to tell.
func (r *RunningBuild) inspect() {
	for i := range r.Steps {
		s := &r.Steps[i]
		if s.Pid == 0 || r.Elsewhere {
			continue
		}
		p, err := sandbox.Inspect(s.Pid)
		if err != nil || s.StartTime == 0 || sandbox.StartTime(s.Pid) != s.StartTime { // asked last: the number had not passed on
			s.Pid, s.StartTime = 0, 0
			continue
		}
		s.Namespaces, s.Cgroup, s.Pids, s.Memory = p.Namespaces, p.Cgroup, p.Pids, p.Memory
	}
}
