package stages

import (
	"errors"
	"strings"
	"testing"
)

func TestA18A19_Expansion(t *testing.T) {
	t.Parallel()
	env := newEnviron([]string{"v=foo/bar/baz.tar.gz", "empty=", "w=W", "b=a}b"})
	for _, tc := range []struct{ word, want string }{
		{"$w", "W"}, {"${w}x", "Wx"}, {"$wx", ""}, {"$unset", ""},
		{"${unset-d}", "d"}, {"${empty-d}", ""}, {"${empty:-d}", "d"}, {"${w:-d}", "W"},
		{"${unset+d}", ""}, {"${empty+d}", "d"}, {"${empty:+d}", ""}, {"${w:+d}", "d"},
		{"${unset:-$w${w}}", "WW"}, {"${w?m}", "W"}, {"${empty?m}", ""},
		{"${v#*/}", "bar/baz.tar.gz"}, {"${v##*/}", "baz.tar.gz"}, {"${v%.*}", "foo/bar/baz.tar"}, {"${v%%.*}", "foo/bar/baz"},
		{"${v#fo?}", "/bar/baz.tar.gz"}, {"${v/a/A}", "foo/bAr/baz.tar.gz"}, {"${v//a/A}", "foo/bAr/bAz.tAr.gz"},
		{`${v//\//-}`, "foo-bar-baz.tar.gz"}, {"${v//b*z/$w}", "foo/W"}, {`${b%\}b}`, "a"},
		{"$1", ""}, {"x$@y", "xy"}, {"$$", ""}, {"$", "$"}, {"a$.b", "a$.b"}, {"$#x", "x"},
		{`'$w'`, "$w"}, {`"$w"`, "W"}, {`\$w`, "$w"}, {`"\$w\n\""`, `$w\n"`}, {`a\b`, "ab"}, {`x'y z'"$w"`, "xy zW"},
	} {
		t.Run(tc.word, func(t *testing.T) {
			res, err := newExpander('\\').word(tc.word, env)
			if err != nil || res.Result != tc.want {
				t.Errorf("got %q, %v, want %q", res.Result, err, tc.want)
			}
		})
	}
	for _, tc := range []struct{ word, text string }{
		{"${unset?m}", "unset: m"}, {"${empty:?}", "not allowed to be empty"}, {"${w:=x}", "unsupported modifier"},
		{"${w^}", "unsupported modifier"}, {"${w:0:3}", "unsupported modifier"}, {"${}", "bad substitution"},
		{"${:x}", "bad substitution"}, {"${{w}}", "bad substitution"}, {"${w", "syntax error"}, {`"x`, "double-quote"},
		{"'x", "single-quote"}, {`${v#\q}`, "invalid escape"}, {"a\x00", "NUL"},
	} {
		t.Run("error "+tc.word, func(t *testing.T) {
			if res, err := newExpander('\\').word(tc.word, env); err == nil || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %q, %v, want an error with %q", res.Result, err, tc.text)
			}
		})
	}
}

func TestExpansionIsBounded(t *testing.T) {
	t.Parallel()
	env := newEnviron([]string{"empty=", "half=" + strings.Repeat("x", maxWord/2), "k=" + strings.Repeat("k", 1000)})
	nested := func(n int) string { return strings.Repeat("${a:-", n) + strings.Repeat("}", n) }
	for _, tc := range []struct {
		name, word string
		want       error
	}{
		{"up to the limit", "$half$half", nil},
		{"length", "$half${half}x", errTooLong},
		{"many mentions", strings.Repeat("$half", 1000), errTooMuch},
		{"dropped mentions", "${k:+x}" + strings.Repeat("${none+$half}", 1000), errTooMuch},
		{"copies at each level", strings.Repeat("${none:-", 90) + "$half" + strings.Repeat("}", 90), errTooMuch},
		{"values that nest", strings.Repeat("${half-", 90) + strings.Repeat("}", 90), errTooMuch},
		{"replacement", "${half//?/$half}", errTooMuch},
		{"replacement of a long value by a short one", "${k//?/yy}", nil},
		{"pattern times value", "${half#${half}y}", errTooMuch},
		{"nesting at the limit", nested(maxNesting), nil},
		{"nesting", nested(maxNesting + 1), errNesting},
		{"nesting in quotes", strings.Repeat(`"${a:-`, 200), errNesting},
		{"nesting of 10k", nested(10000), errNesting},
		{"nesting behind escaped braces", strings.Repeat(`${a:-\}`, 200), errNesting},
		{"nesting behind quoted braces", strings.Repeat(`${a:-'}'`, 200), errNesting},
		{"nesting behind an empty modifier", strings.Repeat("${a:}", 200), errNesting},
		{"nesting behind a wrong modifier", strings.Repeat("${a:/", 200), errNesting},
		{"long pattern of an empty value", "${empty#" + strings.Repeat("p", maxPattern+1) + "}", errTooMuch},
		{"long pattern in a replacement", "${empty/" + strings.Repeat("p", maxPattern+1) + "/x}", errTooMuch},
		{"nesting in a pattern", strings.Repeat("${a/", 200), errNesting},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := newExpander('\\').word(tc.word, env)
			if !errors.Is(err, tc.want) || (tc.want == nil && err != nil) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
		})
	}
}

