package stages

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// eachScript collects the findings of a rule about one RUN at a time; a rule
// that returns no message has found nothing.
func eachScript(v *lintStage, rule func(i int, script []shellCommand) (message string, fix []string)) []finding {
	var out []finding
	for i := range v.list {
		if len(v.list[i].script) == 0 {
			continue
		}
		if message, fix := rule(i, v.list[i].script); message != "" {
			out = append(out, finding{i, message, fix})
		}
	}
	return out
}

// aptConsumers use the lists that apt-get update fetches.
var aptConsumers = []string{"install", "upgrade", "dist-upgrade", "full-upgrade", "safe-upgrade", "build-dep", "download", "source", "satisfy", "reinstall"}

// bestAptUpdateAlone is E41.
func bestAptUpdateAlone(v *lintStage) []finding {
	return eachScript(v, func(i int, script []shellCommand) (string, []string) {
		if v.mounted(i, "/var/lib/apt") {
			return "", nil // the lists are shared between RUNs on purpose
		}
		update := len(calls(script, "apt-get", "update")) > 0
		used := calls(script, "apt-get", aptConsumers...)
		if update && len(used) == 0 && !runsScripts(script) && !mentions(script, "apt-get", "apt-get", "apt") {
			return "apt-get update alone: its layer stays cached, and a later install uses old package lists",
				[]string{"RUN apt-get update && apt-get install -y --no-install-recommends ..."}
		}
		if update || named(script, "add-apt-repository") || runsScripts(script) {
			return "", nil
		}
		for _, c := range calls(script, "apt-get", "install") {
			if len(c.args) > 0 && !slices.ContainsFunc(c.args, isLocalPackage) {
				return "apt-get install without apt-get update in the same RUN: the package lists may be missing or old",
					[]string{"RUN apt-get update && apt-get install -y --no-install-recommends " + joinWords(c.args)}
			}
		}
		return "", nil
	})
}

// runsScripts says that the RUN starts programs of the image whose text is not known.
func runsScripts(script []shellCommand) bool {
	return slices.ContainsFunc(script, func(c shellCommand) bool {
		name, args := c.name()
		if isShell(name) || name == "." || name == "source" || name == "eval" {
			return len(args) > 0
		}
		return slices.ContainsFunc(c.words, func(w shellWord) bool {
			return strings.HasSuffix(w.text, "/"+name) && !strings.HasPrefix(w.text, "/usr/") && !strings.HasPrefix(w.text, "/bin/")
		})
	})
}

func joinWords(words []shellWord) string {
	texts := make([]string, len(words))
	for i, w := range words {
		if texts[i] = w.text; w.quoted || strings.ContainsAny(w.text, " <>") {
			texts[i] = strconv.Quote(w.text)
		}
	}
	return cut(strings.Join(texts, " "), maxCause)
}

// bestAptOptions is E42.
func bestAptOptions(v *lintStage) []finding {
	configured := false // an apt.conf of this stage decides on recommendations
	return eachScript(v, func(i int, script []shellCommand) (string, []string) {
		configured = configured || mentions(script, "APT::Install-Recommends", "apt-get", "apt")
		installs := calls(script, "apt-get", "install")
		if len(installs) == 0 {
			return "", nil
		}
		answered := named(script, "yes")
		asks := slices.IndexFunc(installs, func(c call) bool { return !answered && !c.assumesYes() })
		more := slices.IndexFunc(installs, func(c call) bool { return !configured && !c.lean() })
		keeps := len(calls(script, "apt-get", "update")) > 0 && !v.mounted(i, "/var/lib/apt") && !mentions(script, "/var/lib/apt", "apt-get", "apt")
		var parts []string
		if asks >= 0 {
			parts = append(parts, "without -y it asks and fails")
		}
		if more >= 0 {
			parts = append(parts, "without --no-install-recommends it installs more than is needed")
		}
		if keeps {
			parts = append(parts, "the package lists stay in the layer")
		}
		if len(parts) == 0 {
			return "", nil
		}
		return "apt-get install: " + strings.Join(parts, "; "), aptFix(installs[max(asks, more, 0)], keeps)
	})
}

