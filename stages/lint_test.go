package stages

import (
	"fmt"
	"reflect"
	"sort"
	"strings"
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

// What a finding says, and near misses: none of these rows has another finding.
func TestLint_Messages(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, src, want string }{
		{"E10", "FROM scratch AS Low\n", "StageNameCasing 1 Stage name 'Low' should be lowercase"},
		{"E11", "FROM scratch As low\n", "FromAsCasing 1 'As' and 'FROM' keywords' casing do not match"},
		{"E12 the line is the last of the instruction", "FROM scratch\n# x\nLABEL a=b \\\n\n\n  c=d\nCMD [\"x\"]\n", "NoEmptyContinuation 6 Empty continuation line"},
		{"E13 mixed case", "From scratch\nCMD [\"x\"]\n", "ConsistentInstructionCasing 1 Command 'From' should match the case of the command majority (uppercase)"},
		{"E13 lower", "from scratch\nlabel a=b\nUser x\n", "ConsistentInstructionCasing 3 Command 'User' should match the case of the command majority (lowercase)"},
		{"E13 a trigger's own keyword does not count", "FROM scratch\nONBUILD run x\n", ""},
		{"E14", "FROM scratch AS a\nFROM scratch AS b\nFROM scratch AS a\n", "DuplicateStageName 3 Duplicate stage name \"a\", stage names should be unique"},
		{"E15", "FROM scratch AS context\n", "ReservedStageName 1 Stage name should not use the same name as reserved stage \"context\""},
		{"E16", "FROM scratch\nENTRYPOINT x y\n", "JSONArgsRecommended 2 JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals"},
		{"E17", "FROM scratch\nMAINTAINER x\n", "MaintainerDeprecated 2 Maintainer instruction is deprecated in favor of using label"},
		{"E18 with a near name", "ARG MY_ARCH=amd64\nFROM --platform=linux/${MYARCH:-amd64} busybox AS x\n", "UndefinedArgInFrom 2 FROM argument 'MYARCH' is not declared (did you mean MY_ARCH?)"},
		{"E18 without one", "FROM busybox${zzzzzzzzz}\n", "UndefinedArgInFrom 1 FROM argument 'zzzzzzzzz' is not declared"},
		{"E18 declared without a value", "ARG D\nFROM busybox$D\n", ""},
		{"E18 a default", "ARG D\nFROM busy${D:-box}\n", ""},
		{"E18 predefined", "FROM --platform=$BUILDPLATFORM busybox\n", ""},
		{"E19", "FROM scratch\nWORKDIR app/\n", "WorkdirRelativePath 2 Relative workdir \"app/\" can have unexpected results if the base image changes"},
		{"E20 a later ARG is too late", "FROM scratch\nLABEL a=$foo\nARG foo=bar\n", "UndefinedVar 2 Usage of undefined variable '$foo'"},
		{"E20 not in what the shell expands", "FROM busybox\nRUN echo $foo\nCMD [\"$foo\"]\n", ""},
		{"E20 a name of the build", "FROM busybox\nENV PATH=$PAHT:/x\n", "UndefinedVar 2 Usage of undefined variable '$PAHT' (did you mean $PATH?)"},
		{"E20 an alternative does not declare it", "FROM busybox\nENV a=${x:-y}\n", "UndefinedVar 2 Usage of undefined variable '$x'"},
		{"E20 an ARG of the stage below", "FROM scratch AS a\nARG v=1\nFROM a\nLABEL b=$v\n", ""},
		{"E21", "FROM scratch\nCMD [\"a\"]\nLABEL a=b\nCMD [\"b\"]\n", "MultipleInstructionsDisallowed 2 Multiple CMD instructions should not be used in the same stage because only the last one will be used"},
		{"E21 in stages of their own", "FROM scratch AS a\nCMD [\"a\"]\nFROM a\nCMD [\"b\"]\n", ""},
		{"E22", "FROM scratch\nLABEL k v\n", `LegacyKeyValueFormat 2 "LABEL key=value" should be used instead of legacy "LABEL key value" format`},
		{"E23", "FROM --platform=${TARGETPLATFORM} busybox\n", "RedundantTargetPlatform 1 Setting platform to predefined ${TARGETPLATFORM} in FROM is redundant as this is the default behavior"},
		{"E24", "FROM scratch\nENV git_key=\n", `SecretsUsedInArgOrEnv 2 Do not use ARG or ENV instructions for sensitive data (ENV "git_key")`},
		{"E24 no secrets", "FROM scratch\nARG SECRET_PASSPHRASE_FILE AUTH_VERSION PUBLIC_KEY sunflower keys\n", ""},
		{"E24 a reason after the exception", "FROM scratch\n# check=skip=SecretsUsedInArgOrEnv // it is none\nENV password=x\n", ""},
		{"E26", "FROM --platform=linux/arm64 busybox AS x\n", `FromPlatformFlagConstDisallowed 1 FROM --platform flag should not use constant value "linux/arm64"`},
		{"E26 a stage that says so", "FROM --platform=linux/arm64 busybox AS build_arm64\n", ""},
		{"E29", "# check=skip=all;experimental=InvalidDefinitionDescription\n# b is it\nARG a=b\nFROM scratch\n", "InvalidDefinitionDescription 3 Comment for ARG should follow the format: `# a <description>`"},
		{"E29 an empty comment between", "# check=skip=all;experimental=all\n# b is it\n#\nARG a=b\nFROM scratch\n", ""},
		{"E30", "FROM scratch\nEXPOSE 80/Tcp\n", "ExposeProtoCasing 2 Defined protocol '80/Tcp' in EXPOSE instruction should be lowercase"},
		{"E31", "FROM scratch\nEXPOSE [::1]:80:80\n", "ExposeInvalidFormat 2 EXPOSE instruction should not define an IP address or host-port mapping, found '[::1]:80:80'"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, w := range mustPlan(t, tc.src).Warnings {
				got = append(got, fmt.Sprintf("%s %d %s", w.Rule, w.Pos.Start, w.Message))
			}
			if text := strings.Join(got, "\n"); text != tc.want {
				t.Errorf("got  %s\nwant %s", text, tc.want)
			}
		})
	}
}
