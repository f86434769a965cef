package stages

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestH18_EditsAreOfTheResultAlone(t *testing.T) {
	t.Parallel()
	const src = "FROM rich AS one\nENV B=1 C=1\nLABEL own=1\nFROM one\nRUN true\n"
	opt := amd64()
	opt.Env = []string{"D=x=y", "B=2", "E="}
	opt.Labels = map[string]string{"base": "set"}
	opt.Unset = Unset{Env: []string{"A", "C", "E", "nowhere"}, Labels: []string{"both", "own", "base"}}
	plan, err := planOf(src, opt)
	if err != nil {
		t.Fatal(err)
	}
	config := plan.Target().Image.Config
	if diff := cmp.Diff([]string{"NOPATH", "B=2", "D=x=y", "E="}, without(config.Env, testPath)); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"base": "set"}, config.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	if got, _ := lookupEnv(lastRun(plan).Env, "B"); got != "1" {
		t.Errorf("a step sees B=%s", got)
	}
	if got, ok := lookupEnv(lastRun(plan).Env, "A"); !ok || got != "from-base" {
		t.Errorf("a step sees A=%s", got)
	}
	for _, st := range plan.Stages[:len(plan.Stages)-1] {
		if got, _ := lookupEnv(st.Image.Config.Env, "B"); got == "2" || st.Image.Config.Labels["own"] == "" {
			t.Errorf("stage %s is edited: %v", st.Name, st.Image.Config)
		}
	}
}

func without(list []string, gone string) []string {
	var out []string
	for _, s := range list {
		if s != gone {
			out = append(out, s)
		}
	}
	return out
}
