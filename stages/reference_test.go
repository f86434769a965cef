package stages

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// What one Dockerfile means, sentence by sentence of the reference: a question to the target's plan, and its answer. Here are the
// sentences that have no larger test of their own.
func TestReference_Plans(t *testing.T) {
	t.Parallel()
	env := func(key string) func(p *Plan) string {
		return func(p *Plan) string { return answer(lookupEnv(p.Target().Image.Config.Env, key)) }
	}
	runEnv := func(key string) func(p *Plan) string {
		return func(p *Plan) string { return answer(lookupEnv(lastRun(p).Env, key)) }
	}
	run := func(p *Plan) string { return strings.Join(lastRun(p).Args, "|") }
	paths := func(p *Plan) string {
		for _, s := range p.Target().Steps {
			if s.Copy != nil {
				return strings.Join(append(slices.Clone(s.Copy.Paths), s.Copy.Dest), "|")
			}
		}
		return "no COPY"
	}
	files := func(p *Plan) string {
		for _, s := range p.Target().Steps {
			if s.Copy != nil {
				return fmt.Sprintf("%q", s.Copy.Files)
			}
		}
		return "no COPY"
	}
	volumes := func(p *Plan) string {
		return strings.Join(slices.Sorted(maps.Keys(p.Target().Image.Config.Volumes)), "|")
	}
	base := func(p *Plan) string { return p.Target().Base.Image.Name }
	platform := func(p *Plan) string { return p.Stages[0].Base.Image.Platform }

	for _, tc := range []struct {
		name, src string
		ask       func(p *Plan) string
		want      string
	}{
		{"A1 the last line needs no end", "FROM busybox\nENV a=b", env("a"), "b"},
		{"A1 carriage returns before the end go, too", "FROM busybox\nENV a=b\r\r\r\n", env("a"), "b"},
		{"A3 the zone ends at an instruction", "FROM busybox\n# escape=`\nENV a=x\\\ny\n", env("a"), "xy"},
		{"A3 names in any case, blanks round the sign, a trimmed value", "#  EsCaPe  =  `  \nFROM busybox\nENV a=x`\ny\n", env("a"), "xy"},
		{"A3 known directives in any order", "# check=skip=all\n# escape=`\nFROM busybox\nENV a=x`\ny\n", env("a"), "xy"},
		{"A7 an indented comment", "FROM busybox\n  \t# ENV a=1\nENV a=2\n", env("a"), "2"},
		{"A7 comments in a heredoc belong to it", "FROM busybox\nRUN <<E\n# kept\nE\n", run, "/bin/sh|-c|# kept\n"},
		{"A7 RUN passes a trailing comment to the shell", "FROM busybox\nRUN x # y\n", run, "/bin/sh|-c|x # y"},
		{"A8 comments above FROM and ARG change nothing", "# base the base\nFROM busybox AS base\n# v the version\nARG v=1\nENV a=$v\n", env("a"), "1"},
		{"A9 blanks of Unicode before an instruction", "FROM busybox\n\u2003\u00a0ENV a=1\n", env("a"), "1"},
		{"A10 the file may end in a continuation", "FROM busybox\nRUN x \\\n", run, "/bin/sh|-c|x"},
		{"A10 blanks after the escape character", "FROM busybox\nRUN x\\ \t \n y\n", run, "/bin/sh|-c|x y"},
		{"A10 a file that ends in one without a line's end", "FROM busybox\nRUN x \\", run, "/bin/sh|-c|x"},
		{"A11 in any case", "from busybox\neNv a=1\n", env("a"), "1"},
		{"A13 text after the array makes it shell form", "FROM busybox\nRUN [\"a\"] b\n", run, "/bin/sh|-c|[\"a\"] b"},
		{"A13 ADD", "FROM busybox\nADD [\"a b\", \"/c d/\"]\n", paths, "a b|/c d/"},
		{"A13 HEALTHCHECK CMD", "FROM busybox\nHEALTHCHECK CMD [\"a\", \"b\"]\n", func(p *Plan) string { return strings.Join(p.Target().Image.Config.Healthcheck.Test, "|") }, "CMD|a|b"},
		{"A13 ENTRYPOINT", "FROM busybox\nENTRYPOINT [\"a\", \"b\"]\n", func(p *Plan) string { return strings.Join(p.Target().Image.Config.Entrypoint, "|") }, "a|b"},
		{"A14 words end at tab, VT, FF and CR", "FROM\tbusybox\nVOLUME /a\t/b\v/c\f/d\r/e\n", volumes, "/a|/b|/c|/d|/e"},
		{"A14 quotes of ENV group", "FROM busybox\nENV a=\"x y\" b='z  w' c=p\\ q\n", func(p *Plan) string { return env("a")(p) + "|" + env("b")(p) + "|" + env("c")(p) }, "x y|z  w|p q"},
		{"A15 blanks before the name, in RUN", "FROM busybox\nRUN cat <<  E\na\nE\n", run, "/bin/sh|-c|cat <<  E\na\nE"},
		{"A15 in COPY they make two words", "FROM busybox\nCOPY << E /x\na\nE\n", paths, "<<|E|/x"},
		{"A15 several bodies in order", "FROM busybox\nCOPY <<A <<B /x/\na\nA\nb\nB\n", files, `[{"A" "a\n"} {"B" "b\n"}]`},
		{"A15 a name that is quoted in part", "FROM busybox\nENV v=1\nCOPY <<E\"O\"F /x\n$v\nEOF\n", files, `[{"EOF" "$v\n"}]`},
		{"A15 only the name ends a body", "FROM busybox\nCOPY <<E /x\n E\nE \nEE\nE\n", files, `[{"E" " E\nE \nEE\n"}]`},
		{"A15 <<- strips every leading tab of every line", "FROM busybox\nCOPY <<-E /x\n\t\ta\n\t b\n\t\tE\n", files, `[{"E" "a\n b\n"}]`},
		{"A15 ADD", "FROM busybox\nADD <<E /x\na\nE\n", files, `[{"E" "a\n"}]`},
		{"A18 brackets are no pattern", "FROM busybox\nENV v=[f]oo w=foo\nENV a=${v#[f]} b=${w#[f]}\n", func(p *Plan) string { return env("a")(p) + "|" + env("b")(p) }, "oo|foo"},
		{"A20 keys of ENV", "FROM busybox\nENV v=k\nENV a$v=1\n", env("ak"), "1"},
		{"A20 VOLUME", "FROM busybox\nENV v=k\nVOLUME /a/$v\n", volumes, "/a/k"},
		{"A20 the checksum of ADD", "FROM busybox\nARG c=sha256:" + strings.Repeat("a", 64) + "\nADD --checksum=$c http://h/x /\n", func(p *Plan) string { return p.Target().Steps[0].Copy.Checksum }, "sha256:" + strings.Repeat("a", 64)},
		{"A20 FROM sees no variable of a stage", "ARG v=busybox\nFROM alpine\nENV v=nosuch\nFROM $v\n", base, "busybox"},
		{"B2 the base has the target's platform", "FROM busybox\n", platform, "linux/amd64"},
		{"B2 aarch64", "FROM --platform=aarch64 busybox\n", platform, "linux/arm64"},
		{"B2 arm64/v8", "FROM --platform=linux/arm64/v8 busybox\n", platform, "linux/arm64"},
		{"B2 armhf", "FROM --platform=linux/armhf busybox\n", platform, "linux/arm/v7"},
		{"B2 arm", "FROM --platform=linux/arm busybox\n", platform, "linux/arm/v7"},
		{"B2 x86_64", "FROM --platform=linux/x86_64 busybox\n", platform, "linux/amd64"},
		{"B2 a stage keeps its platform", "FROM --platform=linux/arm64 busybox AS a\nFROM --platform=linux/386 a\nRUN x\n", func(p *Plan) string { return p.Target().Platform.Architecture }, "arm64"},
		{"B3 what a name may hold", "FROM busybox AS A-b_c.9\n", func(p *Plan) string { return p.Target().Name }, "a-b_c.9"},
		{"B5 several in a line", "FROM busybox\nARG a=1 b c=\"x y\"\nRUN x\n", func(p *Plan) string { return runEnv("a")(p) + "|" + runEnv("b")(p) + "|" + runEnv("c")(p) }, "1|unset|x y"},
		{"B6 a global ARG is not seen in a stage that does not declare it", "ARG g=1\nFROM busybox\nENV a=${g-unseen}\nRUN x\n", env("a"), "unseen"},
		{"B6 an ARG is seen from its line on", "FROM busybox\nENV a=${v-unseen}\nARG v=1\nENV b=$v\n", func(p *Plan) string { return env("a")(p) + "|" + env("b")(p) }, "unseen|1"},
		{"B7 an ARG is in the environment of RUN", "FROM busybox\nARG v=1\nRUN x\n", runEnv("v"), "1"},
		{"B7 and not in the image", "FROM busybox\nARG v=1\nRUN x\n", env("v"), "unset"},
		{"B8 a predefined argument needs ARG in a stage", "FROM busybox\nENV a=${TARGETARCH-unseen}\nRUN x\n", func(p *Plan) string { return env("a")(p) + "|" + runEnv("TARGETARCH")(p) }, "unseen|unset"},
		{"B11 an undeclared epoch is not exported", "FROM busybox\nRUN x\n", runEnv("SOURCE_DATE_EPOCH"), "unset"},
		{"B11 a declared one is", "FROM busybox\nARG SOURCE_DATE_EPOCH\nRUN x\n", runEnv("SOURCE_DATE_EPOCH"), "17"},
		{"B12 the legacy form is one value", "FROM busybox\nENV k a b=c  \"d\"\n", env("k"), `a b=c  d`},
		{"B40 a folder may be named by a dot", "FROM busybox\nWORKDIR /w\nCOPY a .\n", paths, "a|/w/"},
		{"B61 USER is the whole line", "FROM busybox\nUSER  some body:group \n", func(p *Plan) string { return p.Target().Image.Config.User }, "some body:group"},
		{"B62 words", "FROM busybox\nVOLUME /a /b\n", volumes, "/a|/b"},
		{"B62 JSON", "FROM busybox\nVOLUME [\"/a b\"]\n", volumes, "/a b"},
		{"B66 SHELL is in the configuration", "FROM busybox\nSHELL [\"/s\", \"-x\"]\nHEALTHCHECK CMD y\nRUN x\n", func(p *Plan) string {
			cfg := p.Target().Image.Config
			return strings.Join(cfg.Shell, "|") + "; " + strings.Join(cfg.Healthcheck.Test, "|") + "; " + run(p)
		}, "/s|-x; CMD-SHELL|y; /s|-x|x"},
		{"B67 the last wins", "FROM busybox\nHEALTHCHECK CMD x\nHEALTHCHECK NONE\n", func(p *Plan) string { return strings.Join(p.Target().Image.Config.Healthcheck.Test, "|") }, "NONE"},
		{"B70 the author", "FROM busybox\nMAINTAINER Ada <a@example.com>\n", func(p *Plan) string { return p.Target().Image.Author }, "Ada <a@example.com>"},
		{"D1 the last stage", "FROM busybox AS a\nFROM busybox AS b\n", func(p *Plan) string { return p.Target().Name }, "b"},
		{"H18 labels of the command line", "FROM busybox\nLABEL cli=0\n", func(p *Plan) string { return p.Target().Image.Config.Labels["cli"] }, "1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			opt := amd64()
			opt.BuildArgs = map[string]string{"SOURCE_DATE_EPOCH": "17"}
			opt.Labels = map[string]string{"cli": "1"}
			plan, err := planOf(tc.src, opt)
			if err != nil {
				t.Fatal(err)
			}
			if got := tc.ask(plan); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func answer(value string, ok bool) string {
	if !ok {
		return "unset"
	}
	return value
}

func lastRun(p *Plan) *Run {
	steps := p.Target().Steps
	for i := len(steps) - 1; i >= 0; i-- {
		if steps[i].Run != nil {
			return steps[i].Run
		}
	}
	return &Run{}
}

// What is refused, sentence by sentence.
func TestReference_Errors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, src string
		line      int
		text      string
	}{
		{"A1 only one byte order mark is dropped", "\xef\xbb\xbf\xef\xbb\xbfFROM busybox\n", 1, "unknown instruction"},
		{"A3 syntax twice", "# syntax=docker/dockerfile:1\n# syntax=docker/dockerfile:1\nFROM busybox\n", 2, "only one syntax"},
		{"A3 check twice", "# check=skip=all\n# check=skip=all\nFROM busybox\n", 2, "only one check"},
		{"A5 a JSON document names its frontend", `{"syntax": "evil.test/f"}`, 1, "not supported"},
		{"A10 a comment does not continue", "# x \\\nFROM busybox\nNOPE\n", 3, "unknown instruction"},
		{"A12 ENV has no flags", "FROM busybox\nENV --x=1 a=b\n", 2, "unknown flag: --x"},
		{"A12 WORKDIR has no flags", "FROM busybox\nWORKDIR --x=1 /a\n", 2, "unknown flag: --x"},
		{"A12 EXPOSE has no flags", "FROM busybox\nEXPOSE --x=1 80\n", 2, "unknown flag: --x"},
		{"A13 a number in CMD", "FROM busybox\nCMD [\"a\", 1]\n", 2, "strings only"},
		{"A14 quotes do not group in COPY", "FROM busybox\nCOPY \"a b\" /c/\n", 2, "quote"},
		{"A15 <<- does not strip blanks before the name", "FROM busybox\nCOPY <<-E /x\na\n E\n", 2, "unterminated heredoc"},
		{"A20 --network is not expanded", "FROM busybox\nARG n=none\nRUN --network=$n x\n", 3, "invalid network mode"},
		{"A20 stage names are not expanded", "ARG n=a\nFROM busybox AS $n\n", 2, "invalid name"},
		{"B1 four words", "FROM busybox AS a b\n", 1, "one or three arguments"},
		{"B1 scratch is lower case", "FROM Scratch\n", 1, "invalid image name"},
		{"B1 another word than AS", "FROM busybox SA a\n", 1, "one or three arguments"},
		{"B3 a slash in a name", "FROM busybox AS a/b\n", 1, "invalid name"},
		{"B12 a later word without =", "FROM busybox\nENV a=b c\n", 2, "="},
		{"B40 no source", "FROM busybox\nADD\n", 2, "at least two arguments"},
		{"B60 blank", "FROM busybox\nWORKDIR \n", 2, "exactly one argument"},
		{"B61 blank", "FROM busybox\nUSER\n", 2, "exactly one argument"},
		{"B64 unknown flag", "FROM busybox\nENTRYPOINT --x y\n", 2, "unknown flag: --x"},
		{"B66 empty", "FROM busybox\nSHELL []\n", 2, "SHELL"},
		{"B67 NONE takes nothing", "FROM busybox\nHEALTHCHECK NONE x\n", 2, "NONE"},
		{"B67 retries", "FROM busybox\nHEALTHCHECK --retries=x CMD y\n", 2, `"x"`},
		{"B67 durations", "FROM busybox\nHEALTHCHECK --timeout=5 CMD y\n", 2, "missing unit"},
		{"B69 MAINTAINER", "FROM busybox\nONBUILD MAINTAINER x\n", 2, "isn't allowed"},
		{"B69 a trigger is read where it fires", "FROM busybox AS p\nONBUILD NOPE x\nFROM p\n", 3, "unknown instruction"},
		{"D2 a syntax error in a stage that is not needed", "FROM busybox AS unused\nNOPE\nFROM busybox\n", 2, "unknown instruction"},
		{"D3 a number", "FROM busybox\nFROM 0\n", 2, "image not found"},
		{"D3 capitals", "FROM busybox AS build\nFROM BUILD\n", 2, "invalid image name"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := planOf(tc.src, amd64())
			checkRefusal(t, err, tc.line, tc.text)
		})
	}
}

// checkRefusal is wantError for tests that are not about the hint.
func checkRefusal(t *testing.T, err error, line int, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Fatalf("got %v, want an error with %q", err, text)
	}
	var e *Error
	if e = asError(err); e == nil || e.Pos.Start != line {
		t.Errorf("%v: at %+v, want line %d", err, e, line)
	}
}

func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return nil
}
