package acceptance

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// form is everything a build depends on, as a value that can be edited and written out.
type form struct {
	directive, text string // of the Dockerfile; a text without FROM is put after one of an image with a shell
	files           map[string]string
	args            []string
	dir             string // where the context is, below the usual place
	env             []string
	after           func(t *testing.T, dir string) // done to the context once it is written
}

func (f form) clone() form {
	f.files, f.args, f.env = maps.Clone(f.files), append([]string(nil), f.args...), append([]string(nil), f.env...)
	if f.files == nil {
		f.files = map[string]string{}
	}
	return f
}

// edit is a change of a form.
type edit func(*form)

var epoch = time.Unix(1, 0)

func same(*form) {}

// swap replaces text in the Dockerfile; with the old text empty, the new text goes to the start.
func swap(old, with string) edit {
	return func(f *form) {
		if !strings.Contains(f.text, old) {
			panic("not in the Dockerfile: " + old)
		}
		f.text = strings.Replace(f.text, old, with, 1)
	}
}

func file(name, data string) edit    { return func(f *form) { f.files[name] = data } }
func remove(name string) edit        { return func(f *form) { delete(f.files, name) } }
func flags(args ...string) edit      { return func(f *form) { f.args = append(f.args, args...) } }
func environ(vars ...string) edit    { return func(f *form) { f.env = append(f.env, vars...) } }
func buildArg(nameValue string) edit { return flags("--build-arg", nameValue) }

// done is a change of the context's files that their text does not show.
func done(do func(dir string) error) edit {
	return func(f *form) {
		before := f.after
		f.after = func(t *testing.T, dir string) {
			if before != nil {
				before(t, dir)
			}
			if err := do(dir); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func chmod(name string, mode fs.FileMode) edit {
	return done(func(dir string) error { return os.Chmod(filepath.Join(dir, name), mode) })
}

func link(target, name string) edit {
	return done(func(dir string) error { return os.Symlink(target, filepath.Join(dir, name)) })
}

func both(edits ...edit) edit {
	return func(f *form) {
		for _, e := range edits {
			e(f)
		}
	}
}

// keyRule says of one build how the last step of its target takes two edits: after the first it is found in the cache, after
// the second it is done again.
type keyRule struct {
	name      string
	form      form
	hit, miss edit
}

// keyWorld is a state directory that all rules share, and an image called base with a shell.
type keyWorld struct {
	top, root, base string
}

func newKeyWorld(t *testing.T) *keyWorld {
	t.Helper()
	w := newWorld(t, baseDockerfile, nil)
	layout := filepath.Join(w.work, "base")
	w.build("-o", "type=oci,tar=false,dest="+layout)
	return &keyWorld{top: t.TempDir(), root: w.root, base: "oci-layout://" + layout}
}

// lastCached builds a form and says whether the last step came from the cache. {id} in the Dockerfile becomes the rule's own.
func (k *keyWorld) lastCached(t *testing.T, id string, f form) bool {
	t.Helper()
	dir := filepath.Join(k.top, id, f.dir)
	if err := os.RemoveAll(filepath.Join(k.top, id)); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(f.text, "{id}", id)
	if !strings.Contains(text, "FROM ") {
		text = "FROM base\nCOPY <<id /rule\n" + id + "\nid\n" + text
	}
	w := &world{t: t, dir: dir, root: k.root, work: k.top, env: f.env}
	w.write("Dockerfile", f.directive+text)
	for name, data := range f.files {
		w.write(name, data)
	}
	if f.after != nil {
		f.after(t, dir)
	}
	args := []string{"--progress", "rawjson", "--build-context", "base=" + k.base}
	for _, a := range f.args {
		args = append(args, strings.ReplaceAll(a, "{dir}", dir))
	}
	return lastStepCached(t, w.build(args...).stderr)
}

// lastStepCached reads rawjson.
func lastStepCached(t *testing.T, progress string) bool {
	t.Helper()
	found, cached := false, false
	lines := bufio.NewScanner(strings.NewReader(progress))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			Type   string
			Cached bool
		}
		if json.Unmarshal(lines.Bytes(), &e) == nil && e.Type == "step_done" {
			found, cached = true, e.Cached
		}
	}
	if !found {
		t.Fatalf("no step in the progress:\n%s", progress)
	}
	return cached
}

// TestI1_KeyRules is the table of what is in the key of a step and what is not: each rule has a change that must not matter and
// one that must (FEATURES I1-I9).
//
// rows: I1 I3 I4 I5 I6 I7 I8 I9
func TestI1_KeyRules(t *testing.T) {
	t.Parallel()
	k := newKeyWorld(t)
	rules := keyRules(t, k)
	if len(rules) < 120 {
		t.Errorf("%d rules, at least 120 are wanted", len(rules))
	}
	seen := map[string]bool{}
	for i, r := range rules {
		if seen[r.name] {
			t.Errorf("two rules are called %q", r.name)
		}
		seen[r.name] = true
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			id := fmt.Sprintf("r%03d", i)
			first := r.form.clone()
			if k.lastCached(t, id, first) {
				t.Error("cached before it was ever built")
			}
			hit := r.form.clone()
			r.hit(&hit)
			if !k.lastCached(t, id, hit) {
				t.Error("the change that must not matter made the step run again")
			}
			miss := r.form.clone()
			r.miss(&miss)
			if k.lastCached(t, id, miss) {
				t.Error("the change that must matter left the step cached")
			}
		})
	}
}

