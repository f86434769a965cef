package stages

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"

	"gobuild/internal/imageref"
	"gobuild/internal/lazyre"
)

// isMain says that a source is the build context itself.
func (s Source) isMain() bool { return s.Kind == SourceContext && s.Name == "" }

// baseImage is the image that a stage is based on, if it is one from a registry.
func (v *lintStage) baseImage() (ref imageref.Ref, ok bool) {
	if v.out.Base.Kind != SourceImage || v.out.Base.Image.Context != "" {
		return imageref.Ref{}, false
	}
	ref, err := imageref.Parse(v.out.Base.Image.Name)
	return ref, err == nil
}

// bestPinBaseImage is E40.
func bestPinBaseImage(v *lintStage) []finding {
	ref, ok := v.baseImage()
	if !ok || ref.Digest != "" {
		return nil
	}
	name := ref.WithTag().Familiar()
	return []finding{{atFrom, quoteShort(name) + " is not pinned by a digest: the same Dockerfile may build on another image tomorrow",
		[]string{"FROM " + cut(name, maxQuoted) + "@sha256:..."}}}
}

// bestLatestTag is E40.
func bestLatestTag(v *lintStage) []finding {
	ref, ok := v.baseImage()
	if !ok || ref.Digest != "" {
		return nil
	}
	name := ref.FamiliarName()
	switch ref.Tag {
	case "":
		return []finding{{atFrom, quoteShort(name) + " has no tag: latest is taken, which changes without notice", []string{"FROM " + cut(name, maxQuoted) + ":VERSION"}}}
	case "latest":
		return []finding{{atFrom, quoteShort(name+":latest") + " changes without notice: name a version", []string{"FROM " + cut(name, maxQuoted) + ":VERSION"}}}
	}
	return nil
}

// copiesAll says that instruction i copies the whole build context.
func (v *lintStage) copiesAll(i int) bool {
	c := v.copy(i)
	return c != nil && c.From.isMain() && slices.ContainsFunc(c.Paths, func(p string) bool { return path.Clean("/"+p) == "/" })
}

// dependencyInstalls are commands that need the files named and no others.
var dependencyInstalls = []struct {
	program string
	subs    []string
	bare    bool   // only without arguments, which would be other packages
	flag    string // only with this flag
	files   string
}{
	{"npm", []string{"ci", "clean-install"}, false, "", "package.json package-lock.json"},
	{"npm", []string{"install", "i"}, true, "", "package.json package-lock.json"},
	{"yarn", []string{"", "install"}, true, "", "package.json yarn.lock"},
	{"pnpm", []string{"install", "i", "fetch"}, true, "", "package.json pnpm-lock.yaml"},
	{"pip", []string{"install"}, true, "-r --requirement", ""},
	{"pipenv", []string{"install", "sync"}, true, "", "Pipfile Pipfile.lock"},
	{"poetry", []string{"install"}, true, "--no-root", "pyproject.toml poetry.lock"},
	{"uv", []string{"sync"}, true, "--no-install-project", "pyproject.toml uv.lock"},
	{"bundle", []string{"install"}, true, "", "Gemfile Gemfile.lock"},
	{"composer", []string{"install"}, true, "--no-autoloader", "composer.json composer.lock"},
	{"go", []string{"mod"}, false, "", "go.mod go.sum"},
	{"cargo", []string{"fetch"}, true, "", "Cargo.toml Cargo.lock"},
	{"mvn", []string{"dependency:go-offline", "dependency:resolve"}, false, "", "pom.xml"},
}

// bestCopyBeforeInstall is E44.
func bestCopyBeforeInstall(v *lintStage) []finding {
	var out []finding
	copied := -1
	done := map[string]bool{} // installed before the sources came, or reported
	for i := range v.list {
		if v.copiesAll(i) && copied < 0 {
			copied = i
		}
		for j := range v.list[i].script {
			c := parseCall(&v.list[i].script[j])
			files, ok := manifests(&c)
			if !ok || done[c.program] {
				continue
			}
			done[c.program] = true
			if copied >= 0 {
				text := strings.TrimSpace(c.program + " " + c.sub)
				if c.program == "go" {
					text += " download"
				}
				out = append(out, finding{copied, fmt.Sprintf("all is copied before %s on line %d: any changed file makes it run again", text, v.list[i].pos.Start),
					[]string{"COPY " + files + " ./", "RUN " + text + " ...", cut(v.list[copied].node.Original, maxCause)}})
			}
		}
	}
	return out
}

