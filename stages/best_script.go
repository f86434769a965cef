package stages

import (
	"path"
	"slices"
	"sort"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

// scripts splits the commands of the stage's RUNs. What no POSIX shell runs
// stays without commands, and so out of the rules' sight.
func (p *planner) scripts(v *lintStage) {
	for i := range v.list {
		l := &v.list[i]
		if cmd, ok := l.cmd.(*instructions.RunCommand); ok && (p.opt.Best == BestAll || strings.Contains(l.node.Original+heredocText(cmd), "apt")) {
			l.script = p.script(l, cmd)
		}
	}
}

func heredocText(cmd *instructions.RunCommand) string {
	if len(cmd.Files) == 0 {
		return ""
	}
	return cmd.Files[0].Data
}

func (p *planner) script(l *linted, cmd *instructions.RunCommand) []shellCommand {
	first := func(int) int { return l.pos.Start }
	if !cmd.PrependShell {
		return execScript(cmd.CmdLine, first)
	}
	if len(l.shell) > 0 && !isShell(l.shell[0]) {
		return nil
	}
	if len(cmd.Files) > 0 && parser.MustParseHeredoc(cmd.CmdLine[0]) != nil {
		data := cmd.Files[0].Data
		if line, _, _ := strings.Cut(data, "\n"); strings.HasPrefix(line, "#!") && !slices.ContainsFunc(strings.Fields(line[2:]), isShell) {
			return nil
		}
		return scanShell(data, lineCounter(data, l.pos.Start+1))
	}
	text, line := p.logicalLine(l.command)
	return scanShell(text, line)
}

// lineCounter maps offsets of text to lines, for callers that go forward.
func lineCounter(text string, first int) func(int) int {
	seen, line := 0, first
	return func(at int) int {
		if at > seen {
			line += strings.Count(text[seen:at], "\n")
			seen = at
		}
		return line
	}
}

// execScript is the command of an exec form, and of a shell's -c in it.
func execScript(argv []string, line func(int) int) []shellCommand {
	if len(argv) == 0 {
		return nil
	}
	if isShell(argv[0]) {
		for i, arg := range argv[1:] {
			if strings.HasPrefix(arg, "-") && strings.HasSuffix(arg, "c") && i+2 < len(argv) {
				return scanShell(argv[i+2], line)
			}
		}
	}
	var c shellCommand
	for _, arg := range argv {
		c.words = append(c.words, shellWord{text: arg, line: line(0), quoted: true})
	}
	return []shellCommand{c}
}

func isShell(program string) bool {
	switch path.Base(program) {
	case "sh", "bash", "ash", "dash", "zsh", "ksh", "mksh", "busybox":
		return true
	}
	return false
}

// logicalLine is the text of a RUN behind its flags, its continued lines joined
// and the comments between them dropped, with a map of offsets to lines.
func (p *planner) logicalLine(c *command) (string, func(int) int) {
	lines := p.sourceLines()
	var b strings.Builder
	var offsets, numbers []int
	inside := false
	for n := c.pos.Start; n <= c.pos.End && n <= len(lines); n++ {
		text := strings.TrimSuffix(lines[n-1], "\r")
		trimmed := strings.TrimSpace(text)
		if inside && (trimmed == "" || trimmed[0] == '#') {
			continue
		}
		offsets, numbers = append(offsets, b.Len()), append(numbers, n)
		cut := strings.TrimRight(text, " \t")
		if inside = strings.HasSuffix(cut, string(p.file.escape)); inside {
			b.WriteString(strings.TrimSuffix(cut, string(p.file.escape)))
		} else {
			b.WriteString(text + "\n")
		}
	}
	whole := b.String()
	_, rest := scanFlags(whole, p.file.escape)
	skipped := strings.LastIndex(whole, rest)
	return rest, func(at int) int {
		i := sort.SearchInts(offsets, skipped+at+1)
		return numbers[max(i-1, 0)]
	}
}

// sourceLines are the lines of the Dockerfile.
func (p *planner) sourceLines() []string {
	if p.lines == nil {
		p.lines = strings.Split(string(p.file.src), "\n")
	}
	return p.lines
}

// call is a command of a program that has subcommands, such as apt-get install.
type call struct {
	program string
	sub     string
	flags   []string    // before and after sub
	args    []shellWord // after sub
	env     []string    // assignments in front
	line    int
	unsure  bool // a word behind a flag that is not known may be the flag's, not an argument
}

// plainFlags are flags of package managers that take no word.
var plainFlags = strings.Fields("-y --yes --assume-yes --assumeyes -q -qq -qy -yq -yqq -qqy --quiet --no-install-recommends --no-install-suggests --fix-missing --no-cache --no-cache-dir --update " +
	"-U --upgrade --allow-downgrades --allow-unauthenticated --nodocs --nogpgcheck --refresh --best --allowerasing --non-interactive -n --no-recommends --no-confirm -l -f -V")

// packageFlags are the flags of package managers that take a word of their own.
var packageFlags = map[string]string{
	"apt-get": "-o --option -t --target-release --default-release -c --config-file -a", "apk": "-t --virtual -X --repository -p --root --arch",
	"pip": "-r --requirement -c --constraint -i --index-url --extra-index-url -f --find-links -t --target --prefix --root --trusted-host -e --editable",
	"dnf": "-c --config --enablerepo --disablerepo --repo -x --exclude --setopt", "npm": "--prefix --registry --omit --cache",
	"go": "-o -ldflags -tags -p -mod",
}

// sameProgram gives programs with the same subcommands one name.
var sameProgram = map[string]string{
	"apt": "apt-get", "aptitude": "apt-get", "pip3": "pip", "yum": "dnf", "microdnf": "dnf", "tdnf": "dnf",
}

// parseCall reads a command as a call.
func parseCall(c *shellCommand) call {
	program, words := c.name()
	if strings.HasPrefix(program, "python") && len(words) > 1 && words[0].text == "-m" { // python -m pip
		program, words = words[1].text, words[2:]
	}
	if p, ok := sameProgram[program]; ok {
		program = p
	}
	out := call{program: program}
	if len(c.words) > 0 {
		out.line = c.words[0].line
	}
	for _, w := range c.words {
		if !isAssignment(w) {
			break
		}
		out.env = append(out.env, w.text)
	}
	found := false
	valued := strings.Fields(packageFlags[program])
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case strings.HasPrefix(w.text, "-"):
			out.flags = append(out.flags, w.text)
			if slices.Contains(valued, w.text) && i+1 < len(words) {
				i++
				out.flags[len(out.flags)-1] += "=" + words[i].text
			} else if i+1 < len(words) && !strings.HasPrefix(words[i+1].text, "-") && !strings.Contains(w.text, "=") && !slices.Contains(plainFlags, w.text) {
				out.unsure = true
			}
		case !found:
			out.sub, found = w.text, true
		default:
			out.args = append(out.args, w)
		}
	}
	return out
}