func keyRules(t *testing.T, k *keyWorld) []keyRule {
	return append(append(append(runRules(), mountRules()...), copyRules()...), append(stageRules(), baseRules(t, k)...)...)
}

func run(text string) form { return form{text: text} }

func runRules() []keyRule {
	args := run("ARG used=1\nARG unused=1\nRUN echo $used\nARG later=1\n")
	rules := []keyRule{
		{"RUN: text, not comments", run("# one\nRUN echo a\n"), swap("# one", "# two\n"), swap("echo a", "echo b")},
		{"RUN: blanks inside, not before", run("RUN echo a\n"), swap("RUN echo", "RUN    echo"), swap("echo a", "echo  a")},
		{"RUN: form, not the case of the instruction", run("RUN echo a\n"), swap("RUN", "run"), swap("echo a", `["echo","a"]`)},
		{"RUN: the joined line, not its breaks", run("RUN echo a b\n"), swap("a b", "a \\\nb"), swap("a b", "a \\\nc")},
		{"RUN: comments inside a continued line do not matter", run("RUN echo a \\\n# x\n b\n"), swap("# x", "# y"), swap(" b\n", " c\n")},
		{"RUN: the escape directive does not matter", run("RUN echo a\n"),
			func(f *form) { f.directive = "# escape=`\n" }, func(f *form) { f.directive, f.text = "# escape=`\n", "RUN echo `\nb\n" }},
		{"RUN: line ends do not matter", run("RUN echo crlf\n"), swap("crlf\n", "crlf\r\n"), swap("crlf", "crlf2")},
		{"RUN: JSON spelling does not matter", run(`RUN ["echo","a"]` + "\n"), swap(`["echo","a"]`, `[ "echo", "\u0061" ]`), swap(`"a"`, `"b"`)},
		{"RUN: heredoc body, not its name", run("RUN <<EOF\necho a\nEOF\n"), swap("<<EOF\necho a\nEOF", "<<END\necho a\nEND"), swap("echo a", "echo b")},
		{"RUN: heredoc script with #!", run("RUN <<EOF\n#!/bin/sh\necho a\nEOF\n"), swap("RUN", "# c\nRUN"), swap("echo a", "echo b")},
		{"RUN: heredoc given to a command", run("RUN cat <<EOF\na\nEOF\n"), swap("RUN", "run"), swap("\na\n", "\nb\n")},
		{"RUN: tabs that <<- removes do not matter", run("RUN <<-EOF\n\techo a\nEOF\n"), swap("\techo", "\t\techo"), swap("\techo", " echo")},
		{"SHELL: its value, not that it is set", run("RUN echo a\n"), swap("RUN", "SHELL [\"/bin/sh\", \"-c\"]\nRUN"), swap("RUN", "SHELL [\"/bin/sh\", \"-ec\"]\nRUN")},
		{"SHELL: not for the exec form", run("RUN [\"echo\", \"a\"]\n"), swap("RUN", "SHELL [\"/bin/sh\", \"-ec\"]\nRUN"), swap(`"a"`, `"a", "b"`)},
		{"ENV: value, not quoting", run("ENV A=b\nRUN echo\n"), swap("A=b", `A="b"`), swap("A=b", "A=c")},
		{"ENV: used or not", run("ENV A=b\nRUN echo\n"), swap("ENV A=b", "ENV A b"), swap("ENV A=b\n", "")},
		{"ENV: name", run("ENV A=b\nRUN echo\n"), swap("A=b", "A=b A=b"), swap("A=b", "B=b")},
		{"ENV: only before the step", run("RUN echo\nENV A=1\n"), swap("A=1", "A=2"), swap("RUN echo\nENV A=1", "ENV A=1\nRUN echo")},
		{"ENV: one instruction or several", run("ENV A=1 B=2\nRUN echo\n"), swap("A=1 B=2", "A=1\nENV B=2"), swap("B=2", "B=3")},
		{"ENV: a value that a later one replaces", run("ENV A=1\nENV A=2\nRUN echo\n"), swap("A=1", "A=0"), swap("A=2", "A=3")},
		{"ENV: expanded", run("ENV A=1\nENV B=${A}0\nRUN echo\n"), swap("${A}0", "10"), swap("${A}0", "${A}1")},
		{"ARG: value, not where it comes from", args, buildArg("used=1"), buildArg("used=2")},
		{"ARG: unused ones too", args, buildArg("unused=1"), buildArg("unused=2")},
		{"ARG: only those before the step", args, buildArg("later=2"), swap("ARG used=1", "ARG used=3")},
		{"ARG: not those that nothing declares", args, buildArg("other=2"), both(buildArg("other=2"), swap("RUN", "ARG other\nRUN"))},
		{"ARG: empty is not unset", run("ARG a\nRUN echo\n"), swap("ARG a", "ARG  a"), buildArg("a=")},
		{"ARG: from the environment of the build", form{text: "ARG FROM_HOST\nRUN echo\n", args: []string{"--build-arg", "FROM_HOST"}, env: []string{"FROM_HOST=1"}},
			environ("OTHER=1"), environ("FROM_HOST=2")},
		{"ARG: an ENV of the same name wins", run("ARG a=1\nENV a=2\nRUN echo\n"), buildArg("a=3"), swap("a=2", "a=4")},
		{"ARG: a global one only if declared again", run("ARG g=1\nFROM base\nRUN echo {id}\n"), buildArg("g=2"), swap("RUN", "ARG g\nRUN")},
		{"ARG: predefined ones only if declared", run("RUN echo\n"), buildArg("TARGETVARIANT=v9"), both(swap("RUN", "ARG TARGETVARIANT\nRUN"), buildArg("TARGETVARIANT=v9"))},
		{"ARG: a proxy's value", run("RUN echo\n"), buildArg("HTTP_PROXY=http://p:1"), both(swap("RUN", "ARG HTTP_PROXY\nRUN"), buildArg("HTTP_PROXY=http://p:1"))},
		{"ARG: a proxy from the environment", form{text: "RUN echo\n", args: []string{"--http-proxy"}, env: []string{"HTTPS_PROXY=http://a:1"}}, environ("HTTPS_PROXY=http://b:1"), environ("HTTPS_PROXY=http://b:1").then(swap("echo", "echo 2"))},
		{"USER: before the step", run("RUN echo\nUSER 5\n"), swap("USER 5", "USER 6"), swap("RUN echo\nUSER 5", "USER 5\nRUN echo")},
		{"USER: its text", run("USER 5:5\nRUN echo\n"), swap("USER 5:5", "USER   5:5"), swap("5:5", "5:6")},
		{"WORKDIR: the clean path", run("WORKDIR /w\nRUN echo\n"), swap("/w", "/w/./"), swap("/w", "/w2")},
		{"WORKDIR: relative or absolute", run("WORKDIR /a/b\nRUN echo\n"), swap("/a/b", "/a/c/../b"), swap("/a/b", "b")},
		{"--network of RUN", run("RUN echo\n"), swap("RUN", "RUN --network=none"), both(swap("RUN", "RUN --network=host"), flags("--allow=network.host"))},
		{"--network of the build", run("RUN echo\n"), flags("--network=none"), flags("--network=host")},
		{"--add-host: names, not addresses", form{text: "RUN echo\n", args: []string{"--add-host=a:1.1.1.1"}}, func(f *form) { f.args = []string{"--add-host=a:2.2.2.2"} }, flags("--add-host=b:1.1.1.1")},
		{"--ulimit", form{text: "RUN echo\n", args: []string{"--ulimit=nofile=100:200"}}, same, func(f *form) { f.args = []string{"--ulimit=nofile=100:201"} }},
		{"--hostname", form{text: "RUN echo\n", args: []string{"--hostname=a"}}, same, func(f *form) { f.args = []string{"--hostname=b"} }},
		{"--shm-size: the size, not its spelling", form{text: "RUN echo\n", args: []string{"--shm-size=1m"}}, func(f *form) { f.args = []string{"--shm-size=1024k"} }, func(f *form) { f.args = []string{"--shm-size=2m"} }},
		{"--memory does not matter", run("RUN echo\n"), flags("--memory=512m"), flags("--memory=512m", "--no-cache")},
		{"--cpu-shares does not matter", run("RUN echo\n"), flags("--cpu-shares=512"), flags("--cpu-shares=512", "--shm-size=3m")},
		{"--pids-limit does not matter", run("RUN echo\n"), flags("--pids-limit=500"), flags("--pids-limit=500", "--hostname=x")},
		{"--progress does not matter", run("RUN echo\n"), flags("--no-color"), flags("--no-color", "--no-cache")},
		{"-t does not matter", run("RUN echo\n"), flags("-t", "rules:1"), both(flags("-t", "rules:1"), swap("echo", "echo 1"))},
		{"--label does not matter", run("RUN echo\n"), flags("--label", "a=b"), both(flags("--label", "a=b"), swap("RUN", "ENV a=b\nRUN"))},
		{"--output does not matter", run("RUN echo\n"), flags("-o", "type=tar,dest="+os.DevNull), both(flags("-o", "type=tar,dest="+os.DevNull), swap("echo", "echo 2"))},
		{"--jobs does not matter", run("RUN echo\n"), flags("--jobs=1"), both(flags("--jobs=1"), swap("echo", "echo 2"))},
		{"--no-cache", run("RUN echo\n"), flags("--no-cache=false"), flags("--no-cache")},
		{"--no-cache-filter: named stages alone", run("FROM base AS one\nRUN echo {id}\nFROM one AS two\nRUN echo filter2\n"), flags("--no-cache-filter=three"), flags("--no-cache-filter=TWO")},
		{"SOURCE_DATE_EPOCH: not for RUN", run("RUN echo\n"), flags("--source-date-epoch=1"), both(swap("RUN", "ARG SOURCE_DATE_EPOCH\nRUN"), buildArg("SOURCE_DATE_EPOCH=1"))},
		{"the environment of gobuild does not matter", run("RUN echo\n"), environ("TZ=Asia/Tokyo", "LANG=xx", "HOME=/nowhere"), both(environ("TZ=Asia/Tokyo"), swap("RUN", "ENV TZ=Asia/Tokyo\nRUN"))},
		{"steps before it", run("RUN echo a\nRUN echo b\n"), swap("RUN echo a", "RUN echo \\\na"), swap("RUN echo a", "RUN echo x")},
		{"order of steps", run("RUN echo a\nRUN echo b\n"), swap("RUN echo a", "\n\nRUN echo a"), swap("RUN echo a\nRUN echo b", "RUN echo b\nRUN echo a")},
		{"context: a file that no step reads", form{text: "RUN echo\n", files: map[string]string{"x": "1"}}, file("x", "2"), both(file("x", "2"), swap("RUN", "COPY x /x\nRUN"))},
	}
	for _, meta := range []string{"LABEL a=b", "EXPOSE 80", "CMD x", "ENTRYPOINT [\"x\"]", "VOLUME /v", "STOPSIGNAL 9", "HEALTHCHECK NONE", "MAINTAINER me", "ONBUILD RUN false"} {
		rules = append(rules, keyRule{"metadata before RUN: " + meta, run("RUN echo\n"), swap("RUN", meta+"\nRUN"), swap("RUN", meta+"\nENV m=1\nRUN")})
	}
	return rules
}

