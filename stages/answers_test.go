package stages

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"testing"
)

// recorded is what the reference makes of a Dockerfile, recorded from its own conversion: whether it is refused, or the
// configuration and history. A history text begins with whether it makes no layer.
type recorded struct {
	Dockerfile string            `json:"dockerfile"`
	Args       map[string]string `json:"args"`
	Target     string            `json:"target"`
	Fails      bool              `json:"fails"`
	Config     json.RawMessage   `json:"config"`
	History    []string          `json:"history"`
}

// The Dockerfiles of testdata/answers.jsonl were made at random from words, quotes, escapes, variables, heredocs, comments
// and continuations, so they are as odd as nobody writes them.
func TestA18A19A20A21_AnswersOfTheReference(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("testdata/answers.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	dec, n := json.NewDecoder(bytes.NewReader(data)), 0
	for ; dec.More(); n++ {
		var a recorded
		if err := dec.Decode(&a); err != nil {
			t.Fatal(err)
		}
		if what := a.differs(); what != "" {
			t.Errorf("%s\nargs %q, target %q\n%s", what, a.Args, a.Target, a.Dockerfile)
		}
	}
	if n < 200 {
		t.Errorf("%d answers were read", n)
	}
}

func (a recorded) differs() string {
	opt := amd64()
	opt.BuildArgs, opt.Target, opt.Allow = a.Args, a.Target, []string{"network.host", "security.insecure", "device"}
	plan, err := planOf(a.Dockerfile, opt)
	switch {
	case err != nil && a.Fails:
		return ""
	case err != nil:
		return fmt.Sprintf("refused: %v", err)
	case a.Fails:
		return "accepted, the reference refuses it"
	}
	var got, want any
	text, err := json.Marshal(plan.Target().Image.Config)
	if err != nil {
		return err.Error()
	}
	if json.Unmarshal(text, &got) != nil || json.Unmarshal(a.Config, &want) != nil || !reflect.DeepEqual(got, want) {
		return fmt.Sprintf("configuration\n%s, want\n%s", text, a.Config)
	}
	if h := fullHistory(plan, plan.Target()); !reflect.DeepEqual(h, a.History) {
		return fmt.Sprintf("history\n%q, want\n%q", h, a.History)
	}
	return ""
}

// fullHistory is the history of a stage after that of the stages it is based on.
func fullHistory(plan *Plan, st *Stage) []string {
	var texts []string
	for _, other := range plan.Stages {
		if st.Base.Kind == SourceStage && other.Index == st.Base.Stage {
			texts = fullHistory(plan, other)
		}
	}
	for _, h := range st.History {
		texts = append(texts, fmt.Sprintf("%v %s", h.Empty, h.CreatedBy))
	}
	return texts
}