// manifests are the files that a dependency install reads.
func manifests(c *call) (files string, ok bool) {
	for _, d := range dependencyInstalls {
		if d.program != c.program || !slices.Contains(d.subs, c.sub) || d.bare && len(c.args) > 0 {
			continue
		}
		if d.flag != "" && !c.has(strings.Fields(d.flag)...) || c.has("-e", "--editable", "-g", "--global") {
			continue
		}
		if c.program == "go" && at(c.args, 0) != "download" {
			continue
		}
		if c.program == "pip" {
			return requirements(c)
		}
		return d.files, true
	}
	return "", false
}

// requirements are the files that pip's -r names.
func requirements(c *call) (string, bool) {
	var files []string
	for _, f := range c.flags {
		if name, value, _ := strings.Cut(f, "="); (name == "-r" || name == "--requirement") && value != "" && !strings.Contains(value, "://") {
			files = append(files, value)
		}
	}
	return cut(strings.Join(files, " "), maxCause), len(files) > 0
}

var archiveName = lazyre.New(`\.(tar|tgz|tbz2?|txz|tzst|gz|bz2|xz|zst)(\.|$)`)

// bestUseCopy is E47.
func bestUseCopy(v *lintStage) []finding {
	var out []finding
	for i, l := range v.list {
		c := v.copy(i)
		if c == nil || !c.Add || c.Unpack != nil || len(c.Paths) == 0 || len(c.URLs) > 0 {
			continue
		}
		if slices.ContainsFunc(c.Paths, v.maybeArchive) {
			continue
		}
		_, rest, _ := strings.Cut(l.node.Original, " ")
		out = append(out, finding{i, "ADD of local files that are no archives: COPY does the same and cannot surprise", []string{"COPY " + cut(rest, maxCause)}})
	}
	return out
}

// maybeArchive says that ADD may unpack a source: it is one, looks like one, or is a pattern for anything.
func (v *lintStage) maybeArchive(src string) bool {
	base := path.Base(src)
	return archiveName.MatchString(base) || strings.ContainsAny(path.Ext(base), "*?[") || path.Ext(base) == "" && strings.ContainsAny(base, "*?[") ||
		slices.Contains(v.facts.Archives, src)
}

// bestNonRoot is E48.
func bestNonRoot(v *lintStage) []finding {
	if !v.final {
		return nil
	}
	written := atFrom
	for i, l := range v.list {
		if _, ok := l.cmd.(*instructions.UserCommand); ok {
			written = i
		}
	}
	if written == atFrom && v.stepsDown() {
		return nil
	}
	user, _, _ := strings.Cut(v.out.Image.Config.User, ":")
	fix := []string{"USER 1000"}
	switch {
	case user != "" && user != "root" && user != "0":
		return nil
	case user != "":
		return []finding{{written, "the image runs as root: its user is " + quoteShort(v.out.Image.Config.User), fix}}
	case v.unknown:
		return []finding{{atFrom, "the final stage has no USER: the image runs as root unless its base image says otherwise", fix}}
	}
	return []finding{{atFrom, "the final stage has no USER: the image runs as root", fix}}
}

// stepsDown says that the image has a program with which its entrypoint gives up
// root itself: it is installed, or a RUN calls it.
func (v *lintStage) stepsDown() bool {
	programs := []string{"gosu", "su-exec", "setpriv", "s6-setuidgid", "runuser", "chpst"}
	return len(v.out.Image.Config.Entrypoint) > 0 && slices.ContainsFunc(v.list, func(l linted) bool {
		return slices.ContainsFunc(l.script, func(c shellCommand) bool {
			return slices.ContainsFunc(c.words, func(w shellWord) bool { return slices.Contains(programs, path.Base(w.text)) })
		})
	})
}

