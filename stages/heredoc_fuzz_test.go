package stages

import (
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"
)

var plainName = regexp.MustCompile(`^[A-Za-z0-9_.]{1,40}$`)

// FuzzHeredoc: the bytes of a quoted heredoc reach the copied file and the
// shell as they stand in the Dockerfile, but for the tabs that <<- removes; an
// unquoted one does too, if it has nothing to expand (A15-A17). What follows
// the heredoc is still an instruction.
func FuzzHeredoc(f *testing.F) {
	f.Add("EOF", "hello\n", false)
	f.Add("EOF", "#!/bin/sh\necho $A \\\n  \"b\"\n", false)
	f.Add("a.txt", "\tindented\n\t\ttwice\n # no comment\n\n", true)
	f.Add("EOF", "RUN x\r\n\r\nEOF2\n EOF\n", false)
	f.Add("E", "<<E2\nx\nE2\n", true)
	f.Fuzz(func(t *testing.T, name, body string, dash bool) {
		if !plainName.MatchString(name) || strings.HasPrefix(name, ".") || !bodyOf(name, body) {
			return
		}
		word, want := "<<", body
		if dash {
			word = "<<-"
			lines := strings.SplitAfter(body, "\n")
			for i, l := range lines {
				lines[i] = strings.TrimLeft(l, "\t")
			}
			want = strings.Join(lines, "")
		}
		src := "FROM scratch\nCOPY " + word + `"` + name + `" /copied` + "\n" + body + name + "\n"
		if !strings.ContainsAny(body, "$\\'\"") {
			src += "COPY " + word + name + " /expanded\n" + body + name + "\n"
		}
		src += "RUN " + word + name + "\n" + body + name + "\nWORKDIR /after\n"
		plan, err := planOf(src, amd64())
		if err != nil {
			t.Fatalf("%v\n%s", err, src)
		}
		steps := plan.Target().Steps
		if last := steps[len(steps)-1]; last.Workdir == nil {
			t.Errorf("the instruction after the heredoc is %+v", last)
		}
		for _, s := range steps {
			var got string
			switch {
			case s.Copy != nil:
				got = s.Copy.Files[0].Data
			case s.Run != nil && len(s.Run.Files) > 0:
				got = s.Run.Files[0].Data
			case s.Run != nil:
				got = s.Run.Args[len(s.Run.Args)-1]
			default:
				continue
			}
			if got != want {
				t.Errorf("%s gives %q, written was %q", s.Text, got, want)
			}
		}
	})
}

// bodyOf reports whether body can stand in a heredoc of that name: whole lines,
// none of which ends it or is longer than a line may be.
func bodyOf(name, body string) bool {
	if body != "" && !strings.HasSuffix(body, "\n") || !utf8.ValidString(body) || strings.Contains(body, "\x00") || len(body) > 60_000 {
		return false
	}
	for line := range strings.Lines(body) {
		if strings.TrimLeft(strings.TrimRight(line, "\r\n"), "\t") == name {
			return false
		}
	}
	return true
}