func TestA20_WhereExpanded(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, `ARG IMG=busybox
ARG P=linux/amd64
FROM scratch AS s0
FROM --platform=$P $IMG AS s
ENV v=x
LABEL l$v="$v"
ARG a=$v
COPY --chown=$v --chmod=7${unset:-55} --exclude=$v $v.txt /d/$v
USER u$v
WORKDIR /w/$v
VOLUME /vol/$v
STOPSIGNAL ${unset:-9}
ENV p="80 81"
EXPOSE $p
RUN --mount=type=cache,id=$v,target=/c/$v $v
CMD echo $v
ENTRYPOINT ["$v"]
HEALTHCHECK CMD $v
MAINTAINER $v
ONBUILD RUN $v
SHELL ["$v"]
`)
	st := plan.Target()
	cfg := st.Image.Config
	c, r := firstCopy(t, plan), firstRun(t, plan)
	for _, tc := range []struct{ what, got, want string }{
		{"label", cfg.Labels["lx"], "x"},
		{"ARG", strings.Join(createdBy(st), "\n")[len("ENV v=x\nLABEL lx=x\n"):][:len("ARG a=x")], "ARG a=x"},
		{"chown", c.Chown, "x"}, {"chmod", c.Chmod, "755"}, {"exclude", c.Excludes[0], "$v"}, {"source", c.Paths[0], "x.txt"}, {"dest", c.Dest, "/d/x"},
		{"user", cfg.User, "ux"}, {"workdir", cfg.WorkingDir, "/w/x"}, {"signal", cfg.StopSignal, "9"},
		{"mount id", r.Mounts[0].ID, "x"}, {"mount target", r.Mounts[0].Target, "/c/x"}, {"run", r.Args[2], "$v"},
		{"cmd", cfg.Cmd[2:][0], "echo $v"}, {"healthcheck", cfg.Healthcheck.Test[1], "$v"}, {"maintainer", st.Image.Author, "$v"},
		{"onbuild", cfg.OnBuild[0], "RUN $v"}, {"shell", cfg.Shell[0], "$v"},
	} {
		if tc.got != tc.want {
			t.Errorf("%s: got %q, want %q", tc.what, tc.got, tc.want)
		}
	}
	if len(cfg.ExposedPorts) != 2 {
		t.Errorf("EXPOSE splits after expansion: %v", cfg.ExposedPorts)
	}
}

func TestA21_WhichValues(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, `FROM busybox
ENV a=1
ENV a=2 b=$a
ARG c=3 d=$c
ENV X=1
ARG X=2
RUN x
`)
	env := firstRun(t, plan).Env
	for k, want := range map[string]string{"a": "2", "b": "1", "c": "3", "d": "3", "X": "2"} {
		if got, _ := lookupEnv(env, k); got != want {
			t.Errorf("%s = %q, want %q", k, got, want)
		}
	}
	if got, _ := lookupEnv(plan.Target().Image.Config.Env, "X"); got != "1" {
		t.Errorf("the image's X is %q, want 1", got)
	}
	if _, ok := lookupEnv(plan.Target().Image.Config.Env, "c"); ok {
		t.Error("an ARG is in the image")
	}
}