// bestMissingIgnore is E49.
func bestMissingIgnore(v *lintStage) []finding {
	if !v.facts.NoIgnoreFile || len(v.facts.Clutter) == 0 {
		return nil
	}
	for i := range v.list {
		if v.copiesAll(i) {
			return []finding{{i, "without an ignore file " + strings.Join(v.facts.Clutter, " and ") + " of the context are copied too: list them in .dockerignore", v.facts.Clutter}}
		}
	}
	return nil
}

var (
	quotedList  = lazyre.New(`^\[\s*["'“”‘’]`)
	quotedComma = lazyre.New(`["'“”‘’]\s*,`)
	wordList    = lazyre.New(`^\[[^\s\]][^\]]*\]$`)
)

// bestJSONLooksWrong is E51.
func bestJSONLooksWrong(v *lintStage) []finding {
	var out []finding
	for i, l := range v.list {
		shell := true
		switch l.cmd.(type) {
		case *instructions.RunCommand, *instructions.CmdCommand, *instructions.EntrypointCommand, *instructions.HealthCheckCommand:
		case *instructions.CopyCommand, *instructions.AddCommand, *instructions.VolumeCommand:
			shell = false
		default:
			continue
		}
		_, text := scanFlags(l.node.Original, v.planner.file.escape)
		text = strings.TrimSpace(text)
		if rest, ok := strings.CutPrefix(text, "CMD "); ok {
			text = strings.TrimSpace(rest)
		}
		if l.node.Attributes["json"] || !looksLikeList(text, shell) {
			continue
		}
		taken := "the words are taken as file names"
		if shell {
			taken = "it is given to the shell as it is"
		}
		out = append(out, finding{i, "the list is not valid JSON, so " + taken + ": quote each element with \" and part them with commas", nil})
	}
	return out
}

// looksLikeList tells a list from the shell's test command [ and from a pattern.
func looksLikeList(text string, shell bool) bool {
	switch {
	case !strings.HasPrefix(text, "["):
		return false
	case quotedList.MatchString(text):
		return !shell || text[1] != ' ' && text[1] != '\t' || quotedComma.MatchString(text)
	}
	return wordList.MatchString(text) && (shell || strings.Contains(text, ","))
}

// bestEmptyWildcard is E52.
func bestEmptyWildcard(v *lintStage) []finding {
	var out []finding
	for i := range v.list {
		c := v.copy(i)
		if c == nil || !c.From.isMain() {
			continue
		}
		for _, p := range c.Paths {
			if slices.Contains(v.facts.Unmatched, ContextSource{p, c.Parents}) {
				out = append(out, finding{i, quoteShort(p) + " matches nothing in the build context", nil})
			}
		}
	}
	return out
}

// bestChmodParents is E53.
func bestChmodParents(v *lintStage) []finding {
	var out []finding
	for i := range v.list {
		c := v.copy(i)
		if c == nil {
			continue
		}
		if mode, err := strconv.ParseUint(c.Chmod, 8, 32); err == nil && mode&0o111 == 0 {
			if dir := v.shutDirectory(c, i); dir != "" {
				out = append(out, finding{i, fmt.Sprintf("--chmod=%s is also the mode of %s, which nobody but root can enter then", c.Chmod, dir),
					[]string{"--chmod=u=rwX,go=rX"}})
			}
		}
	}
	return out
}

// shutDirectory names a directory that a COPY makes, "" if it surely makes none.
func (v *lintStage) shutDirectory(c *Copy, i int) string {
	for _, p := range c.Paths {
		if c.From.isMain() && (path.Clean("/"+p) == "/" || slices.Contains(v.facts.Directories, p)) {
			return "the directories in " + quoteShort(p)
		}
	}
	dir := path.Clean(c.Dest)
	if !strings.HasSuffix(c.Dest, "/") {
		dir = path.Dir(dir)
	}
	if v.exists(dir, i) {
		return ""
	}
	return "the new directory " + quoteShort(dir)
}