// assumesYes says that apt does not ask.
func (c *call) assumesYes() bool {
	return c.has("-y", "--yes", "--assume-yes", "--force-yes") || c.short("y") > 0 || c.short("q") > 1 || c.option("assume-yes")
}

// lean says that apt installs no recommendations.
func (c *call) lean() bool {
	return c.has("--no-install-recommends", "-R", "--without-recommends") || c.option("install-recommends")
}

// aptFix is an install as it should be.
func aptFix(c call, clean bool) []string {
	line := strings.TrimSpace("RUN apt-get update && apt-get install -y --no-install-recommends " + joinWords(c.args))
	if !clean {
		return []string{line}
	}
	return []string{line + " \\", "    && rm -rf /var/lib/apt/lists/*"}
}

// option says whether apt's -o sets an option, by the end of its name in any case.
func (c *call) option(name string) bool {
	return slices.ContainsFunc(c.flags, func(f string) bool {
		return (strings.HasPrefix(f, "-o") || strings.HasPrefix(f, "--option")) && strings.Contains(strings.ToLower(f), "::"+name)
	})
}

// bestPackageCache is E43.
func bestPackageCache(v *lintStage) []finding {
	var out []finding
	for _, rule := range []func(*lintStage, int, []shellCommand) (string, []string){pipCache, apkCache, dnfCache, npmCache, goCache} {
		out = append(out, eachScript(v, func(i int, script []shellCommand) (string, []string) { return rule(v, i, script) })...)
	}
	return out
}

func pipCache(v *lintStage, i int, script []shellCommand) (string, []string) {
	const variable = "PIP_NO_CACHE_DIR"
	for _, c := range calls(script, "pip", "install", "wheel", "download") {
		inEnv := slices.ContainsFunc(append(slices.Clone(v.run(i).Env), c.env...), func(kv string) bool { return strings.HasPrefix(kv, variable+"=") })
		if !c.has("--no-cache-dir") && !inEnv && !v.mounted(i, "pip", ".cache") && !mentions(script, variable) && len(calls(script, "pip", "cache")) == 0 {
			return "pip " + c.sub + " without --no-cache-dir leaves its cache in the layer",
				[]string{"RUN pip " + c.sub + " --no-cache-dir ...", "RUN --mount=type=cache,target=/root/.cache/pip pip " + c.sub + " ..."}
		}
	}
	return "", nil
}

func apkCache(v *lintStage, i int, script []shellCommand) (string, []string) {
	for _, c := range calls(script, "apk", "add", "upgrade") {
		if !c.has("--no-cache") && !v.mounted(i, "/var/cache", "/etc/apk") && !mentions(script, "/var/cache/apk", "apk") && len(calls(script, "apk", "cache")) == 0 {
			return "apk " + c.sub + " without --no-cache leaves the package index in the layer", []string{"RUN apk " + c.sub + " --no-cache " + joinWords(c.args)}
		}
	}
	return "", nil
}

func dnfCache(v *lintStage, i int, script []shellCommand) (string, []string) {
	if len(calls(script, "dnf", "clean")) > 0 || v.mounted(i, "/var/cache") || mentions(script, "/var/cache", "dnf", "yum", "microdnf") {
		return "", nil
	}
	for j := range script {
		c := parseCall(&script[j])
		if c.program == "dnf" && slices.Contains([]string{"install", "update", "upgrade", "groupinstall", "reinstall", "localinstall"}, c.sub) {
			name, _ := script[j].name()
			return name + " " + c.sub + " without clean leaves its cache in the layer",
				[]string{"RUN " + name + " " + c.sub + " -y " + joinWords(c.args) + " && " + name + " clean all"}
		}
	}
	return "", nil
}

