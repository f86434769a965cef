package stages

import (
	"errors"
	"strings"
	"testing"
)

func TestParseErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, src string
		line      int
		text      string
		hint      string
	}{
		{"A1 NUL", "FROM a\nRUN x\x00y\n", 2, "NUL", "UTF-8"},
		{"A1 UTF-16", "\xff\xfeF\x00R\x00", 1, "UTF-16", "UTF-8"},
		{"A1 invalid UTF-8", "FROM a\nRUN \xe9\n", 2, "not valid UTF-8", "UTF-8"},
		{"A2 long line", "FROM a\nRUN " + strings.Repeat("x", 65532) + "\n", 2, "limit of 65535", "split"},
		{"A2 long heredoc line", "FROM a\nRUN <<E\n" + strings.Repeat("x", 65536) + "\nE\n", 3, "limit of 65535", "split"},
		{"A2 large file", strings.Repeat("#\n", 8<<20) + "#", 0, "limit of 16777216", ""},
		{"A2 empty", "", 0, "empty", ""},
		{"A2 comments only", "# x\n\n", 0, "no instructions", "FROM"},
		{"A2 only ARGs", "ARG a\n", 0, "no stages", "FROM"},
		{"A2 instruction before FROM", "ARG x\nENV a=b\nFROM a\n", 2, "no build stage", "only ARG"},
		{"A3 directive twice", "# escape=`\n# escape=\\\nFROM a\n", 2, "only one escape", ""},
		{"A4 other escape", "# escape=x\nFROM a\n", 1, "invalid escape token", ""},
		{"A5 foreign frontend", "# syntax=evil.test/f:1\nFROM a\n", 1, "not supported", "--ignore-syntax"},
		{"A7 no trailing comment", "FROM a\nENV a=b # c\n", 2, "can't find =", "its own line"},
		{"A11 unknown instruction", "FROM a\nRUNN x\n", 2, `unknown instruction "RUNN"`, "did you mean RUN?"},
		{"A11 far from any", "FROM a\nZZZZZZZ x\n", 2, "unknown instruction", ""},
		{"A12 unknown flag", "FROM a\nCOPY --chwon=1 a b\n", 2, "unknown flag: --chwon", "did you mean --chown?"},
		{"A12 flag twice", "FROM a\nCOPY --chown=1 --chown=2 a b\n", 2, "duplicate flag", ""},
		{"A12 flag without value", "FROM a\nCOPY --chown a b\n", 2, "missing a value", ""},
		{"A12 empty bool", "FROM a\nCOPY --link= a b\n", 2, "missing a value", ""},
		{"A12 bad bool", "FROM a\nCOPY --link=maybe a b\n", 2, "boolean", ""},
		{"A12 flag of CMD", "FROM a\nCMD --x y\n", 2, "unknown flag: --x", ""},
		{"A12 ARG has no flags", "FROM a\nARG --x y\n", 2, "unknown flag: --x", ""},
		{"A12 STOPSIGNAL has no flags", "FROM a\nSTOPSIGNAL --x=1 9\n", 2, "unknown flag: --x", ""},
		{"A12 HEALTHCHECK NONE with an unknown flag", "FROM a\nHEALTHCHECK --interval=1s --intervall=1s NONE\n", 2, "unknown flag: --intervall", ""},
		{"A13 JSON of numbers", "FROM a\nRUN [1]\n", 2, "strings only", "double quotes"},
		{"A15 unterminated", "FROM a\nRUN <<E\nx\n", 2, "unterminated heredoc", "only the heredoc's name"},
		{"A17 heredoc as destination", "FROM a\nCOPY x <<E\nE\n", 2, "heredoc as a destination", ""},
		{"H-04 heredoc name with slash", "FROM a\nCOPY <<../../x /\n../../x\n", 2, "not a plain file name", ""},
		{"B1 two words", "FROM a b\n", 1, "one or three arguments", "FROM image AS name"},
		{"B3 stage name", "FROM a AS 1st\n", 1, "invalid name for build stage", "start the name with a letter"},
		{"B5 blank ARG", "FROM a\nARG =x\n", 2, "can not be blank", ""},
		{"B12 blank key", "FROM a\nENV =x\n", 2, "can not be blank", ""},
		{"B12 no value", "FROM a\nENV x\n", 2, "two arguments", ""},
		{"B20 empty RUN", "FROM a\nRUN\n", 2, "requires a command", ""},
		{"B20 empty exec form", "FROM a\nRUN []\n", 2, "requires a command", ""},
		{"B20 flags only", "FROM a\nRUN --network=none\n", 2, "requires a command", ""},
		{"B22 variable in from", "FROM a\nRUN --mount=from=$x,target=/x y\n", 2, "variable expansion", ""},
		{"B28 network", "FROM a\nRUN --network=hots x\n", 2, "invalid network mode", "did you mean host?"},
		{"B29 security", "FROM a\nRUN --security=insecur x\n", 2, "is not valid", "did you mean insecure?"},
		{"B40 no destination", "FROM a\nCOPY x\n", 2, "at least two arguments", ""},
		{"B60 no WORKDIR", "FROM a\nWORKDIR\n", 2, "exactly one argument", ""},
		{"B66 SHELL not JSON", "FROM a\nSHELL bash\n", 2, "JSON form", "JSON array"},
		{"B67 unknown type", "FROM a\nHEALTHCHECK FOO x\n", 2, "Unknown type", ""},
		{"B67 negative", "FROM a\nHEALTHCHECK --retries=-1 CMD x\n", 2, "negative", ""},
		{"B67 too short", "FROM a\nHEALTHCHECK --interval=1us CMD x\n", 2, "less than", ""},
		{"B69 chained", "FROM a\nONBUILD ONBUILD RUN x\n", 2, "isn't allowed", ""},
		{"B69 FROM", "FROM a\nONBUILD FROM x\n", 2, "isn't allowed", "builds on this image"},
		{"E2 unknown option", "# check=nope=1\nFROM a\n", 1, "invalid check option", "skip="},
		{"continued instruction has all its lines", "FROM a\nCOPY \\\n --bad=1 \\\n a b\n", 2, "unknown flag", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse("Dockerfile", []byte(tc.src), ParseOptions{})
			wantError(t, err, tc.line, tc.text, tc.hint)
		})
	}
}

