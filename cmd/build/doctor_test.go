package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gobuild/builder"
	"gobuild/internal/testexec"
)

// nobody is a user who owns nothing here.
const nobody = 65534

// plainUser runs gobuild as nobody, with a home directory of its own.
func plainUser(t *testing.T, home, exe string, args ...string) (stdout string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), exe, args...)
	cmd.Args[0] = "gobuild"
	cmd.Env = []string{"HOME=" + home, "PATH=/usr/bin:/bin", "TMPDIR=" + home}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v\n%s", err, errOut.String())
	}
	if errOut.Len() > 0 {
		t.Errorf("standard error: %s", errOut.String())
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// openDir is a directory that every user can enter, with a copy of this program and a home for nobody in it.
func openDir(t *testing.T) (home, exe string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it becomes another user")
	}
	dir, err := os.MkdirTemp("/tmp", "gobuild-test-") //nolint:usetesting // t.TempDir is closed to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	home, exe = filepath.Join(dir, "home"), filepath.Join(dir, "gobuild")
	err = errors.Join(os.Chmod(dir, 0o755), testexec.WriteFile(exe, data), os.Mkdir(home, 0o700), os.Chown(home, nobody, nobody))
	if err != nil {
		t.Fatal(err)
	}
	return home, exe
}

func TestN10_DoctorTellsAPlainUserWhatIsNeeded(t *testing.T) {
	t.Parallel()
	home, exe := openDir(t)
	out, code := plainUser(t, home, exe, "doctor")
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	for _, want := range []string{
		"limited  RUN steps          run as root of a user namespace with one id\n",
		"owners are recorded for the image, and steps do not see them: map ids into a user namespace: ",
		"remedy: sudo usermod --add-subuids ",
		"ok       file owners        any owner can be recorded\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	out, code = plainUser(t, home, exe, "doctor", "--json")
	var d builder.Diagnosis
	if err := json.Unmarshal([]byte(out), &d); err != nil || code != 0 || !d.CanRun || d.Rung != builder.RungOne {
		t.Errorf("exit code %d, %v, %+v", code, err, d)
	}
	left := []string{}
	_ = filepath.WalkDir(home, func(p string, _ fs.DirEntry, _ error) error {
		left = append(left, p)
		return nil
	})
	if len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}