func npmCache(v *lintStage, i int, script []shellCommand) (string, []string) {
	if v.mounted(i) || mentions(script, ".npm") || len(calls(script, "npm", "cache")) > 0 {
		return "", nil
	}
	for _, c := range calls(script, "npm", "ci", "install", "i", "add", "clean-install") {
		if !c.has("--cache") {
			return "npm " + c.sub + " without a cache mount downloads everything again, and leaves its cache in the layer",
				[]string{"RUN --mount=type=cache,target=/root/.npm npm " + c.sub + " ..."}
		}
	}
	return "", nil
}

// goCache leaves go mod download alone: before the sources are copied its layer
// is the cache.
func goCache(v *lintStage, i int, script []shellCommand) (string, []string) {
	if v.mounted(i) || len(calls(script, "go", "clean")) > 0 {
		return "", nil
	}
	for _, c := range calls(script, "go", "build", "install", "test", "run", "generate", "get", "vet") {
		return "go " + c.sub + " without a cache mount compiles everything again, and leaves its cache in the layer",
			[]string{"RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \\", "    go " + c.sub + " ..."}
	}
	return "", nil
}

// packageInstalls are the commands whose arguments are packages, and whether the
// result surely does not depend on their order.
var packageInstalls = []struct {
	program  string
	subs     []string
	anyOrder bool
}{{"apt-get", []string{"install"}, true}, {"apk", []string{"add"}, true}, {"dnf", []string{"install"}, true}, {"zypper", []string{"install", "in"}, true},
	{"pip", []string{"install"}, false}, {"npm", []string{"install", "i"}, false}, {"gem", []string{"install"}, false}}

// bestSortArgs is E45.
func bestSortArgs(v *lintStage) []finding {
	return eachScript(v, func(_ int, script []shellCommand) (string, []string) {
		for _, p := range packageInstalls {
			for _, c := range calls(script, p.program, p.subs...) {
				if first, fix := unsorted(c.args); first != "" {
					return fmt.Sprintf("%s %s: the packages are not in alphabetical order, %s is the first out of place", p.program, c.sub, quoteShort(first)), fix
				}
			}
		}
		return "", nil
	})
}

// unsorted finds the first package out of order in a list of several lines, and
// the list as it should be.
func unsorted(words []shellWord) (first string, fix []string) {
	for _, group := range packageGroups(words) {
		first, names := outOfOrder(group)
		if first == "" {
			continue
		}
		for _, n := range names[:min(len(names), maxFix)] {
			fix = append(fix, "    "+cut(n, maxQuoted)+" \\")
		}
		return first, fix
	}
	return "", nil
}

// packageGroups are the lists among the arguments of an install: those that
// something stands between, such as a comment or a variable, are lists of their own.
func packageGroups(words []shellWord) [][]shellWord {
	var groups [][]shellWord
	last := -1 // line of the word before, -1 when that was none
	for _, w := range words {
		if w.text == "" || strings.ContainsAny(w.text, "$`") || isLocalPackage(w) {
			last = -1
			continue
		}
		if last < 0 || w.line > last+1 {
			groups = append(groups, nil)
		}
		groups[len(groups)-1] = append(groups[len(groups)-1], w)
		last = w.line
	}
	return groups
}

// outOfOrder looks at one list: sorted is how it should be.
func outOfOrder(group []shellWord) (first string, sorted []string) {
	if len(group) < 2 || group[0].line == group[len(group)-1].line {
		return "", nil
	}
	names := make([]string, len(group))
	for i, w := range group {
		names[i] = w.text
	}
	if slices.IsSorted(names) || slices.IsSortedFunc(names, compareFolded) {
		return "", nil
	}
	for i := 1; i < len(names) && first == ""; i++ {
		if compareFolded(names[i-1], names[i]) > 0 {
			first = names[i]
		}
	}
	slices.SortStableFunc(names, compareFolded)
	return first, names
}

