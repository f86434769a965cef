package stages

import (
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// Target is a stage that can be built by name, as written.
type Target struct {
	Name        string // lower case, "" when it has none
	Description string // of the comment above FROM (A8)
	Base        string // not expanded
	Platform    string // not expanded
	Default     bool   // what is built when no target is named
	Pos         Position
}

// Targets lists the stages in file order.
func (f *File) Targets() []Target {
	list := make([]Target, len(f.stages))
	for i := range f.stages {
		st := &f.stages[i]
		list[i] = Target{st.Name, st.DocComment, st.BaseName, st.Platform, i == len(f.stages)-1, st.pos}
	}
	return list
}

// keepDocs drops descriptions that do not stand directly above what they are
// about: the parser takes those too that a blank line parts from it (A8).
func (f *File) keepDocs() {
	var lines []string
	keep := func(doc *string, name string, line int) {
		if *doc == "" {
			return
		}
		if lines == nil {
			lines = strings.Split(string(f.src), "\n")
		}
		for i := line - 2; i >= 0 && strings.HasPrefix(lines[i], "#"); i-- {
			if rest, ok := strings.CutPrefix(strings.TrimSpace(lines[i][1:]), name+" "); ok && rest == *doc {
				return
			}
		}
		*doc = ""
	}
	keepArgs := func(list []instruction) {
		for _, in := range list {
			if c, ok := in.cmd.(*instructions.ArgCommand); ok {
				for i := range c.Args {
					keep(&c.Args[i].DocComment, c.Args[i].Key, in.pos.Start)
				}
			}
		}
	}
	keepArgs(f.args)
	for i := range f.stages {
		st := &f.stages[i]
		keep(&st.DocComment, st.Name, st.pos.Start)
		keepArgs(st.commands)
	}
}

// Arg is a build argument that a plan reads.
type Arg struct {
	Name        string   `json:"name"`
	Value       string   `json:"value,omitempty"` // in force, "" also when it has none
	Description string   `json:"description,omitempty"`
	Pos         Position `json:"pos"` // of the ARG that decides the value
}

// Need is a secret or an SSH agent that a plan's RUNs are given.
type Need struct {
	ID       string
	Required bool
	Pos      Position
}

// Secrets are the secrets that the plan's RUNs mount, each once, in the order of lines.
func (p *Plan) Secrets() []Need { return p.needs(MountSecret) }

// SSH are the agents that the plan's RUNs mount, each once, in the order of lines.
func (p *Plan) SSH() []Need { return p.needs(MountSSH) }

// needs looks at the stages from the target down, as the reference does: of two
// mounts of one name the first decides whether it is required.
func (p *Plan) needs(kind MountType) []Need {
	var list []Need
	seen := map[string]bool{}
	for _, st := range slices.Backward(p.Stages) {
		for i := range st.Steps {
			if st.Steps[i].Run == nil {
				continue
			}
			for _, m := range st.Steps[i].Run.Mounts {
				if m.Type == kind && !seen[m.ID] {
					seen[m.ID] = true
					list = append(list, Need{m.ID, m.Required, st.Steps[i].Pos})
				}
			}
		}
	}
	slices.SortStableFunc(list, func(a, b Need) int { return a.Pos.Start - b.Pos.Start })
	return list
}

// argUse collects the build arguments that stages read.
type argUse struct {
	globals map[string]*globalArg // ARGs before the first FROM
}

// globalArg is an ARG before the first FROM and the names that its value was made of.
type globalArg struct {
	Arg
	deps   map[string]struct{}
	before *globalArg // of the same name, when that is one of deps
}

// declare keeps an ARG before the first FROM.
func (u *argUse) declare(arg instructions.KeyValuePairOptional, value string, pos Position, deps map[string]struct{}) {
	g := &globalArg{Arg: Arg{arg.Key, value, arg.DocComment, pos}, deps: deps}
	if _, self := deps[arg.Key]; self {
		g.before = u.globals[arg.Key]
	}
	if u.globals == nil {
		u.globals = map[string]*globalArg{}
	}
	u.globals[arg.Key] = g
}

// argsOf are the arguments that the plan's stages read, each name once: that of
// the stage nearest to the target. target is its index.
func (p *planner) argsOf(target int) []Arg {
	var list []Arg
	seen, visited := map[string]bool{}, map[int]bool{}
	queue := []int{target}
	for len(queue) > 0 {
		st := p.stages[queue[0]]
		queue = queue[1:]
		if visited[st.index] {
			continue
		}
		visited[st.index] = true
		at := len(list)
		for _, a := range slices.Backward(st.declared) { // the last of a name decides
			if !seen[a.Name] {
				seen[a.Name] = true
				list = append(list, a)
			}
		}
		slices.Reverse(list[at:])
		list = p.uses.from(st.usesGlobals, seen, list)
		if st.base >= 0 {
			queue = append(queue, st.base)
		}
		queue = append(queue, st.out.Needs...)
	}
	slices.SortStableFunc(list, func(a, b Arg) int { return a.Pos.Start - b.Pos.Start })
	return list
}

// from adds global arguments by name, and those that their values need.
func (u *argUse) from(names []string, seen map[string]bool, list []Arg) []Arg {
	queue := slices.Clone(names)
	for len(queue) > 0 {
		name := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		arg, ok := u.globals[name]
		if !ok || seen[name] {
			continue
		}
		seen[name] = true
		list = append(list, arg.Arg)
		for ; arg != nil; arg = arg.before {
			queue = append(queue, sortedKeys(arg.deps)...)
		}
	}
	return list
}
