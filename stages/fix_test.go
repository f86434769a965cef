package stages

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func fixed(t *testing.T, src string) (string, []Change) {
	t.Helper()
	f, err := Parse("Dockerfile", []byte(src), ParseOptions{})
	if err != nil {
		t.Fatalf("parse %q: %v", src, err)
	}
	out, changes, err := f.Fix()
	if err != nil {
		t.Fatalf("fix %q: %v", src, err)
	}
	if string(f.src) != src {
		t.Error("Fix changed the File")
	}
	return string(out), changes
}

func TestE4_Fix(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, src, want string }{
		{"stage names and what refers to them", "FROM a AS Build\nFROM b AS x\nCOPY --from=Build --chown=Build /a /Build\nRUN --mount=type=bind,from=Build,target=/m --mount=from=Build from=Build\nFROM Build\n",
			"FROM a AS build\nFROM b AS x\nCOPY --from=build --chown=Build /a /Build\nRUN --mount=type=bind,from=build,target=/m --mount=from=build from=Build\nFROM build\n"},
		{"what another kind of name refers to stays", "FROM a AS build\nFROM Build\nCOPY --from=Build /a /b\n", "FROM a AS build\nFROM Build\nCOPY --from=Build /a /b\n"},
		{"as in the case of FROM", "FROM a as x\nfrom b AS y\nfrom c\nrun z\n", "from a as x\nfrom b as y\nfrom c\nrun z\n"},
		{"the majority decides", "FROM a\nrun b\nCMD [\"c\"]\n", "FROM a\nRUN b\nCMD [\"c\"]\n"},
		{"a tie is upper case", "FROM a\nrun b\n", "FROM a\nRUN b\n"},
		{"an ARG before FROM has no say and no fix", "arg A=1\nFROM a\nRun b\n", "arg A=1\nFROM a\nRUN b\n"},
		{"blank lines in a continuation", "FROM a\nRUN b \\\n\n # c\n\t \n  && d\n\nCMD [\"e\"]\n", "FROM a\nRUN b \\\n # c\n  && d\n\nCMD [\"e\"]\n"},
		{"blank lines in a heredoc are its own", "FROM a\nRUN <<E \\\n\n cat\n\nx\n\nE\n", "FROM a\nRUN <<E \\\n cat\n\nx\n\nE\n"},
		{"ENV and LABEL", "FROM a\nENV k v\nENV  k\tsome words\nLABEL k $a  b\n", "FROM a\nENV k=v\nENV  k=\"some words\"\nLABEL k=\"$a  b\"\n"},
		{"values with quotes keep them", "FROM a\nENV k a \"b  c\" 'd e'\\ f\nENV k \"a b\"\n", "FROM a\nENV k=a\\ \"b  c\"\\ 'd e'\\ f\nENV k=\"a b\"\n"},
		{"values over several lines", "FROM a\nENV k a \\\n  # why\n  b\n", "FROM a\nENV k=\"a \\\n  # why\n  b\"\n"},
		{"another escape character", "# escape=`\nFROM a\nENV k C:\\a b\nENV k \"a\" b\nMAINTAINER a`b$c\"d\\e\n", "# escape=`\nFROM a\nENV k=\"C:\\a b\"\nENV k=\"a\"` b\nLABEL org.opencontainers.image.authors=\"a``b`$c`\"d\\e\"\n"},
		{"a value that cannot be read stays", "FROM a\nENV k it's b\n", "FROM a\nENV k it's b\n"},
		{"a key with a variable stays", "FROM a\nENV $k v\n", "FROM a\nENV $k v\n"},
		{"MAINTAINER", "from a\nmaintainer A \"B\" <c@d.example> $x\n", "from a\nlabel org.opencontainers.image.authors=\"A \\\"B\\\" <c@d.example> \\$x\"\n"},
		{"MAINTAINER beside the label it would become", "FROM a\nMAINTAINER x\nLABEL org.opencontainers.image.authors=y\n", "FROM a\nMAINTAINER x\nLABEL org.opencontainers.image.authors=y\n"},
		{"protocols", "FROM a\nEXPOSE 80/TCP  $P/Udp 81/tcp 9/$T\n", "FROM a\nEXPOSE 80/tcp  $P/udp 81/tcp 9/$T\n"},
		{"protocols whose order in the history would change", "FROM a\nEXPOSE 80/TCP 80/sctp\n", "FROM a\nEXPOSE 80/TCP 80/sctp\n"},
		{"package lists", "FROM a\nRUN apt-get update && apt-get install -y \\\n    git \\\n    curl=7.* ca-certificates \\\n    # tools\n    zip \\\n    unzip \\\n && rm -rf /var/lib/apt/lists/*\n",
			"FROM a\nRUN apt-get update && apt-get install -y \\\n    ca-certificates \\\n    curl=7.* git \\\n    # tools\n    unzip \\\n    zip \\\n && rm -rf /var/lib/apt/lists/*\n"},
		{"package lists with words that may be values stay", "FROM a\nRUN dnf install -y --releasever 9 \\\n b \\\n a\nRUN apk add \"b\" \\\n a\n", "FROM a\nRUN dnf install -y --releasever 9 \\\n b \\\n a\nRUN apk add \"b\" \\\n a\n"},
		{"lists whose order may matter stay", "FROM a\nRUN pip install \\\n b \\\n a\n", "FROM a\nRUN pip install \\\n b \\\n a\n"},
		{"lists for another shell stay", "FROM a\nSHELL [\"pwsh\", \"-c\"]\nRUN apk add \\\n b \\\n a\n", "FROM a\nSHELL [\"pwsh\", \"-c\"]\nRUN apk add \\\n b \\\n a\n"},
		{"line ends, byte order mark and no end of line", "\xef\xbb\xbfFROM a\r\nenv k v w\r\nRUN b \\\r\n\r\n c", "\xef\xbb\xbfFROM a\r\nENV k=\"v w\"\r\nRUN b \\\r\n c"},
		{"rules that are skipped", "# check=skip=LegacyKeyValueFormat\nFROM a as B\nENV k v\n", "# check=skip=LegacyKeyValueFormat\nFROM a AS b\nENV k v\n"},
		{"rules that a comment skips", "FROM a\n# check=skip=LegacyKeyValueFormat,ConsistentInstructionCasing\nenv k v\nenv k v\n# check=skip=all\nRUN b \\\n\n c\nCMD [\"d\"]\n", "FROM a\n# check=skip=LegacyKeyValueFormat,ConsistentInstructionCasing\nenv k v\nENV k=v\n# check=skip=all\nRUN b \\\n\n c\nCMD [\"d\"]\n"},
		{"triggers stay", "FROM a\nONBUILD ENV k v\n", "FROM a\nONBUILD ENV k v\n"},
		{"a keyword over two lines", "FROM a\nR\\\nun b\nRUN c\n", "FROM a\nR\\\nun b\nRUN c\n"},
		{"a lower case file stays so", "from a\nmaintainer b\nEnv k v\n", "from a\nlabel org.opencontainers.image.authors=\"b\"\nenv k=v\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, changes := fixed(t, tc.src)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if (got == tc.src) != (len(changes) == 0) {
				t.Errorf("changes %+v of %q", changes, tc.src)
			}
			if again, more := fixed(t, got); again != got {
				t.Errorf("a second time gives %q: %+v", again, more)
			}
		})
	}
}