// then adds an edit.
func (e edit) then(next edit) edit { return both(e, next) }

func mountRules() []keyRule {
	secret := form{text: "RUN --mount=type=secret,id=s echo\n", files: map[string]string{"s1": "one", "s2": "two"}}
	with := func(f form, args ...string) form {
		f = f.clone()
		f.args = append(f.args, args...)
		return f
	}
	var rules []keyRule
	other := func(f *form) { f.args = []string{"--secret=id=s,env=OTHER"}; f.env = []string{"OTHER=different"} }
	secret = with(secret, "--secret=id=s,env=FIRST")
	secret.env = []string{"FIRST=value"}
	for _, option := range []string{"mode=0444", "uid=5", "gid=5", "required=true", "env=S", "target=/elsewhere"} {
		rules = append(rules, keyRule{"secret: " + option + ", not the value", secret, other, swap("id=s", "id=s,"+option)})
	}
	cacheMount := run("RUN --mount=type=cache,target=/c,id=one echo\n")
	bind := form{text: "RUN --mount=target=/m,source=sub echo\n", files: map[string]string{"sub/a": "1", "sub/b/c": "2", "other": "3", ".dockerignore": "sub/ignored\n"}}
	fromStage := run("FROM base AS src\nRUN mkdir /s /o && echo 1 > /s/f && echo 1 > /o/f\nFROM base\nRUN echo {id}\nRUN --mount=from=src,source=/s,target=/m echo\n")
	seed := run("FROM base AS seeds\nRUN mkdir /s /o && echo 1 > /s/f && echo 1 > /o/f\nFROM base\nRUN echo {id}\nRUN --mount=type=cache,from=seeds,source=/s,target=/m echo\n")
	named := form{text: "RUN --mount=from=more,source=/d,target=/m echo\n", files: map[string]string{"named/d/f": "1", "named/other": "1"}}
	named.args = []string{"--build-context", "more={dir}/named"}
	rules = append(rules, []keyRule{
		{"secret: id", secret, other, both(swap("id=s", "id=s9"), flags("--secret=id=s9,env=FIRST"))},
		{"cache: target, not id", cacheMount, swap("id=one", "id=two"), swap("target=/c", "target=/c2")},
		{"cache: read-only, not sharing", cacheMount, swap("id=one", "id=one,sharing=locked"), swap("id=one", "id=one,ro")},
		{"cache: not its owner", cacheMount, swap("id=one", "id=one,uid=5,gid=5,mode=0700"), swap("RUN --mount=type=cache,target=/c,id=one", "RUN")},
		{"cache: not its content", run("RUN --mount=type=cache,target=/c echo >> /c/f\n"), same, swap(">> /c/f", "> /c/f")},
		{"cache seed: only the seeded folder", seed, swap("echo 1 > /o/f", "echo 2 > /o/f"), swap("echo 1 > /s/f", "echo 2 > /s/f")},
		{"tmpfs: size, not its spelling", run("RUN --mount=type=tmpfs,target=/t,size=1m echo\n"), swap("1m", "1048576"), swap("1m", "2m")},
		{"tmpfs: target", run("RUN --mount=type=tmpfs,target=/t echo\n"), swap("target", "dst"), swap("/t", "/t2")},
		{"bind: content, not what is beside it", bind, file("other", "x"), file("sub/a", "x")},
		{"bind: names", bind, file("new", "x"), file("sub/new", "x")},
		{"bind: not times", bind, done(func(dir string) error { return os.Chtimes(filepath.Join(dir, "sub/a"), epoch, epoch) }), remove("sub/b/c")},
		{"bind: mode", bind, same, chmod("sub/a", 0o755)},
		{"bind: not what is ignored", bind, file("sub/ignored", "x"), both(file("sub/ignored", "x"), remove(".dockerignore"))},
		{"bind: target", bind, swap("target=/m", "dst=/m"), swap("target=/m", "target=/m2")},
		{"bind: rw", bind, swap("source=sub", "source=sub,rw=false"), swap("source=sub", "source=sub,rw")},
		{"bind: the clean source", bind, swap("source=sub", "source=/sub/"), swap("source=sub", "source=sub/b")},
		{"bind: links as links", with2(bind, link("a", "sub/l")), same, both(func(f *form) { f.after = nil }, link("b/c", "sub/l"))},
		{"bind from a stage: only the folder", fromStage, swap("echo 1 > /o/f", "echo 2 > /o/f"), swap("echo 1 > /s/f", "echo 2 > /s/f")},
		{"bind from a stage: not its name", fromStage, both(swap("AS src", "AS origin"), swap("from=src", "from=origin")), swap("/s/f", "/s/g")},
		{"bind from a named context: only the folder", named, file("named/other", "2"), file("named/d/f", "2")},
		{"ssh: id", run("RUN --mount=type=ssh echo\n"), swap("type=ssh", "type=ssh,id=default"), swap("type=ssh", "type=ssh,id=other")},
		{"ssh: target", run("RUN --mount=type=ssh echo\n"), swap("type=ssh", "type=ssh,required=false"), swap("type=ssh", "type=ssh,target=/agent")},
		{"mounts: not their order in the line", run("RUN --mount=type=tmpfs,target=/t1 --mount=type=tmpfs,target=/t2 echo\n"),
			swap("--mount=type=tmpfs,target=/t1 --mount=type=tmpfs,target=/t2", "--mount=type=tmpfs,target=/t2 --mount=type=tmpfs,target=/t1"), swap(" --mount=type=tmpfs,target=/t2", "")},
	}...)
	return rules
}

