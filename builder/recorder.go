package builder

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"gobuild/history"
	"gobuild/internal/lazyre"
)

// recorder collects what one build's record will say (FEATURES P1).
type recorder struct {
	bd  *build
	id  string
	log *history.Log

	last func() history.Record // of the project's last build

	mu     sync.Mutex
	failed []history.Step
	hidden [][]byte // lines of secrets, which the log must not have
}

func newRecorder(bd *build) *recorder {
	r := &recorder{bd: bd, id: bd.builds.NewID()}
	r.log = bd.builds.Log(r.id)
	r.last = sync.OnceValue(r.findLast)
	for name, value := range bd.opt.BuildArgs {
		if secretName(name) {
			r.hide([]byte(value))
		}
	}
	return r
}

// output keeps what a step prints, without the secrets it was given.
func (r *recorder) output(e Event) {
	data := e.Data
	for _, secret := range r.secrets() {
		data = bytes.ReplaceAll(data, secret, []byte(masked))
	}
	r.log.Write(history.Chunk{Line: e.Step.Line, Stream: e.Stream, Data: data})
}

func (r *recorder) secrets() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hidden
}

// mask takes secrets out of a text of the record: a variable's value may stand in an instruction.
func (r *recorder) mask(text string) string {
	if r == nil {
		return text
	}
	for _, secret := range r.secrets() {
		text = strings.ReplaceAll(text, string(secret), masked)
	}
	return text
}

// maskRecord masks every text of a record that may hold a variable's value.
func (r *recorder) maskRecord(rec *history.Record) {
	if len(r.secrets()) == 0 {
		return
	}
	place := func(p *history.Place) {
		if p != nil {
			p.Text = r.mask(p.Text)
		}
	}
	for i := range rec.Steps {
		s := &rec.Steps[i]
		s.Text, s.Reason, s.Causes = r.mask(s.Text), r.mask(s.Reason), slices.Clone(s.Causes)
		if s.Follows != nil {
			p := *s.Follows
			place(&p)
			s.Follows = &p
		}
		for j := range s.Causes {
			c := &s.Causes[j]
			c.Old, c.New, c.Text = r.mask(c.Old), r.mask(c.New), r.mask(c.Text)
		}
	}
	for i := range rec.Warnings {
		rec.Warnings[i] = r.mask(rec.Warnings[i])
	}
	for i := range rec.Arguments {
		rec.Arguments[i] = r.mask(rec.Arguments[i])
	}
	if rec.Error != nil {
		rec.Error.Message, rec.Error.Hint = r.mask(rec.Error.Message), r.mask(rec.Error.Hint)
		place(rec.Error.Step)
	}
}

const (
	shortestSecret = 4    // shorter ones would be found everywhere
	maxHidden      = 4096 // lines of secrets; 500 KiB of key files have fewer
)

// hide keeps a secret that a step prints out of the log. Output comes in lines, so a secret is looked for line by line.
func (r *recorder) hide(secret []byte) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for line := range bytes.Lines(secret) {
		line = bytes.TrimSpace(line)
		if len(line) >= shortestSecret && len(r.hidden) < maxHidden {
			r.hidden = append(r.hidden[:len(r.hidden):len(r.hidden)], line)
		}
	}
}

// lastBuild is the record of the last build of the same Dockerfile and folder; a zero one if there is none.
func (bd *build) lastBuild() history.Record {
	if bd.rec == nil {
		return history.Record{}
	}
	return bd.rec.last()
}

// maxSought is how many builds of other projects are looked through for the last one of this.
const maxSought = 30

func (r *recorder) findLast() history.Record {
	project, folder := r.bd.project(), r.bd.folder()
	var found history.Record
	sought := 0
	// What cannot be read explains nothing.
	_ = r.bd.builds.List(func(rec history.Record) bool {
		if rec.Project == project && rec.Context == folder && len(rec.Steps) > 0 {
			found = rec
		}
		sought++
		return found.ID == "" && sought < maxSought
	})
	return found
}