// exists says that a directory may be there before instruction i. Only of a
// stage from scratch is that known; elsewhere every directory counts as there.
func (v *lintStage) exists(dir string, i int) bool {
	if v.out.Base.Kind != SourceScratch || i > maxScratchSteps || dir == "/" {
		return true
	}
	for k := range v.list[:i] {
		if n := v.list[k].step; n >= 0 && v.out.Steps[n].Workdir != nil && under(v.out.Steps[n].Workdir.Path, dir) || v.run(k) != nil {
			return true
		}
		c := v.copy(k)
		if c == nil {
			continue
		}
		dest, isDir := path.Clean(c.Dest), strings.HasSuffix(c.Dest, "/")
		parent := under(dest, dir) && (dest != dir || isDir)
		if parent || len(c.Paths) > 0 && under(dir, dest) { // what was copied may have brought it along
			return true
		}
	}
	return false
}

// writers are commands whose arguments are written; of the others in the second
// list only the last is.
var (
	writers     = []string{"mkdir", "touch", "chown", "chmod", "rm", "rmdir", "install", "tee", "mkfifo", "mknod", "truncate", "unlink"}
	lastWriters = []string{"cp", "mv", "ln", "rsync"}
)

// bestVolumeThenWrite is E55.
func bestVolumeThenWrite(v *lintStage) []finding {
	var out []finding
	type volume struct {
		path string
		line int
	}
	var volumes []volume
	add := func(list []linted) {
		for _, l := range list {
			for _, name := range l.volumes[:min(len(l.volumes), maxVolumes-len(volumes))] {
				volumes = append(volumes, volume{name, l.pos.Start})
			}
		}
	}
	for st := v.stage; st.base >= 0; {
		st = v.planner.stages[st.base]
		add(st.seen)
	}
	for i := range v.list {
		paths := v.written(i)
		for _, vol := range volumes {
			if vol.path != "/" && slices.ContainsFunc(paths, func(p string) bool { return under(p, vol.path) }) {
				out = append(out, finding{i, fmt.Sprintf("%s is a volume since line %d: other builders drop what is written below it, so declare it later", quoteShort(vol.path), vol.line), nil})
				break
			}
		}
		add(v.list[i : i+1])
	}
	return out
}

// written are the absolute paths that instruction i visibly writes.
func (v *lintStage) written(i int) []string {
	if c := v.copy(i); c != nil {
		return []string{path.Clean(c.Dest)}
	}
	l := v.list[i]
	var paths []string
	for j := range l.script {
		c := &l.script[j]
		name, args := c.name()
		args = slices.DeleteFunc(slices.Clone(args), func(w shellWord) bool { return strings.HasPrefix(w.text, "-") })
		switch {
		case (name == "chown" || name == "chmod") && len(args) > 0:
			args = args[1:]
		case slices.Contains(lastWriters, name):
			args = args[max(len(args)-1, 0):]
		case !slices.Contains(writers, name):
			args = nil
		}
		for _, w := range append(args, c.writes...) {
			paths = append(paths, absolute(l.dir, w.text))
		}
	}
	return paths
}

// vanishing says that an unquoted heredoc of COPY has a backslash that it loses
// (A17), and whose writer hardly meant to escape a $ or another backslash.
func vanishing(body string) bool {
	for i := 0; i < len(body); i++ {
		if body[i] != '\\' {
			continue
		}
		if i+1 < len(body) && body[i+1] != '$' && body[i+1] != '\\' {
			return true
		}
		i++
	}
	return false
}

// bestHeredocBackslash is E56.
func bestHeredocBackslash(v *lintStage) []finding {
	var out []finding
	for i, l := range v.list {
		var contents []instructions.SourceContent
		switch c := l.cmd.(type) {
		case *instructions.CopyCommand:
			contents = c.SourceContents
		case *instructions.AddCommand:
			contents = c.SourceContents
		}
		for _, f := range contents {
			if f.Expand && vanishing(f.Data) {
				out = append(out, finding{i, fmt.Sprintf("the backslashes in heredoc %s will vanish: quote its name to keep them, or double them", quoteShort(f.Path)),
					[]string{"<<'" + cut(f.Path, maxQuoted) + "'"}})
			}
		}
	}
	return out
}