func compareFolded(a, b string) int {
	return strings.Compare(packageName(a), packageName(b))
}

// packageName is a package without its version, in lower case.
func packageName(s string) string {
	if i := strings.IndexAny(s, "=<>~!"); i > 0 {
		s = s[:i]
	}
	return strings.ToLower(s)
}

// bestMergeRuns is E46.
func bestMergeRuns(v *lintStage) []finding {
	const few = 3
	if !v.final {
		return nil
	}
	var out []finding
	start := 0
	end := func(stop int) {
		if n := stop - start; n >= few {
			out = append(out, finding{start, fmt.Sprintf("%d RUNs follow each other: one RUN with && between the commands makes one layer", n), v.merged(start, stop)})
		}
	}
	for i, l := range v.list {
		if _, ok := l.cmd.(*instructions.RunCommand); !ok || len(l.node.Flags) > 0 {
			end(i)
			start = i + 1
		}
	}
	end(len(v.list))
	return out
}

// merged writes RUNs as one, where that surely means the same: no command of
// them changes what those after it see, and && binds them all.
func (v *lintStage) merged(start, stop int) []string {
	var fix []string
	for i := start; i < stop; i++ {
		l := v.list[i]
		cmd := l.cmd.(*instructions.RunCommand)
		text := strings.Join(strings.Fields(strings.Join(cmd.CmdLine, " ")), " ")
		if !cmd.PrependShell || len(cmd.Files) > 0 || len(l.script) == 0 || len(text) > maxQuoted || i-start == maxFix ||
			strings.ContainsAny(text, "|;&#'\"") && !onlyAnd(l.script, text) || named(l.script, "cd", "export", "set", "unset", "umask", "exec", "exit", "") {
			return nil
		}
		fix = append(fix, "    "+text+" && \\")
	}
	fix[0] = "RUN " + strings.TrimSpace(fix[0])
	fix[len(fix)-1] = strings.TrimSuffix(fix[len(fix)-1], " && \\")
	return fix
}

// onlyAnd says that a text has no operator but && between its commands, and nothing quoted.
func onlyAnd(script []shellCommand, text string) bool {
	if strings.ContainsAny(strings.ReplaceAll(text, "&&", ""), "|;&#'\"") {
		return false
	}
	return !slices.ContainsFunc(script, func(c shellCommand) bool { return c.before != "" && c.before != "&&" })
}

// bestPipefail is E50.
func bestPipefail(v *lintStage) []finding {
	return eachScript(v, func(i int, script []shellCommand) (string, []string) {
		if slices.ContainsFunc(v.run(i).Args[:max(len(v.run(i).Args)-1, 0)], isPipefail) {
			return "", nil
		}
		for j := range script {
			if name, _ := script[j].name(); name == "set" && mentions(script[j:j+1], "pipefail") {
				return "", nil
			}
		}
		for j := 1; j < len(script); j++ {
			left, _ := script[j-1].name()
			if script[j].before == "|" && statusMatters(script, j) && left != "" && left != "yes" && !tellsOnly(left, &script[j]) { // yes ends by SIGPIPE, which pipefail would take for a failure
				return fmt.Sprintf("the exit code of %s before | is lost: the shell lacks pipefail", quoteShort(left)),
					[]string{`SHELL ["/bin/bash", "-o", "pipefail", "-c"]`, "RUN set -o pipefail; ..."}
			}
		}
		return "", nil
	})
}

// tellsOnly says that a pipe hands a text to a program that checks or keeps it, as in
// echo "$SUM  file" | sha256sum -c: the last command is the one that can fail.
func tellsOnly(left string, right *shellCommand) bool {
	if left != "echo" && left != "printf" {
		return false
	}
	name, _ := right.name()
	return strings.HasSuffix(name, "sum") || slices.Contains([]string{"shasum", "gpg", "chpasswd", "tee", "debconf-set-selections"}, name)
}