func TestE4_ChangesAreNumberedAsTheFileWas(t *testing.T) {
	t.Parallel()
	_, changes := fixed(t, "FROM a\nRUN b \\\n\n\n  c\nexpose 1/UDP\nRUN apk add \\\n\n  z \\\n  y\n")
	want := []Change{
		{"NoEmptyContinuation", 3, "removed the blank line"}, {"NoEmptyContinuation", 4, "removed the blank line"},
		{"ConsistentInstructionCasing", 6, "expose is now EXPOSE"}, {"ExposeProtoCasing", 6, "protocols are in lower case"},
		{"NoEmptyContinuation", 8, "removed the blank line"}, {"BestSortArgs", 9, "packages are in alphabetical order"},
	}
	if diff := cmp.Diff(want, changes); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Every mechanical rule that Fix has an answer to is silent afterwards.
func TestE4_WhatIsFixedIsNotReportedAgain(t *testing.T) {
	t.Parallel()
	src := "FROM busybox:1 as Build\nmaintainer me\nRUN a \\\n\n b\nFROM busybox:1\nCOPY --from=Build /a /b\nENV k v\nEXPOSE 1/TCP\nRUN apk add --no-cache \\\n b \\\n a\nUSER 1\n"
	rules := func(src string) []string {
		var out []string
		for _, w := range mustPlan(t, src, func(o *Options) { o.AllStages, o.Best = true, BestAll }).Warnings {
			if !slices.Contains(out, w.Rule) {
				out = append(out, w.Rule)
			}
		}
		slices.Sort(out)
		return out
	}
	want := []string{"BestSortArgs", "ConsistentInstructionCasing", "ExposeProtoCasing", "FromAsCasing", "LegacyKeyValueFormat", "MaintainerDeprecated", "NoEmptyContinuation", "StageNameCasing"}
	if got := rules(src); !slices.Equal(got, want) {
		t.Errorf("before: %q", got)
	}
	got, _ := fixed(t, src)
	if left := rules(got); len(left) > 0 {
		t.Errorf("after: %q\n%s", left, got)
	}
}

// FuzzFix: what Fix returns is planned as before, but for what it says it
// changes, and there is nothing more to fix in it.
func FuzzFix(f *testing.F) {
	for _, pattern := range []string{"testdata/*/Dockerfile", "testdata/seeds/*", "testdata/fix/*"} {
		names, err := filepath.Glob(pattern)
		if err != nil || len(names) == 0 {
			f.Fatalf("%s: %d files, %v", pattern, len(names), err)
		}
		for _, name := range names {
			src, err := os.ReadFile(name)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(src)
		}
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		file, err := Parse("Dockerfile", src, ParseOptions{})
		if err != nil {
			return
		}
		out, changes, err := file.Fix()
		if err != nil {
			t.Fatalf("fix: %v", err)
		}
		if len(changes) == 0 && !bytes.Equal(src, out) {
			t.Fatal("changed without a word")
		}
		again, err := Parse("Dockerfile", out, ParseOptions{})
		if err != nil {
			t.Fatalf("%q\nis no Dockerfile any more: %v", out, err)
		}
		if twice, more, err := again.Fix(); err != nil || !bytes.Equal(twice, out) {
			t.Fatalf("%q\na second time gives\n%q\n%+v %v", out, twice, more, err)
		}
		opt := amd64()
		opt.AllStages, opt.Allow = true, []string{"network.host", "security.insecure", "device"}
		before, err := planOf(string(src), opt)
		if err != nil {
			return
		}
		after, err := planOf(string(out), opt)
		if err != nil {
			t.Fatalf("%q\ncannot be planned any more: %v", out, err)
		}
		if diff := cmp.Diff(comparable(before), comparable(after)); diff != "" {
			t.Errorf("%q\n(-before +after):\n%s", out, diff)
		}
	})
}

