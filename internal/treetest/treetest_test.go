package treetest

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func plant(t *testing.T) *Canary {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	c, err := Plant(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// Each way to read or change the tree trips the alarm, once.
func TestEveryViolationTripsTheAlarm(t *testing.T) {
	t.Parallel()
	for name, script := range map[string]string{
		"read": "cat etc/shadow", "read by access time": "cat etc/shadow", "list": "ls etc", "write": "echo x >> open", "same bytes": "cat open > x; cat x > open; rm x", "mode": "chmod 700 open",
		"mode and back": "chmod 700 open; chmod 666 open", "owner": "chown 1 open", "new file": "touch empty/x", "new file that is gone": "touch empty/x; rm empty/x",
		"removed": "rm link", "renamed": "mv open closed", "hard link": "ln open ../link", "times": "touch -d @0 etc/passwd", "read by another mount": "unshare -m cat etc/ssl/key",
		"directory's mode": "chmod 777 etc",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := plant(t)
			if a := c.Alarms(); len(a) > 0 {
				t.Fatalf("before: %q", a)
			}
			cmd := exec.Command("sh", "-ec", script)
			cmd.Dir = c.Dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			if name == "read by access time" { // as where there is no fanotify
				c.accesses()
			}
			if a := c.Alarms(); len(a) == 0 {
				t.Error("no alarm")
			}
			if a := c.Alarms(); len(a) > 0 {
				t.Errorf("again: %q", a)
			}
		})
	}
}

func TestSettingsThatChangeAreTold(t *testing.T) {
	t.Parallel()
	before := Settings()
	if len(before) < 10 {
		t.Errorf("only %d settings", len(before))
	}
	if got := Changed(before); len(got) > 0 {
		t.Errorf("nothing changed: %q", got)
	}
	const name = "/proc/sys/kernel/core_pattern"
	before[name] += "x"
	before["/no/such"] = ""
	delete(before, "/proc/sys/kernel/panic")
	got := strings.Join(Changed(before), "\n")
	for _, want := range []string{name + " was", "/no/such was", "/proc/sys/kernel/panic is new"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in %q", want, got)
		}
	}
}

func TestTracesAreFoundInOtherProcesses(t *testing.T) {
	t.Parallel()
	mark := "TREETEST=" + t.TempDir()
	if found := Traces(mark); len(found) > 0 {
		t.Errorf("before: %q", found)
	}
	cmd := exec.Command("cat")
	cmd.Env = append(os.Environ(), mark)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if found := Traces(mark); len(found) != 1 || !strings.HasSuffix(found[0], "/environ") {
		t.Errorf("%q", found)
	}
	if err := in.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestASecretIsFoundInEveryForm(t *testing.T) {
	t.Parallel()
	const secret = "s3cret/+&\x80 0123456789abcdef"
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = w.Write([]byte("before " + secret))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"plain": "a" + secret + "b", "hex": hex.EncodeToString([]byte("x" + secret)), "query": url.QueryEscape("q " + secret), "gzip": zipped.String(),
		"gzip behind something": "0123\x1f\x8b" + zipped.String() + "tail", "base64": base64.StdEncoding.EncodeToString([]byte(secret)),
		"base64 at 1": base64.StdEncoding.EncodeToString([]byte("a" + secret + "b")), "base64 at 2": base64.URLEncoding.EncodeToString([]byte("ab" + secret)),
		"cut gzip": zipped.String()[:zipped.Len()-6],
	} {
		if !Holds([]byte(data), secret) {
			t.Errorf("not found: %s", name)
		}
	}
	if Holds([]byte("\x1f\x8b\x08 "+secret[:10]), secret) {
		t.Error("found where it is not")
	}
	dir := t.TempDir()
	for _, name := range []string{"file", "sub/" + hex.EncodeToString([]byte(secret))} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for name, data := range map[string]string{"file": secret, "fine": "nothing", "sub/" + hex.EncodeToString([]byte(secret)): ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(secret, filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	if found, err := Holding(secret, dir); err != nil || len(found) != 3 {
		t.Errorf("%q, %v", found, err)
	}
}