// An ARG hides a variable of the image to the end of its stage only.
func TestA21_ArgDoesNotHideInTheNextStage(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, `FROM busybox AS one
ENV X=env
ARG X=arg Y=arg
RUN echo $X
FROM one AS two
RUN echo $X
LABEL x=$X y=$Y
FROM two AS three
LABEL x=$X
`)
	one, two, three := plan.Stages[0], plan.Stages[1], plan.Stages[2]
	if got, _ := lookupEnv(one.Steps[0].Run.Env, "X"); got != "arg" {
		t.Errorf("in its stage X = %q", got)
	}
	if got, _ := lookupEnv(two.Steps[0].Run.Env, "X"); got != "env" {
		t.Errorf("in the next stage X = %q", got)
	}
	if got := two.Image.Config.Labels; got["x"] != "env" || got["y"] != "arg" {
		t.Errorf("labels %v: other ARGs are inherited", got)
	}
	if got := two.History[0].CreatedBy; got != "RUN |2 X=env Y=arg /bin/sh -c echo $X # buildkit" {
		t.Errorf("history %q", got)
	}
	if got := three.Image.Config.Labels["x"]; got != "env" {
		t.Errorf("label %q", got)
	}
}

func TestA21_ImageThatNamesAVariableTwice(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, "FROM doubled AS one\nENV A=new\nLABEL a=$A\nFROM one AS two\nFROM two\nLABEL b=$A\n")
	st := plan.Target()
	if got := st.Image.Config.Labels; got["a"] != "new" || got["b"] != "second" {
		t.Errorf("labels %v: ENV replaces the first, FROM loads the last", got)
	}
	if got := strings.Join(st.Image.Config.Env[:2], " "); got != "A=new A=second" {
		t.Errorf("env %q", st.Image.Config.Env)
	}
}

func TestA17_HeredocBodies(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, "FROM busybox\nENV v=x\nCOPY <<A <<'B' <<-\"C\" /d/\n$v \"$v\" '$v' \\q\\\\ \\\nnext\nA\n$v\\q\nB\n\t\tchomp $v\n\tC\n")
	c := firstCopy(t, plan)
	want := []Inline{{"A", "x \"x\" 'x' q\\ \nnext\n"}, {"B", "$v\\q\n"}, {"C", "chomp $v\n"}}
	for i, w := range want {
		if c.Files[i] != w {
			t.Errorf("file %d: %q, want %q", i, c.Files[i], w)
		}
	}
	if c.From.Kind != SourceInline {
		t.Errorf("from %+v", c.From)
	}
	if got := createdBy(plan.Target())[1]; got != "COPY <<A <<B <<C /d/ # buildkit" {
		t.Errorf("history %q", got)
	}
}

func TestA4_HeredocNestingUsesTheBackslash(t *testing.T) {
	t.Parallel()
	body := strings.Repeat(`\${a:-`, 200)
	plan := mustPlan(t, "# escape=`\nFROM busybox\nCOPY <<E /x\n"+body+"\nE\n")
	if got := firstCopy(t, plan).Files[0].Data; got != strings.ReplaceAll(body, `\`, "")+"\n" {
		t.Errorf("body %.60q", got)
	}
}

func TestSuggest(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		word string
		from []string
		want string
	}{
		{"RUNN", []string{"ADD", "RUN"}, "RUN"},
		{"RUN", []string{"RUN", "RUNS"}, ""}, // exact: the word is not the problem
		{"ab", []string{"ac", "ad"}, "ac"},   // one edit is always allowed; the first of equals
		{"a", []string{"b"}, "b"},
		{"abcd", []string{"wxyz"}, ""},
		{"abcd", []string{"abxy"}, "abxy"}, // half the length
		{"abcd", []string{"axyz"}, ""},
		{"bülid", []string{"build"}, ""},
		{"bülld", []string{"bulld"}, "bulld"},
		{"", []string{"a"}, ""},
		{strings.Repeat("a", 1000), []string{strings.Repeat("a", 999)}, ""}, // bounded
	} {
		if got := Suggest(tc.word, tc.from); got != tc.want {
			t.Errorf("Suggest(%q, %q) = %q, want %q", tc.word, tc.from, got, tc.want)
		}
	}
}

func TestEnvironKeepsWhatItLent(t *testing.T) {
	t.Parallel()
	e := newEnviron([]string{"a=1"})
	lent := e.lend()
	f := e.fork()
	f.set("a", "2")
	e.set("a", "3")
	e.set("b", "4")
	again := e.lend()
	e.set("b", "5")
	g := e.fork()
	e.set("c", "6")
	g.set("c", "7")
	check := func(got []string, want string) {
		t.Helper()
		if s := strings.Join(got, " "); s != want {
			t.Errorf("got %s, want %s", s, want)
		}
	}
	check(lent, "a=1")
	check(f.list, "a=2")
	check(again, "a=3 b=4")
	check(e.list, "a=3 b=5 c=6")
	check(g.list, "a=3 b=5 c=7")
}