func TestA1_ByteOrderMarkAndCRLF(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, "\xef\xbb\xbfFROM busybox\r\nENV a=b\r\nRUN <<E\r\necho\r\nE\r\n")
	if got, _ := lookupEnv(plan.Target().Image.Config.Env, "a"); got != "b" {
		t.Errorf("a = %q: the CR belongs to the line's end", got)
	}
	if got := firstRun(t, plan).Args[2]; got != "echo\r\n" {
		t.Errorf("heredoc body %q lost its CR", got)
	}
}

func TestA2_LongestLineIsAccepted(t *testing.T) {
	t.Parallel()
	mustPlan(t, "FROM busybox\nRUN "+strings.Repeat("x", 65531)+"\nRUN "+strings.Repeat("x", 65531))
}

func TestA3_DirectiveZoneEnds(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, src string }{
		{"at another comment", "# hello\n# escape=`\nFROM busybox\nENV a=x\\\ny\n"},
		{"at an unknown name", "# other=1\n# escape=`\nFROM busybox\nENV a=x\\\ny\n"},
		{"at a blank line", "\n# escape=`\nFROM busybox\nENV a=x\\\ny\n"},
		{"after #!", "#!/usr/bin/env docker\n# escape=`\nFROM busybox\nENV a=x\\\ny\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got, _ := lookupEnv(mustPlan(t, tc.src).Target().Image.Config.Env, "a"); got != "xy" {
				t.Errorf("a = %q: the backslash should continue the line", got)
			}
		})
	}
}