// comparable is a plan without what Fix may change: lines, texts for display, the
// order of words in a command, the author.
func comparable(plan *Plan) *Plan {
	p := *plan
	p.Warnings, p.Stages = nil, nil
	words := func(s string) string {
		list := strings.Fields(strings.ToLower(s))
		slices.Sort(list)
		return strings.Join(list, " ")
	}
	for _, st := range plan.Stages {
		c := *st
		c.Pos, c.Image.Author = Position{}, ""
		labels := map[string]string{}
		for k, v := range st.Image.Config.Labels {
			labels[k] = v
		}
		if st.Image.Author != "" {
			labels[authorsLabel] = st.Image.Author
		}
		c.Image.Config.Labels = labels
		c.Steps, c.History = nil, nil
		for _, s := range st.Steps {
			s.Pos, s.Text = Position{}, ""
			if s.Run != nil {
				run := *s.Run
				run.Args = nil
				for _, arg := range s.Run.Args {
					run.Args = append(run.Args, words(arg))
				}
				s.Run = &run
			}
			c.Steps = append(c.Steps, s)
		}
		for _, h := range st.History {
			if rest, ok := strings.CutPrefix(h.CreatedBy, "MAINTAINER "); ok {
				h.CreatedBy = "LABEL " + authorsLabel + "=" + rest
			}
			h.CreatedBy = words(h.CreatedBy)
			c.History = append(c.History, h)
		}
		p.Stages = append(p.Stages, &c)
	}
	return &p
}