// with2 is a form with an edit done.
func with2(f form, e edit) form {
	f = f.clone()
	e(&f)
	return f
}

func copyRules() []keyRule {
	one := form{text: "COPY a /a\n", files: map[string]string{"a": "1", "b": "1", "d/x": "1", "d/y": "2", "d/sub/z": "3", "e/x": "1"}}
	of := func(text string) form { f := one.clone(); f.text = text; return f }
	touch := func(name string) edit {
		return done(func(dir string) error { return os.Chtimes(filepath.Join(dir, name), epoch, epoch) })
	}
	attr := func(name, key, value string) edit {
		return done(func(dir string) error { return unix.Setxattr(filepath.Join(dir, name), key, []byte(value), 0) })
	}
	doc := of("COPY <<EOF /doc\n$v text\nEOF\n")
	return []keyRule{
		{"COPY: content, not time", one, touch("a"), file("a", "2")},
		{"COPY: content, not other files", one, file("b", "2"), file("a", "1\n")},
		{"COPY: mode", one, chmod("a", 0o644), chmod("a", 0o600)},
		{"COPY: not the owner in the context", one, done(func(dir string) error { return os.Chown(filepath.Join(dir, "a"), 5, 5) }), chmod("a", 0o4755)},
		{"COPY: the path from WORKDIR or the root", of("COPY a x\n"), swap("a x", "./a ./x"), swap("a x", "a y")},
		{"COPY: a slash at the end of the destination", of("COPY a /t\n"), swap("a /t", "a   /t"), swap("/t", "/t/")},
		{"COPY: the source, not how it is written", of("COPY a /t\n"), swap("COPY a", "COPY /d/../a"), both(swap("COPY a", "COPY b"), file("b", "2"))},
		{"COPY: a folder's names", of("COPY d /d\n"), file("new", "x"), file("d/new", "x")},
		{"COPY: a file renamed", of("COPY d /d\n"), touch("d"), both(remove("d/x"), file("d/w", "1"))},
		{"COPY: two files exchanged", of("COPY d /d\n"), touch("d/x"), both(file("d/x", "2"), file("d/y", "1"))},
		{"COPY: an empty folder", of("COPY d /d\n"), touch("d/sub"), done(func(dir string) error { return os.Mkdir(filepath.Join(dir, "d/empty"), 0o755) })},
		{"COPY: a folder's mode", of("COPY d /d\n"), chmod("d/sub", 0o755), chmod("d/sub", 0o700)},
		{"COPY: a file deep below", of("COPY d /d\n"), touch("d/sub/z"), file("d/sub/z", "4")},
		{"COPY: a file becomes a folder", of("COPY d /d\n"), touch("d/x"), both(remove("d/x"), file("d/x/x", "1"))},
		{"COPY: where a link leads", with2(of("COPY d /d\n"), link("x", "d/l")), touch("d/x"), both(func(f *form) { f.after = nil }, link("y", "d/l"))},
		{"COPY: a link is not its target", with2(of("COPY d /d\n"), link("../a", "d/l")), file("a", "changed"), both(func(f *form) { f.after = nil }, file("d/l", "1"))},
		{"COPY: a link as source is its target", with2(of("COPY l /t\n"), link("a", "l")), file("b", "x"), file("a", "x")},
		{"COPY: xattrs", one, attr("b", "user.k", "v"), attr("a", "user.k", "v")},
		{"COPY: capabilities", one, attr("b", "security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"),
			attr("a", "security.capability", "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00")},
		{"COPY: a FIFO is no file", with2(of("COPY d /d\n"), done(func(dir string) error { return unix.Mkfifo(filepath.Join(dir, "d/p"), 0o644) })), touch("d/x"),
			both(func(f *form) { f.after = nil }, file("d/p", ""))},
		{"COPY: an ignored file", with2(of("COPY . /all\n"), file(".dockerignore", "b\n.dockerignore\nDockerfile\n")), file("b", "2"), file("a", "2")},
		{"COPY: comments of the ignore file", with2(of("COPY d /d\n"), file(".dockerignore", "d/y\n")), file(".dockerignore", "# c\nd/y\n"), file(".dockerignore", "# none\n")},
		{"COPY: a pattern of the ignore file that hits nothing", with2(of("COPY d /d\n"), file(".dockerignore", "d/y\n")), file(".dockerignore", "d/y\nnothing\n"), file(".dockerignore", "d/x\n")},
		{"COPY of the whole context: its Dockerfile", with2(of("COPY . /all\n"), same), touch("a"), swap("COPY", "# c\nCOPY")},
		{"COPY: a wildcard's matches", of("COPY d/* /d/\n"), file("unmatched", "x"), file("d/new", "x")},
		{"COPY: a wildcard's content", of("COPY d/?  /d/\n"), file("d/long", "x"), file("d/y", "x")},
		{"COPY: a wildcard without a match", of("COPY a none* /d/\n"), file("other", "x"), file("none1", "x")},
		{"COPY: order of sources", of("COPY a b /d/\n"), swap("a b", "./a b"), swap("a b", "b a")},
		{"COPY: number of sources", of("COPY a b /d/\n"), swap("a b", "a  b"), swap("a b", "a")},
		{"COPY: JSON form", of("COPY a /t\n"), swap("a /t", `["a", "/t"]`), swap("a /t", `["b", "/t2"]`)},
		{"COPY --chown", of("COPY --chown=1:2 a /t\n"), swap("COPY", "copy"), swap("1:2", "1:3")},
		{"COPY --chown by name: the accounts", of("RUN echo u:x:7:7::/:/bin/sh >> /etc/passwd\nCOPY --chown=root a /t\n"), swap("COPY", "LABEL a=b\nCOPY"), swap("u:x:7", "u:x:8")},
		{"COPY --chmod", of("COPY --chmod=600 a /t\n"), swap("COPY", "ENV a=b\nCOPY"), swap("600", "640")},
		{"COPY --link: not what is below", of("RUN echo 1 > /f\nCOPY --link a /linked\n"), swap("echo 1", "echo 2"), file("a", "linked 2")},
		{"COPY without --link: what is below", of("RUN echo 1 > /f\nCOPY a /linked\n"), swap("RUN", "run"), swap("echo 1", "echo 2")},
		{"COPY --parents", of("COPY --parents d/x /t/\n"), file("d/y", "changed"), swap("--parents ", "")},
		{"COPY --exclude: not the excluded", of("COPY --exclude=y d /t/\n"), file("d/y", "changed"), swap("--exclude=y ", "")},
		{"COPY: ENV before it", of("COPY a /t\n"), swap("COPY", "ENV a=b\nCOPY"), swap("COPY a /t", "ENV a=b\nCOPY a /${a}")},
		{"COPY: ARG before it", of("ARG v=1\nCOPY a /t\n"), buildArg("v=2"), both(buildArg("v=2"), swap("/t", "/$v"))},
		{"COPY: an ARG in its destination", of("ARG v=1\nCOPY a /$v\n"), buildArg("v=1"), buildArg("v=2")},
		{"COPY: USER before it", of("COPY a /t\n"), swap("COPY", "USER 5\nCOPY"), swap("COPY", "COPY --chown=5")},
		{"COPY: SHELL before it", of("COPY a /t\n"), swap("COPY", "SHELL [\"x\"]\nCOPY"), swap("COPY a", "COPY d/y")},
		{"COPY heredoc: the expanded text", doc, swap("COPY", "ENV w=1\nCOPY"), swap("COPY", "ENV v=1\nCOPY")},
		{"COPY heredoc: its text", doc, swap("COPY", "copy"), swap("text", "other")},
		{"COPY heredoc: its name in a folder", of("COPY <<one /dir/\nx\none\n"), swap("COPY", "copy"), swap("<<one /dir/\nx\none", "<<two /dir/\nx\ntwo")},
		{"COPY heredoc: quoted means literal", of("ENV v=1\nCOPY <<\"EOF\" /q\n$v\nEOF\n"), swap("v=1", "v=2"), swap("<<\"EOF\"", "<<EOF")},
		{"ADD is not COPY", of("ADD a /t\n"), touch("a"), swap("ADD", "COPY")},
		{"ADD: content", of("ADD a /t\n"), file("b", "x"), file("a", "x")},
		{"ADD --unpack", of("ADD a /t\n"), swap("ADD", "add"), swap("ADD", "ADD --unpack=false")},
		{"COPY: not where the context is", one, func(f *form) { f.dir = "elsewhere" }, both(func(f *form) { f.dir = "elsewhere" }, file("a", "3"))},
		{"COPY: SOURCE_DATE_EPOCH", one, flags("--source-date-epoch=5"), both(flags("--source-date-epoch=5"), file("a", "4"))},
		{"COPY: a hard link is a file", one, both(remove("a"), done(func(dir string) error { return os.Link(filepath.Join(dir, "e/x"), filepath.Join(dir, "a")) })), both(file("e/x", "9"), remove("a"), done(func(dir string) error { return os.Link(filepath.Join(dir, "e/x"), filepath.Join(dir, "a")) }))},
		{"WORKDIR: path", run("WORKDIR /p\n"), swap("/p", "/p/"), swap("/p", "/q")},
		{"WORKDIR: user, not environment", run("WORKDIR /p\n"), swap("WORKDIR", "ENV a=b\nWORKDIR"), swap("WORKDIR", "USER 5\nWORKDIR")},
		{"WORKDIR: the epoch", run("WORKDIR /p\n"), swap("WORKDIR", "workdir"), flags("--source-date-epoch=7")},
	}
}

