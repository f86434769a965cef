package stages

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// FuzzPlan: any text is planned or refused, in bounded time and without a
// panic, every refusal is an *Error, and a plan can be printed.
func FuzzPlan(f *testing.F) {
	seeds, err := filepath.Glob("testdata/*/Dockerfile")
	if err != nil {
		f.Fatal(err)
	}
	more, err := filepath.Glob("testdata/seeds/*")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range append(seeds, more...) {
		src, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		start := cpuTime(t)
		opt := amd64()
		opt.AllStages, opt.Allow = true, []string{"network.host", "security.insecure", "device"}
		opt.Ignore, opt.Best = []string{"a*"}, BestAll
		opt.Facts = ContextFacts{NoIgnoreFile: true, Clutter: []string{".git"}, Unmatched: []ContextSource{{Path: "*.x"}}, Directories: []string{"src"}}
		plan, err := planOf(string(src), opt)
		var e *Error
		if err != nil && !errors.As(err, &e) {
			t.Errorf("%T: %v", err, err)
		}
		if err != nil && len(err.Error()) > 2000 {
			t.Errorf("a message of %d bytes", len(err.Error()))
		}
		if plan != nil {
			checkPlan(t, plan)
		}
		if d := cpuTime(t) - start; d > 5*slow*time.Second {
			t.Errorf("took %v", d)
		}
	})
}

// checkPlan tests what every plan promises.
func checkPlan(t *testing.T, plan *Plan) {
	t.Helper()
	if _, err := json.Marshal(plan); err != nil {
		t.Error(err)
	}
	seen := map[int]bool{}
	for _, st := range plan.Stages {
		for _, n := range st.Needs {
			if !seen[n] {
				t.Errorf("stage %d comes before stage %d, which it needs", st.Index, n)
			}
		}
		seen[st.Index] = true
		for i, s := range st.Steps {
			if h := st.History[s.History]; h.Empty {
				t.Errorf("step %d has an empty history entry", i)
			}
			if s.Number < 1 || s.Number > st.Total {
				t.Errorf("step %d of %d", s.Number, st.Total)
			}
			if n := btoi(s.Run != nil) + btoi(s.Copy != nil) + btoi(s.Workdir != nil); n != 1 {
				t.Errorf("a step of %d kinds", n)
			}
			if s.Copy != nil && s.Copy.Dest[0] != '/' {
				t.Errorf("destination %q", s.Copy.Dest)
			}
			if s.Run == nil {
				continue
			}
			for _, m := range s.Run.Mounts {
				if m.Target != "" && (m.Target[0] != '/' || m.Target == "/") {
					t.Errorf("mount target %q", m.Target)
				}
			}
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

// FuzzExpand: the guard never lets a word through whose expansion passes the
// bound, and what it refuses as too deep is deep.
func FuzzExpand(f *testing.F) {
	for _, w := range []string{"$v", "${v:-x}", `"${v#*/}"`, `'$v'\$`, "${v//?/$w}", "${v%%${w}*}", "${a:-${b:-${c}}}", "${v/\\//x}", "$1$@", `"a\"b"`, "${", "<<${v}"} {
		f.Add(w, false)
	}
	f.Fuzz(func(t *testing.T, word string, heredoc bool) {
		env := newEnviron([]string{"v=a/b/c", "w=xy", "e="})
		x := newExpander('\\')
		start := cpuTime(t)
		res, err := x.word(word, env)
		if heredoc {
			res, err = x.heredoc(word, env)
		}
		if d := cpuTime(t) - start; d > slow*time.Second {
			t.Errorf("took %v", d)
		}
		if err != nil {
			return
		}
		g := guard{escape: '\\', rawQuotes: heredoc, get: env.Get}
		if work, err := g.check(word); err != nil || len(res.Result) > work+2 {
			t.Errorf("%q gives %d bytes, the guard allowed for %d (%v)", word, len(res.Result), work, err)
		}
	})
}