// folder is the context's place on this machine, "" for one that was made for this build.
func (bd *build) folder() string {
	if bd.unpacked || bd.opt.Context == "" {
		return ""
	}
	abs, err := filepath.Abs(bd.opt.Context)
	if err != nil {
		return ""
	}
	return abs
}

// fail notes a step that did not end well.
func (r *recorder) fail(sr *stageRun, info *StepInfo, out outcome) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = append(r.failed, history.Step{
		Place: sr.place(info), Number: info.Number, Total: info.Total, Key: out.key, Reason: out.miss.reason(), Causes: out.miss.causes,
		Follows: out.miss.follows, Start: out.start, Duration: out.duration, Failed: true, Waits: out.waits,
	})
}

func (sr *stageRun) place(info *StepInfo) history.Place {
	return history.Place{Stage: sr.stage.Name, Index: sr.stage.Index, Line: info.Line, Text: info.Text}
}

// finish writes the record, whatever became of the build. A build does not fail because of it.
func (r *recorder) finish(res *Result, failure error) history.Record {
	rec := r.record(res, failure)
	path, clipped, err := r.log.Close()
	rec.Log, rec.LogClipped = path, clipped
	if err = errors.Join(err, r.bd.builds.Put(rec)); err != nil {
		r.bd.notice(fmt.Sprintf("this build is not in the history: %v", err))
	}
	return rec
}

func (r *recorder) record(res *Result, failure error) history.Record {
	bd := r.bd
	rec := history.Record{
		ID: r.id, Name: bd.opt.Name, Project: bd.project(), Context: bd.folder(), Arguments: slices.Clone(bd.opt.Arguments), BuildArgs: maskArgs(bd.opt.BuildArgs),
		Target: bd.opt.Target, Platform: strings.Join(bd.opt.Platforms, ","), Revision: gitRevision(bd.folder()), Begun: bd.begun.UTC(), Elapsed: bd.cfg.Now().Sub(bd.begun),
		Bases: bd.usedBases(), Stages: bd.recordedStages(), Steps: bd.recordedSteps(), Inputs: bd.inputs(),
	}
	r.mu.Lock()
	rec.Steps = append(rec.Steps, r.failed...)
	r.mu.Unlock()
	if res != nil {
		rec.Manifest, rec.Config, rec.Tags, rec.Pushed, rec.Warnings = res.Manifest.Digest, res.ID(), res.Tags, res.Pushed, slices.Clone(res.Warnings)
	}
	if failure != nil {
		e := classify(failure, CategoryEnvironment)
		rec.Error = &history.Failure{Message: e.Error(), Category: string(e.Category), Hint: e.Hint, ExitCode: e.ExitCode}
		if e.Step != nil {
			rec.Error.Step = &history.Place{Stage: e.Step.Stage, Line: e.Step.Line, Text: e.Step.Text}
		}
	}
	r.maskRecord(&rec)
	return rec
}

// inputs are what it takes to make the result again (FEATURES P7); nil for a build that had no plan.
func (bd *build) inputs() *history.Inputs {
	if len(bd.lanes) == 0 {
		return nil
	}
	in := &history.Inputs{Dockerfile: bd.dockerfileName(), ContextURL: shownAddress(bd.opt.ContextURL), Settings: settingsOf(&bd.opt, bd.rec.mask)}
	if len(bd.src.text) <= history.MaxText {
		text := bd.rec.mask(string(bd.src.text))
		in.Text = &text
	}
	for _, m := range bd.lock.found() {
		in.Materials = append(in.Materials, history.Material{Kind: m.kind, Name: m.name, Of: m.of, Value: m.value})
	}
	return in
}

func (bd *build) recordedSteps() []history.Step {
	bd.mu.Lock()
	defer bd.mu.Unlock()
	steps := make([]history.Step, 0, len(bd.steps))
	for _, s := range bd.steps {
		steps = append(steps, history.Step{
			Place: history.Place{Stage: s.Stage, Index: s.Index, Line: s.Line, Text: s.Text}, Number: s.Number, Total: s.Total, Key: s.Key, Cached: s.Cached,
			Reason: s.Reason, Causes: s.Causes, Follows: s.Follows, Start: s.Start, Duration: s.Duration, Saved: s.Saved, CPU: s.CPU, PeakMem: s.PeakMem,
			Bytes: s.Bytes, Usage: s.StepUsage, Waits: s.Waits,
		})
	}
	return steps
}