// statusMatters says that the exit code of the pipe with command j decides anything.
func statusMatters(script []shellCommand, j int) bool {
	next := j + 1
	for next < len(script) && script[next].before == "|" {
		next++
	}
	if next == len(script) {
		return true
	}
	switch script[next].before {
	case "&&":
		return true
	case "||":
		name, _ := script[next].name()
		return name != "true" && name != ":" && name != "echo"
	}
	return slices.ContainsFunc(script[:j], func(c shellCommand) bool { // without set -e the script goes on anyway
		name, args := c.name()
		return name == "set" && slices.ContainsFunc(args, func(w shellWord) bool { return strings.HasPrefix(w.text, "-") && strings.Contains(w.text, "e") })
	})
}

func isPipefail(arg string) bool { return strings.Contains(arg, "pipefail") }

// bestCurlPipe is E54.
func bestCurlPipe(v *lintStage) []finding {
	return eachScript(v, func(_ int, script []shellCommand) (string, []string) {
		if named(script, "sha256sum", "sha512sum", "sha1sum", "shasum", "gpg", "gpgv", "cosign", "minisign", "openssl") {
			return "", nil
		}
		loader := ""
		for j := range script {
			name, args := script[j].name()
			if script[j].before != "|" {
				loader = ""
			}
			if name == "curl" || name == "wget" {
				loader = name
				continue
			}
			if !interprets(name) {
				continue
			}
			inline := slices.ContainsFunc(args, func(w shellWord) bool {
				return strings.Contains(w.text, "$(curl ") || strings.Contains(w.text, "$(wget ") || strings.HasPrefix(w.text, "<(curl ") || strings.HasPrefix(w.text, "<(wget ")
			})
			if loader != "" || inline {
				return "a download is executed by " + name + " without a checksum",
					[]string{"ADD --checksum=sha256:... https://... /tmp/install.sh", "RUN sh /tmp/install.sh"}
			}
		}
		return "", nil
	})
}

func interprets(program string) bool {
	return isShell(program) || program == "perl" || program == "ruby" || program == "node" || program == "php" || strings.HasPrefix(program, "python")
}

// bestSudo is E54.
func bestSudo(v *lintStage) []finding {
	return eachScript(v, func(_ int, script []shellCommand) (string, []string) {
		if slices.ContainsFunc(script, func(c shellCommand) bool { return c.uses("sudo") }) {
			return "sudo in a RUN: name the user with USER before it", []string{"USER root", "RUN ..."}
		}
		return "", nil
	})
}

// bestCdInRun is E54.
func bestCdInRun(v *lintStage) []finding {
	return eachScript(v, func(i int, script []shellCommand) (string, []string) {
		name, args := script[0].name()
		if len(script) != 1 || name != "cd" || len(args) != 1 {
			return "", nil
		}
		return "cd has no effect beyond its RUN", []string{"WORKDIR " + cut(args[0].text, maxQuoted)}
	})
}

// bestUseradd is E54.
func bestUseradd(v *lintStage) []finding {
	return eachScript(v, func(_ int, script []shellCommand) (string, []string) {
		for j := range script {
			name, args := script[j].name()
			if name == "useradd" && largeUID(args) {
				return "useradd with a large uid and without -l writes log files of many gigabytes", []string{"RUN useradd -l " + joinWords(args)}
			}
		}
		return "", nil
	})
}