func TestA4_EscapeBacktick(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, "# ESCAPE = `\nFROM busybox\nENV a=C:\\dir`\n\\x b=q`\"r\nCOPY <<E /x\n\\$a $a\nE\n")
	if got, _ := lookupEnv(plan.Target().Image.Config.Env, "a"); got != `C:\dir\x` {
		t.Errorf("a = %q", got)
	}
	if got, _ := lookupEnv(plan.Target().Image.Config.Env, "b"); got != `q"r` {
		t.Errorf("b = %q", got)
	}
	if got := firstCopy(t, plan).Files[0].Data; got != "$a C:\\dir\\x\n" {
		t.Errorf("body %q: in heredocs the escape is always the backslash", got)
	}
}

func TestA5_Syntax(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, first string
		opt         ParseOptions
		ok, labs    bool
	}{
		{"short", "# syntax=docker/dockerfile:1", ParseOptions{}, true, false},
		{"full with digest", "#syntax=docker.io/docker/dockerfile:1.7@sha256:" + strings.Repeat("a", 64), ParseOptions{}, true, false},
		{"upstream", "# syntax = docker/dockerfile-upstream:master", ParseOptions{}, true, false},
		{"labs", "# syntax=docker/dockerfile:1-labs", ParseOptions{}, true, true},
		{"value ends at a blank", "# syntax=docker/dockerfile:1 something", ParseOptions{}, true, false},
		{"after #!", "#!/bin/x\n# syntax=evil.test/f", ParseOptions{}, false, false},
		{"slashes", "// syntax=evil.test/f", ParseOptions{}, false, false},
		{"foreign", "# syntax=evil.test/docker/dockerfile:1", ParseOptions{}, false, false},
		{"foreign but ignored", "# syntax=evil.test/f", ParseOptions{IgnoreSyntax: true}, true, false},
		{"build argument wins", "# syntax=evil.test/f", ParseOptions{BuildArgs: map[string]string{"BUILDKIT_SYNTAX": "dockerfile.v0"}}, true, false},
		{"build argument can be foreign", "# syntax=docker/dockerfile:1", ParseOptions{BuildArgs: map[string]string{"BUILDKIT_SYNTAX": "evil.test/f"}}, false, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f, err := Parse("Dockerfile", []byte(tc.first+"\nFROM a\n"), tc.opt)
			if (err == nil) != tc.ok {
				t.Fatalf("got %v", err)
			}
			if err != nil {
				if !errors.Is(err, ErrUnsupported) {
					t.Errorf("%v is not ErrUnsupported", err)
				}
				return
			}
			if f.labs != tc.labs {
				t.Errorf("labs %v", f.labs)
			}
		})
	}
}

