package stages

import (
	"fmt"
	"reflect"
	"sort"
	"testing"
)

// rows: A6
func TestLint(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, src string
		ignore    []string
		want      []string // rule and line
	}{
		{"clean", "FROM scratch AS a\nCMD [\"x\"]\n", nil, nil},
		{"E10 E11", "FROM scratch as Base\n", nil, []string{"FromAsCasing 1", "StageNameCasing 1"}},
		{"E11 lower", "from scratch AS base\n", nil, []string{"FromAsCasing 1"}},
		{"E12", "FROM scratch\nENV a=b \\\n\n c=d\n", nil, []string{"NoEmptyContinuation 4"}},
		{"E13 majority", "from scratch\nenv a=b\nENV c=d\nEnv e=f\n", nil, []string{"ConsistentInstructionCasing 3", "ConsistentInstructionCasing 4"}},
		{"E13 tie is upper", "from scratch\nENV a=b\n", nil, []string{"ConsistentInstructionCasing 1"}},
		{"E14", "FROM scratch AS a\nFROM scratch AS a\n", nil, []string{"DuplicateStageName 2"}},
		{"E15", "FROM scratch AS context\nFROM scratch AS scratch\n", nil, []string{"ReservedStageName 1", "ReservedStageName 2"}},
		{"E16", "FROM scratch\nENTRYPOINT a\nCMD b\n", nil, []string{"JSONArgsRecommended 2", "JSONArgsRecommended 3"}},
		{"E16 not with SHELL", "FROM scratch\nSHELL [\"x\"]\nENTRYPOINT a\n", nil, nil},
		{"E16 nor SHELL of the base", "FROM rich\nCMD b\n", nil, nil},
		{"E17", "FROM scratch\nMAINTAINER x\n", nil, []string{"MaintainerDeprecated 2"}},
		{"E18", "ARG a=busybox\nFROM $a$b AS x\nFROM --platform=linux/$TARGETARHC$TARGETARCH busybox\n", nil, []string{"UndefinedArgInFrom 2", "UndefinedArgInFrom 3"}},
		{"E19", "FROM busybox\nWORKDIR a\nWORKDIR b\n", nil, []string{"WorkdirRelativePath 2"}},
		{"E19 in the chain", "FROM busybox AS x\nWORKDIR /a\nFROM x\nWORKDIR b\n", nil, nil},
		{"E20", "FROM busybox\nARG declared\nENV a=$declared b=$undeclared\nCOPY $x $PTAH /\nRUN $x\n", nil, []string{"UndefinedVar 3", "UndefinedVar 4", "UndefinedVar 4"}},
		{"E20 heredoc and mount", "FROM busybox\nCOPY <<E /x\n$x\nE\nRUN --mount=type=cache,target=/x$y z\n", nil, []string{"UndefinedVar 2", "UndefinedVar 5"}},
		{"E21 at the earlier", "FROM scratch\nCMD [\"a\"]\nCMD [\"b\"]\nENTRYPOINT [\"a\"]\nENTRYPOINT [\"b\"]\nHEALTHCHECK NONE\nHEALTHCHECK NONE\n", nil,
			[]string{"MultipleInstructionsDisallowed 2", "MultipleInstructionsDisallowed 4", "MultipleInstructionsDisallowed 6"}},
		{"E22", "FROM scratch\nENV k v\nLABEL k v\n", nil, []string{"LegacyKeyValueFormat 2", "LegacyKeyValueFormat 3"}},
		{"E23", "FROM --platform=$TARGETPLATFORM busybox\n", nil, []string{"RedundantTargetPlatform 1"}},
		{"E23 needs exactly it", "FROM --platform=${TARGETPLATFORM:-x} busybox AS a\nFROM --platform=$BUILDPLATFORM busybox\n", nil, []string{"RedundantTargetPlatform 1"}},
		{"E24", "FROM scratch\nARG my_token\nENV API_KEY=1 PUBLIC_KEY=1 KEYBOARD=1 aws_Credentials=2\n", nil,
			[]string{"SecretsUsedInArgOrEnv 2", "SecretsUsedInArgOrEnv 3", "SecretsUsedInArgOrEnv 3"}},
		{"E25", "ARG tag\nARG ok=latest\nFROM busybox:$ok\nFROM busybox:${tag}\n", nil, []string{"InvalidDefaultArgInFrom 4"}},
		{"E26", "FROM --platform=linux/amd64 busybox AS a\nFROM --platform=linux/amd64 busybox AS a-amd64\n", nil, []string{"FromPlatformFlagConstDisallowed 1"}},
		{"E27", "FROM arm\n", nil, []string{"InvalidBaseImagePlatform 1"}},
		{"E28", "FROM scratch AS a\nCOPY a/b c /\nADD ./a/ /\nCOPY . /\nFROM scratch\nCOPY --from=a a /\n", []string{"a", "d"}, []string{"CopyIgnoredFile 2", "CopyIgnoredFile 3"}},
		{"E28 all", "FROM scratch\nCOPY . /\n", []string{"**"}, []string{"CopyIgnoredFile 2"}},
		{"E28 not with exceptions", "FROM scratch\nCOPY a /\n", []string{"a", "!b"}, nil},
		{"E29 only when asked", "# x y\nFROM scratch AS a\n", nil, nil},
		{"E29", "# check=experimental=all\n\n# x y\nFROM scratch AS a\n", nil, []string{"InvalidDefinitionDescription 4"}},
		{"E30 E31", "FROM scratch\nEXPOSE 1/TCP 2:3\n", nil, []string{"ExposeInvalidFormat 2", "ExposeProtoCasing 2"}},
		{"E2 skip", "# check=skip=MaintainerDeprecated,NoSuch\nFROM scratch AS A\nMAINTAINER x\n", nil, []string{"StageNameCasing 2"}},
		{"E2 skip all", "# check=skip=all\nFROM scratch AS A\nMAINTAINER x\n", nil, nil},
		{"E2 skip one instruction", "FROM scratch\n# check=skip=UndefinedVar\nLABEL a=$x\nLABEL a=$x\n", nil, []string{"UndefinedVar 4"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			plan := mustPlan(t, tc.src, func(o *Options) {
				o.AllStages, o.Ignore = true, tc.ignore
				if tc.name == "E25" {
					o.BuildArgs = map[string]string{"tag": "1"}
				}
			})
			var got []string
			for _, w := range plan.Warnings {
				got = append(got, fmt.Sprintf("%s %d", w.Rule, w.Pos.Start))
			}
			sort.Strings(got)
			sort.Strings(tc.want)
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestE2_ErrorOption(t *testing.T) {
	t.Parallel()
	if plan := mustPlan(t, "# check=error=true\nFROM scratch\n"); !plan.FailOnWarnings {
		t.Error("error=true is lost")
	}
	f, err := Parse("Dockerfile", []byte("# check=error=true\nFROM scratch\n"), ParseOptions{BuildArgs: map[string]string{"BUILDKIT_DOCKERFILE_CHECK": "skip=all"}})
	if err != nil {
		t.Fatal(err)
	}
	plan, _, err := f.Plan(amd64(), nil)
	if err != nil || plan.FailOnWarnings {
		t.Errorf("the build argument wins: %v %v", plan, err)
	}
}

func TestE20_Suggestion(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, "FROM busybox\nENV a=$PTAH\n")
	w := plan.Warnings[0]
	if w.Message != "Usage of undefined variable '$PTAH' (did you mean $PATH?)" || w.URL == "" || w.Description == "" {
		t.Errorf("%+v", w)
	}
}

func TestWarningsComeWithAnError(t *testing.T) {
	t.Parallel()
	_, err := planOf("ARG IMG\nFROM ${IMG}\n", amd64())
	if e := wantError(t, err, 2, "is empty", "--build-arg"); len(e.Warnings) != 1 || e.Warnings[0].Rule != "InvalidDefaultArgInFrom" {
		t.Errorf("warnings %+v", e.Warnings)
	}
}

func TestWarningsAreBounded(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, "FROM busybox\n"+repeat(5000, func(i int) string { return fmt.Sprintf("LABEL a=$m%d\n", i) }))
	if n := len(plan.Warnings); n != maxWarnings {
		t.Errorf("%d warnings", n)
	}
}

func TestA5_LabsNotice(t *testing.T) {
	t.Parallel()
	allow := func(o *Options) { o.Allow = []string{"device"} }
	if w := mustPlan(t, "FROM busybox\nRUN --device=a/b=c x\n", allow).Warnings; len(w) != 1 || w[0].Rule != NoticeLabsFeature {
		t.Errorf("got %+v", w)
	}
	if w := mustPlan(t, "# syntax=docker/dockerfile:labs\nFROM busybox\nRUN --device=a/b=c x\n", allow).Warnings; len(w) != 0 {
		t.Errorf("got %+v", w)
	}
}
