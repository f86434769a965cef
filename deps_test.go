package houserules

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// deps.txt names every module that go.mod requires directly, with the reason. So a new dependency shows in review as a sentence.
func TestDependenciesAreExplained(t *testing.T) {
	t.Parallel()
	required := requirements(t)
	reasons := map[string]string{}
	last := ""
	for n, line := range lines(t, "deps.txt") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, reason, _ := strings.Cut(line, " ")
		if strings.TrimSpace(reason) == "" {
			t.Errorf("deps.txt:%d: %s has no reason", n+1, name)
		}
		if name <= last {
			t.Errorf("deps.txt:%d: %s is out of order", n+1, name)
		}
		last = name
		reasons[name] = reason
	}
	for name, direct := range required {
		if _, ok := reasons[name]; direct && !ok {
			t.Errorf("go.mod requires %s, but deps.txt does not say why", name)
		}
	}
	for name := range reasons {
		if direct, ok := required[name]; !ok || !direct {
			t.Errorf("deps.txt explains %s, which go.mod does not require directly", name)
		}
	}
}

var requireLine = regexp.MustCompile(`^(?:require )?([^\s(]+) v\S+( // indirect)?$`)

// requirements reads the modules of go.mod; the value says whether this module imports it directly.
func requirements(t *testing.T) map[string]bool {
	t.Helper()
	list := map[string]bool{}
	for _, line := range lines(t, "go.mod") {
		if m := requireLine.FindStringSubmatch(line); m != nil {
			list[m[1]] = m[2] == ""
		}
	}
	if len(list) == 0 {
		t.Fatal("go.mod: no requirement found")
	}
	return list
}

func lines(t *testing.T, file string) []string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	list := strings.Split(string(data), "\n")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}