// calls are the calls of a program in a script, with one of the subcommands if any are named.
func calls(script []shellCommand, program string, subs ...string) []call {
	var out []call
	for i := range script {
		c := parseCall(&script[i])
		if c.program == program && (len(subs) == 0 || slices.Contains(subs, c.sub)) {
			out = append(out, c)
		}
	}
	return out
}

// has says whether one of the flags is given, alone or with a value.
func (c *call) has(flags ...string) bool {
	for _, f := range c.flags {
		name, _, _ := strings.Cut(f, "=")
		if slices.Contains(flags, name) {
			return true
		}
	}
	return false
}

// short says how often a letter stands among the short flags.
func (c *call) short(letter string) int {
	n := 0
	for _, f := range c.flags {
		if name, _, _ := strings.Cut(f, "="); !strings.HasPrefix(f, "--") {
			n += strings.Count(name, letter)
		}
	}
	return n
}

// isLocalPackage says that a word names a file rather than a package.
func isLocalPackage(w shellWord) bool {
	return strings.HasPrefix(w.text, ".") || strings.HasPrefix(w.text, "/") || strings.Contains(w.text, "://")
}

// named says whether the program of some command is among names.
func named(script []shellCommand, names ...string) bool {
	return slices.ContainsFunc(script, func(c shellCommand) bool {
		n, _ := c.name()
		return slices.Contains(names, n)
	})
}

// mentions says whether a word of a command that is not an argument of programs contains part.
func mentions(script []shellCommand, part string, except ...string) bool {
	return slices.ContainsFunc(script, func(c shellCommand) bool {
		if n, _ := c.name(); slices.Contains(except, n) {
			return false
		}
		return slices.ContainsFunc(append(slices.Clone(c.words), c.writes...), func(w shellWord) bool { return strings.Contains(w.text, part) })
	})
}

// mounted says whether the RUN has a cache or tmpfs whose target contains one of parts; without parts any.
func (v *lintStage) mounted(i int, parts ...string) bool {
	r := v.run(i)
	if r == nil {
		return false
	}
	return slices.ContainsFunc(r.Mounts, func(m Mount) bool {
		if m.Type != MountCache && m.Type != MountTmpfs {
			return false
		}
		return len(parts) == 0 || slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(m.Target, p) })
	})
}
