package stages

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// args is "line name=value: description" for each argument of a plan.
func args(plan *Plan) string {
	var lines []string
	for _, a := range plan.Args {
		lines = append(lines, strings.TrimRight(fmt.Sprintf("%d %s=%s: %s", a.Pos.Start, a.Name, a.Value, a.Description), ": "))
	}
	return strings.Join(lines, "\n")
}

func TestA8_ArgumentsThatATargetReads(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, src, want string
		opt             func(*Options)
	}{
		{"described ones", "FROM scratch\n# A is the first\n# B comes later\nARG A B=2\n#C is not\nARG C\n# D was\n\nARG D\n# E is\n#\nARG E\n# b is not B\nARG F\n",
			"4 A=: is the first\n4 B=2: comes later\n6 C=: is not\n9 D=\n12 E=\n14 F=", nil},
		{"those of the image's name, and what their values are made of", "ARG a=box\nARG b=abc$a\n# c is the rest\nARG c=usy$a\nFROM b$c\n", "1 a=box\n4 c=usybox: is the rest", nil},
		{"that of the platform", "ARG a=linux/arm64\nFROM --platform=$a busybox\n", "1 a=linux/arm64", nil},
		{"values made of the one before", "ARG X=1\nARG Y=y\nARG Z\nARG X=$X$Y\nARG W=${X}2\nARG X=${X}3$W\nFROM scratch\nARG X\nARG I=1\nARG J=${I}2\nARG I=${I}3$J\n",
			"2 Y=y\n5 W=1y2\n6 X=1y31y2\n10 J=12\n11 I=1312", nil},
		{"a global one that the stage declares again", "# A is global\nARG A=1\nFROM scratch\nARG A\n", "2 A=1: is global", nil},
		{"a global one that the stage gives a value of its own", "ARG A=1\nFROM scratch\n# A is the stage's\nARG A=2\n", "4 A=2: is the stage's", nil},
		{"given ones", "ARG A=1\nFROM scratch\nARG A\nARG B=2\n", "3 A=9\n4 B=8", buildArgs("A", "9", "B", "8")},
		{"predefined ones are no build arguments", "FROM scratch\nARG TARGETARCH\n", "", nil},
		{"other stages only as far as they are needed", "FROM scratch AS a\nARG A=1\nFROM scratch AS b\nARG B\nFROM a AS c\nARG C\nFROM c\nCOPY --from=a / /\n", "2 A=1\n6 C=", nil},
		{"of two stages the nearer one", "FROM scratch AS a\nARG A=1\nFROM a\nARG A=2\n", "4 A=2", nil},
		{"a stage that a named context replaces", "ARG I=busybox\nFROM $I AS x\nARG A\nFROM x\n", "", func(o *Options) { o.Contexts = map[string]Context{"x": {Dir: true}} }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var opts []func(*Options)
			if tc.opt != nil {
				opts = append(opts, tc.opt)
			}
			if diff := cmp.Diff(tc.want, args(mustPlan(t, tc.src, opts...))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestA8_SecretsAndAgentsThatATargetMounts(t *testing.T) {
	t.Parallel()
	src := "FROM busybox AS a\nRUN --mount=type=secret,target=/etc/passwd,required=true --mount=type=ssh true\n" +
		"FROM busybox AS unused\nRUN --mount=type=secret,id=unused --mount=type=ssh,id=unused true\n" +
		"FROM busybox AS b\nARG B=1\nRUN --mount=type=secret,id=x$B true\nFROM b\nCOPY --from=a /a /\n" +
		"RUN --mount=type=ssh,id=other,required --mount=type=secret,id=passwd --mount=type=cache,target=/c true\n"
	plan := mustPlan(t, src)
	got := fmt.Sprint(plan.Secrets(), plan.SSH())
	want := "[{x1 false {7 7}} {passwd false {10 10}}] [{default false {2 2}} {other true {10 10}}]"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestA8_Targets(t *testing.T) {
	t.Parallel()
	src := "# build makes it\nFROM alpine AS build\nRUN true\n# second is described\n\nfrom --platform=$BUILDPLATFORM $X as Second\n# nobody is\nFROM alpine\n" +
		"# check=skip=all\n# last says\n#   more\nFROM second AS last\n"
	f, err := Parse("Dockerfile", []byte(src), ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	want := []Target{
		{"build", "makes it", "alpine", "", false, Position{2, 2}},
		{"second", "", "$X", "$BUILDPLATFORM", false, Position{6, 6}},
		{"", "", "alpine", "", false, Position{8, 8}},
		{"last", "says", "second", "", true, Position{12, 12}},
	}
	if diff := cmp.Diff(want, f.Targets()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	plan := mustPlan(t, strings.ReplaceAll(src, "$X", "alpine"), func(o *Options) { o.AllStages = true })
	for _, st := range plan.Stages {
		if st.Doc != want[st.Index].Description {
			t.Errorf("stage %d: %q", st.Index, st.Doc)
		}
	}
}