func TestA9A10_LinesAndComments(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, "  \tFROM busybox\n  RUN a \\  \n# gone\n\n   b \\\n  c\nENV x=1\\\\\n")
	if got := firstRun(t, plan).Args[2]; got != "a    b   c" {
		t.Errorf("RUN text %q", got)
	}
	if got, _ := lookupEnv(plan.Target().Image.Config.Env, "x"); got != `1\` {
		t.Errorf(`x = %q: \\ does not continue`, got)
	}
	if plan.Warnings[0].Rule != "NoEmptyContinuation" {
		t.Errorf("warnings %+v", plan.Warnings)
	}
}

func TestA12_Flags(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, src, chown, path string }{
		{"quotes are removed", `COPY --chown="a b" x y`, "a b", "x"},
		{"the escape protects", `COPY --chown=a\ b x y`, "a b", "x"},
		{"a bare -- ends the flags", `COPY --chown=a -- --x y`, "a", "--x"},
		{"UTF-8 stays intact", `COPY --chown=jürgen x y`, "jürgen", "x"},
		{"a byte that is a blank in Latin-1", `COPY --chown=à --parents x y`, "à", "x"},
		{"with JSON", `COPY --chown=à ["x", "y"]`, "à", "x"},
		{"any case of bool", `COPY --link=TRUE --chown=1:2 x y`, "1:2", "x"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			c := firstCopy(t, mustPlan(t, "FROM busybox\n"+tc.src+"\n"))
			if c.Chown != tc.chown || c.Paths[0] != tc.path {
				t.Errorf("chown %q, paths %q", c.Chown, c.Paths)
			}
		})
	}
	c := firstCopy(t, mustPlan(t, "FROM busybox\nCOPY --chown=à <<E --x <<F /y/\na\nE\nb\nF\n"))
	if len(c.Files) != 2 || c.Files[1].Data != "b\n" || c.Chown != "à" || c.Paths[0] != "--x" {
		t.Errorf("heredocs after such a flag: %+v", c)
	}
}

func TestA1_BytesThatAreNoUTF8(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, "# \xe9\nFROM busybox\nLABEL l=\"caf\xe9\xe8\"\nENV e \xe9 x\nCMD echo \xff\nONBUILD RUN \xe9\nCOPY <<E <<'F' /\n\xe9$u\nE\n\xe9\nF\n")
	cfg := plan.Target().Image.Config
	if cfg.Labels["l"] != "caf\uFFFD\uFFFD" || cfg.Cmd[2] != "echo \uFFFD" || cfg.OnBuild[0] != "RUN \uFFFD" {
		t.Errorf("each byte is replaced: %q %q %q", cfg.Labels, cfg.Cmd, cfg.OnBuild)
	}
	if got, _ := lookupEnv(cfg.Env, "e"); got != "\uFFFD x" {
		t.Errorf("ENV %q", got)
	}
	if f := firstCopy(t, plan).Files; f[0].Data != "\uFFFD\n" || f[1].Data != "\xe9\n" {
		t.Errorf("a heredoc keeps its bytes if its name is quoted: %q", f)
	}
	notices := 0
	for _, w := range plan.Warnings {
		if w.Rule == NoticeNotUTF8 {
			notices++
		}
	}
	if notices != 4 {
		t.Errorf("%d notices for 4 lines: %+v", notices, plan.Warnings)
	}
}

func TestA12_FlagsOfHealthcheckNone(t *testing.T) {
	t.Parallel()
	h := mustPlan(t, "FROM busybox\nHEALTHCHECK --interval=5s --retries=3 NONE\n").Target().Image.Config.Healthcheck
	if len(h.Test) != 1 || h.Test[0] != "NONE" || h.Interval != 0 || h.Retries != 0 {
		t.Errorf("%+v: flags of HEALTHCHECK are allowed and mean nothing", h)
	}
}

func TestA13_JSONForm(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, `FROM busybox
RUN ["a b", "$x"]
CMD ['x']
VOLUME ["/a b"]
COPY ["<<E", "c d", "/x/"]
`)
	if got := firstRun(t, plan).Args; len(got) != 2 || got[1] != "$x" {
		t.Errorf("exec form %q is not expanded", got)
	}
	cfg := plan.Target().Image.Config
	if len(cfg.Cmd) != 3 || cfg.Cmd[2] != "['x']" {
		t.Errorf("CMD %q: invalid JSON is shell form", cfg.Cmd)
	}
	if _, ok := cfg.Volumes["/a b"]; !ok {
		t.Errorf("volumes %v", cfg.Volumes)
	}
	if c := firstCopy(t, plan); len(c.Files) != 0 || c.Paths[0] != "<<E" {
		t.Errorf("JSON has no heredocs: %+v", c)
	}
}

func TestStageNames(t *testing.T) {
	t.Parallel()
	f, err := Parse("Dockerfile", []byte("FROM a AS One\nFROM b\nFROM c AS two\n"), ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(f.StageNames(), ","); got != "one,two" {
		t.Errorf("names %s", got)
	}
}
