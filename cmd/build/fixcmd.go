package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/diff"

	"gobuild/builder"
	"gobuild/internal/atomicfile"
	"gobuild/stages"
	"gobuild/ui"
)

// fixFlags are those of check alone.
func fixFlags() []flagSpec {
	return []flagSpec{
		{name: "fix", kind: kindString, arg: "WHAT", bare: "write", text: "rewrite the Dockerfile where that changes nothing but its form; --fix=diff shows the difference instead", decide: fixVerdict},
		{name: "diff", kind: kindBool, text: "the same as --fix=diff"},
	}
}

func fixVerdict(v string) (verdict, string) {
	if v == "write" || v == "diff" || v == "false" {
		return yes, ""
	}
	return no, "it is --fix or --fix=diff"
}

// fix is check --fix: it rewrites the Dockerfile and leaves the report of what
// remains to the check that follows. done says that there is none.
func (a *app) fix(opt builder.Options, format string) (done bool, err error) {
	how := a.flags.str("fix")
	if a.flags.is("diff") {
		how = "diff"
	}
	if how == "" || how == "false" {
		return false, nil
	}
	switch {
	case opt.ContextURL != "" || opt.ContextTar != nil || opt.DockerfileURL != "":
		return false, hint(usagef("check --fix: the Dockerfile is no file of this machine"), "fetch it first, and give its directory")
	case how == "write" && opt.DockerfileText != nil:
		return false, hint(usagef("check --fix: the Dockerfile came from standard input"), "--fix=diff shows what would change")
	}
	res, err := builder.ReadDockerfile(opt)
	if err != nil {
		return false, err
	}
	parse := stages.ParseOptions{BuildArgs: opt.BuildArgs, IgnoreSyntax: opt.IgnoreSyntax}
	file, err := stages.Parse(res.File, res.Text, parse)
	if err != nil {
		return false, nil //nolint:nilerr // the check reports it with its lines
	}
	text, changes, err := file.Fix()
	if err != nil {
		return false, err
	}
	if how == "diff" {
		return true, a.showDiff(res, text)
	}
	if len(changes) == 0 {
		return false, nil
	}
	if err := rewrite(res.Path, res.Text, text); err != nil {
		return false, err
	}
	return false, a.sayChanges(res, changes, format)
}

// showDiff prints what would change; the exit code says whether anything would.
func (a *app) showDiff(res *builder.CheckResult, text []byte) error {
	if bytes.Equal(res.Text, text) {
		return nil
	}
	name := strings.TrimPrefix(a.shownFile(res), "/")
	out := diff.Diff("a/"+name, res.Text, "b/"+name, text)
	if _, rest, ok := bytes.Cut(out, []byte("\n")); ok && bytes.HasPrefix(out, []byte("diff ")) {
		out = rest // patch and git need no more than the two names
	}
	if isTerminal(a.stdout) {
		out = []byte(ui.Text(string(out))) // elsewhere it must stay a patch
	}
	if err := a.printBytes(out); err != nil {
		return err
	}
	return &statusError{exitStep}
}

// sayChanges lists what was rewritten: with the report, or beside it when that is for programs.
func (a *app) sayChanges(res *builder.CheckResult, changes []stages.Change, format string) error {
	if a.flags.is("quiet") {
		return nil
	}
	var b strings.Builder
	for _, c := range changes {
		fmt.Fprintf(&b, "fixed: %s:%d: %s: %s\n", ui.Line(a.shownFile(res)), c.Line, c.Rule, ui.Line(c.What))
	}
	if format == "" || format == "text" {
		return a.printBytes([]byte(b.String()))
	}
	a.printer.Sync()
	_, err := fmt.Fprint(a.stderr, b.String())
	return err
}

func (a *app) shownFile(res *builder.CheckResult) string {
	dir, _ := os.Getwd() // only shortens what is shown
	return ui.CheckedFile(res, dir)
}

// rewrite puts text in the place of a Dockerfile that still is what was read. Mode
// and owner stay.
func rewrite(path string, old, text []byte) error {
	st, err := os.Lstat(path)
	if err != nil {
		return environmentf("fix: %w", err)
	}
	if st.Mode()&os.ModeSymlink != 0 {
		return hint(usagef("fix %s: it is a symbolic link, which would become a file", path), "name the file that it points to with -f")
	}
	now, err := os.ReadFile(path)
	if err != nil {
		return environmentf("fix: %w", err)
	}
	if !bytes.Equal(now, old) {
		return environmentf("fix %s: the file was changed meanwhile", path)
	}
	opt := atomicfile.Options{Mode: st.Mode().Perm(), Durable: true}
	if sys, ok := st.Sys().(*syscall.Stat_t); ok && os.Geteuid() == 0 {
		opt.UID, opt.GID = int(sys.Uid), int(sys.Gid)
	}
	if err := atomicfile.Write(path, text, opt); err != nil {
		return environmentf("fix: %w", err)
	}
	return nil
}