// largeUID says that useradd's arguments have a uid of six digits or more, and no --no-log-init.
func largeUID(args []shellWord) bool {
	const large = 100000
	var uid string
	for i, w := range args {
		value, isUID := strings.CutPrefix(w.text, "--uid=")
		switch {
		case isUID:
			uid = value
		case w.text == "--no-log-init":
			return false
		case strings.HasPrefix(w.text, "--uid"):
			uid = at(args, i+1)
		case strings.HasPrefix(w.text, "-") && !strings.HasPrefix(w.text, "--"):
			flags, value, has := strings.Cut(w.text, "u")
			if strings.Contains(flags, "l") || has && strings.Contains(value, "l") {
				return false
			}
			if has && value == "" {
				value = at(args, i+1)
			}
			if has {
				uid = value
			}
		}
	}
	n, err := strconv.ParseUint(uid, 10, 64)
	return err == nil && n >= large
}

func at(words []shellWord, i int) string {
	if i < len(words) {
		return words[i].text
	}
	return ""
}

// bestRunChmodDup is E57.
func bestRunChmodDup(v *lintStage) []finding {
	var out []finding
	var copied []int // COPYs since the last RUN
	for i, l := range v.list {
		if v.copy(i) != nil && len(copied) < maxLookBack {
			copied = append(copied, i)
		}
		if v.run(i) == nil {
			continue
		}
		if message, fix := rechanged(v, l, copied); message != "" {
			out = append(out, finding{i, message, fix})
		}
		copied = nil
	}
	return out
}

func rechanged(v *lintStage, l linted, copied []int) (string, []string) {
	for j := range l.script {
		c := parseCall(&l.script[j]) // the mode or owner is the first word that is no flag
		recursive := c.has("--recursive") || c.short("R") > 0
		if c.program != "chmod" && (c.program != "chown" || !recursive) {
			continue
		}
		for _, w := range c.args {
			for _, i := range copied {
				if v.copied(v.copy(i), absolute(l.dir, w.text), recursive) {
					in := v.list[i]
					return fmt.Sprintf("%s of what line %d copied stores the files a second time: let the %s do it", c.program, in.pos.Start, strings.ToUpper(in.cmd.Name())),
						[]string{withFlag(in.node.Original, "--"+c.program+"="+cut(c.sub, maxQuoted))}
				}
			}
		}
	}
	return "", nil
}

// withFlag puts a flag behind the first word of an instruction.
func withFlag(original, flag string) string {
	word, rest, _ := strings.Cut(strings.TrimSpace(original), " ")
	return cut(word+" "+flag+" "+strings.TrimSpace(rest), maxCause)
}

// absolute makes a word of a command a path; a pattern for all in a directory
// stands for the directory.
func absolute(dir, word string) string {
	word = strings.TrimSuffix(word, "/*")
	if !path.IsAbs(word) {
		word = path.Join(dir, word)
	}
	return path.Clean(word)
}

// copied says whether a COPY writes what a command names by name, or below it when recursive.
func (v *lintStage) copied(c *Copy, name string, recursive bool) bool {
	if name == "/" {
		return false
	}
	dest := path.Clean(c.Dest)
	if recursive && dest != "/" && under(dest, name) {
		return true
	}
	for _, src := range c.Paths {
		base := path.Base(path.Clean("/" + src))
		switch {
		case v.isDirectory(c, src):
			if dest != "/" && under(name, dest) {
				return true
			}
		case strings.HasSuffix(c.Dest, "/"):
			if file := path.Join(dest, base); file == name || recursive && under(file, name) {
				return true
			}
		case dest == name || path.Join(dest, base) == name:
			return true
		}
	}
	for _, f := range c.Files {
		if dest == name || path.Join(dest, f.Name) == name {
			return true
		}
	}
	return false
}

// isDirectory says that a source of a COPY is known to be a directory.
func (v *lintStage) isDirectory(c *Copy, src string) bool {
	clean := path.Clean("/" + src)
	return clean == "/" || strings.HasSuffix(src, "/") || c.From.isMain() && slices.Contains(v.facts.Directories, src)
}

// under says that a clean path is dir or below it.
func under(name, dir string) bool {
	return name == dir || dir == "/" || strings.HasPrefix(name, dir+"/")
}