func stageRules() []keyRule {
	from := run("FROM base AS src\nRUN mkdir /s && echo 1 > /s/f && echo 1 > /other\nFROM base\nRUN echo {id}\nCOPY --from=src /s /s\n")
	based := run("FROM base AS one\nRUN echo one {id}\nFROM one\nRUN echo based\n")
	return []keyRule{
		{"COPY --from: content, not the stage", from, swap("echo 1 > /other", "echo 2 > /other"), swap("echo 1 > /s/f", "echo 2 > /s/f")},
		{"COPY --from: not times", from, swap("echo 1 > /other", "touch -d @1 /s/f"), swap("> /other", "> /s/g")},
		{"COPY --from: mode", from, swap("echo 1 > /other", "chmod 644 /s/f"), swap("echo 1 > /other", "chmod 600 /s/f")},
		{"COPY --from: owner", from, swap("echo 1 > /other", "chown 0:0 /s/f"), swap("echo 1 > /other", "chown 5:6 /s/f")},
		{"COPY --from: not the stage's name", from, both(swap("AS src", "AS renamed"), swap("from=src", "from=renamed")), swap("/s /s", "/s /t")},
		{"COPY --from: name or number", from, swap("from=src", "from=0"), swap("from=src /s", "from=base /etc")},
		{"COPY --from: a file in another stage too", from, swap("FROM base AS src", "FROM base AS src\nENV x=1"), swap("mkdir /s", "mkdir /s /s/d")},
		{"stages: one that is not needed", run("FROM base AS no\nRUN echo no\nFROM base\nRUN echo {id}\n"), swap("echo no\n", "echo nothing\n"), swap("FROM base\nRUN", "FROM no\nRUN")},
		{"stages: their names", based, both(swap("AS one", "AS uno"), swap("FROM one", "FROM uno")), swap("echo one", "echo two")},
		{"stages: where they stand", run("FROM base AS x1\nRUN echo x1\nFROM base AS x2\nRUN echo x2\nFROM x1\nRUN echo {id}\n"),
			swap("FROM base AS x1\nRUN echo x1\nFROM base AS x2\nRUN echo x2\n", "FROM base AS x2\nRUN echo x2\nFROM base AS x1\nRUN echo x1\n"), swap("FROM x1", "FROM x2")},
		{"stages: an ARG of the stage below", run("FROM base AS low\nARG a=1\nFROM low\nRUN echo {id}\n"), buildArg("a=1"), buildArg("a=2")},
		{"stages: a target by name or number", run("FROM base AS t1\nRUN echo t1\nFROM base AS t2\nRUN echo {id}\n"), flags("--target=T2"), both(flags("--target=t1"), swap("echo t1", "echo t1 again"))},
		{"stages: one step from another stage's equal parent", run("FROM base AS p\nRUN echo {id}\nFROM base AS q\nRUN echo {id}\nRUN echo last\n"), swap("FROM base AS q\nRUN echo {id}", "FROM p AS q"), swap("echo last", "echo later")},
		{"ONBUILD: the trigger's text", run("FROM base AS trig\nONBUILD RUN echo fired {id}\nFROM trig\nLABEL a=b\n"), swap("LABEL a=b", "LABEL a=c"), swap("echo fired", "echo fired twice")},
		{"the state's other users: a tag of the same image", run("FROM base\nRUN echo tagged {id}\n"), flags("-t", "one", "-t", "two:3"), swap("echo tagged", "echo untagged")},
	}
}

