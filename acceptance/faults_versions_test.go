package acceptance

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestHostileF21_AStateOfAnotherVersion is refused and stays as it is; what a later version keeps beside ours is left alone.
func TestHostileF21_AStateOfAnotherVersion(t *testing.T) {
	f := newFaultWorld(t)
	f.build(f.args...)
	for _, name := range []string{"cache/v2/records/x", "later/x"} {
		full := filepath.Join(f.root, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte("of a later version"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f.recovered("beside a later version")
	if o := f.prune(); o.code != 0 {
		t.Errorf("prune: exit code %d\n%s", o.code, o.stderr)
	}
	for _, name := range []string{"cache/v2/records/x", "later/x"} {
		if _, err := os.Stat(filepath.Join(f.root, name)); err != nil {
			t.Errorf("gone: %v", err)
		}
	}
	if err := os.WriteFile(filepath.Join(f.root, "version"), []byte("gobuild state 999\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := names(t, f.root)
	for what, o := range map[string]outcome{"build": f.run(f.command(append(f.args, f.dir)...)), "prune": f.prune()} {
		if o.code != 3 || !strings.Contains(o.stderr, "its form is") {
			t.Errorf("%s: exit code %d\n%s", what, o.code, o.stderr)
		}
	}
	if after := names(t, f.root); after != before {
		t.Errorf("changed:\n%s\nbefore:\n%s", after, before)
	}
}

// newerGobuild is made from this source with another form of the records of steps, in a folder of their own, as a later version would be.
func newerGobuild(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	var overlay strings.Builder
	for name, change := range map[string][2]string{
		"cache/key.go":   {`"gobuild key 1\n"`, `"gobuild key 2\n"`},
		"cache/store.go": {`"v1"`, `"v2"`},
	} {
		full, err := filepath.Abs(filepath.Join("..", name))
		if err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(full)
		if err != nil {
			t.Fatal(err)
		}
		text := strings.Replace(string(data), change[0], change[1], 1)
		if text == string(data) {
			t.Fatalf("%s has no %s", name, change[0])
		}
		changed := filepath.Join(dir, filepath.Base(name))
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if overlay.Len() > 0 {
			overlay.WriteByte(',')
		}
		fmt.Fprintf(&overlay, "%q: %q", full, changed)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, []byte(`{"Replace": {`+overlay.String()+`}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	newer := filepath.Join(dir, "gobuild")
	cmd := exec.Command("go", "build", "-trimpath", "-overlay", list, "-o", newer, "gobuild/cmd/build")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build a newer gobuild: %v\n%s", err, out)
	}
	return newer
}

// TestHostileF21_TwoVersionsTakeTurns: on one state directory, with edits between the turns, checks and removals by either. Each makes what
// the other made, in its own form; neither believes nor removes the other's records, so each still has its own in its next turn.
func TestHostileF21_TwoVersionsTakeTurns(t *testing.T) {
	f := newFaultWorld(t)
	versions := []string{binary, newerGobuild(t)}
	turns := 6
	if *allFaults {
		turns = 100
	}
	by := func(version string, args ...string) outcome {
		return f.run(exec.Command(version, append([]string{"--root", f.root}, args...)...))
	}
	digests := map[string]string{} // of a content
	for turn := range turns {
		content := fmt.Sprint(turn / 4 % 5)
		f.write("tree/a", content)
		version := versions[turn%2]
		o := by(version, append(append([]string{"--network", "none", "--explain"}, f.args...), f.dir)...)
		if o.code != 0 {
			t.Fatalf("turn %d: exit code %d\n%s", turn, o.code, o.stderr)
		}
		if d := digests[content]; d != "" && d != o.stdout {
			t.Errorf("turn %d: %s, before %s", turn, o.stdout, d)
		}
		digests[content] = o.stdout
		// Of four turns with one content the first two make it in either form, and the others find that.
		if cached := !strings.Contains(o.stderr, "MISS: "); cached != (turn%4 >= 2 || turn >= 20) {
			t.Errorf("turn %d: cached is %t\n%s", turn, cached, o.stderr)
		}
		for _, args := range [][]string{{"cache", "verify", "--repair"}, {"prune", "--unused-for=24h", "--force"}} {
			if o := by(versions[(turn/2)%2], args...); o.code != 0 {
				t.Errorf("turn %d, %v: exit code %d\n%s%s", turn, args, o.code, o.stdout, o.stderr)
			}
		}
	}
	for i, version := range versions {
		if o := by(version, "prune", "--all", "--force"); o.code != 0 {
			t.Errorf("prune by %d: exit code %d\n%s", i, o.code, o.stderr)
		}
	}
	f.write("tree/a", "a")
	f.recovered("two versions")
}