// recordedStages are what reads what, of the first platform: the graphs of the others have the same stages.
func (bd *build) recordedStages() []history.Stage {
	if len(bd.lanes) == 0 {
		return nil
	}
	var list []history.Stage
	for _, s := range bd.lanes[0].plan.Stages {
		stage := history.Stage{Name: s.Name, Index: s.Index, Needs: slices.Clone(s.Needs)}
		if b := bd.baseOf(s.Base); b != nil {
			stage.Base = b.name
		}
		list = append(list, stage)
	}
	return list
}

func (bd *build) usedBases() []history.Base {
	var bases []history.Base
	for _, ln := range bd.lanes {
		for _, s := range ln.plan.Stages {
			b := bd.baseOf(s.Base)
			if b == nil {
				continue
			}
			used := history.Base{Stage: s.Name, Index: s.Index, Name: b.name, Digest: b.manifest.Digest}
			if !slices.Contains(bases, used) {
				bases = append(bases, used)
			}
		}
	}
	return bases
}

// masked stands for a value that is not to be kept.
const masked = "***"

func maskArgs(args map[string]string) map[string]string {
	out := make(map[string]string, len(args))
	for name, value := range args {
		out[name] = MaskValue(name, value)
	}
	return out
}

// MaskValue is a variable's value as a record may keep it: not at all if the name sounds secret, and URLs without
// credentials.
func MaskValue(name, value string) string {
	if secretName(name) {
		return masked
	}
	value = urlUser.ReplaceAllString(value, "${1}"+masked+"@")
	return urlQuery.ReplaceAllString(value, "${1}?"+masked)
}

// Where URLs hold secrets: before the host, and in the query.
var (
	urlUser  = lazyre.New(`((?:https?|ssh|git|ftp|socks5h?)://)[^/@\s]+@`)
	urlQuery = lazyre.New(`(https?://[^?#\s]*)\?[^#\s]+`)
)

var (
	commitPattern = lazyre.New(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	refPattern    = lazyre.New(`^refs/[A-Za-z0-9._/-]{1,200}$`)
)

// maxGitFile bounds what is read of a repository: packed-refs of a repository with 100,000 tags.
const maxGitFile = 8 << 20

// gitRevision is the commit that a folder, or one above it, has checked out; "" when there is none, or it is not cheap to
// tell. Nothing is read outside .git, which may be anybody's.
func gitRevision(folder string) string {
	for dir := folder; dir != "" && dir != "/"; dir = filepath.Dir(dir) {
		root, err := os.OpenRoot(filepath.Join(dir, ".git"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return ""
		}
		commit := headOf(root)
		_ = root.Close() // read only
		return commit
	}
	return ""
}

func headOf(root *os.Root) string {
	head := readIn(root, "HEAD", 1<<10)
	ref, isRef := strings.CutPrefix(head, "ref: ")
	if !isRef {
		return commitText(head)
	}
	if !refPattern.MatchString(ref) || slices.Contains(strings.Split(ref, "/"), "..") {
		return ""
	}
	if commit := commitText(readIn(root, ref, 1<<10)); commit != "" {
		return commit
	}
	for line := range strings.Lines(readIn(root, "packed-refs", maxGitFile)) {
		if commit, name, ok := strings.Cut(strings.TrimSpace(line), " "); ok && name == ref {
			return commitText(commit)
		}
	}
	return ""
}

func commitText(s string) string {
	if !commitPattern.MatchString(s) {
		return ""
	}
	return s
}

// readIn reads a small regular file, "" if it is none.
func readIn(root *os.Root, name string, limit int64) string {
	info, err := root.Lstat(name)
	if err != nil || !info.Mode().IsRegular() || info.Size() > limit {
		return ""
	}
	data, err := root.ReadFile(name)
	if err != nil || int64(len(data)) > limit {
		return ""
	}
	return strings.TrimSpace(string(data))
}