// baseRules are about base images: two layouts that differ in one thing.
func baseRules(t *testing.T, k *keyWorld) []keyRule {
	t.Helper()
	layout := func(name, more string) string {
		w := newWorld(t, baseDockerfile+more, nil)
		w.root = k.root
		w.build("-o", "type=oci,tar=false,dest="+filepath.Join(w.work, name))
		return "--build-context=img=oci-layout://" + filepath.Join(w.work, name)
	}
	plain := layout("plain", "")
	labelled := layout("labelled", "LABEL a=b\nCMD x\nEXPOSE 1\n")
	withEnv := layout("env", "ENV a=b\n")
	withFile := layout("file", "RUN echo 1 > /new\n")
	use := func(flag string) edit { return func(f *form) { f.args = []string{flag} } }
	of := func(text string) form {
		return form{text: "FROM img\nCOPY <<id /rule\n{id}\nid\n" + text, args: []string{plain}, files: map[string]string{"a": "base rule"}}
	}
	copied := t.TempDir()
	if out, err := exec.Command("cp", "-r", strings.TrimPrefix(plain, "--build-context=img=oci-layout://"), copied+"/layout").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	moved := "--build-context=img=oci-layout://" + copied + "/layout"
	return []keyRule{
		{"base image: layers, for RUN", of("RUN echo 1\n"), use(moved), use(withFile)},
		{"base image: layers, for COPY", of("COPY a /a\n"), use(moved), use(withFile)},
		{"base image: labels and commands do not matter", of("RUN echo 2\n"), use(labelled), use(withEnv)},
		{"base image: its environment, not for COPY", of("COPY a /b\n"), use(withEnv), both(use(withEnv), swap("/b", "/is-$a"))},
		{"base image: not its name", of("RUN echo 3\n"), both(use(strings.Replace(plain, "img=", "other=", 1)), swap("FROM img", "FROM other")), both(use(withEnv), swap("echo 3", "echo 4"))},
		{"base image: COPY --from of what it has", form{text: "FROM base\nRUN echo {id}\nCOPY --from=img /etc /e\n", args: []string{plain}}, use(withFile), both(use(plain), swap("/etc", "/tmp"))},
	}
}
