package main

import (
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"gobuild/internal/testexec"
	"gobuild/sandbox"
)

// TestMain lets scripts run "exec gobuild": the test binary is gobuild when it
// is called by that name, and the child of a sandbox when a RUN re-executes it.
func TestMain(m *testing.M) {
	if sandbox.IsChild(os.Args) {
		sandbox.ChildMain()
		return
	}
	testscript.Main(m, map[string]func(){"gobuild": main, plainUserName: becomePlainUser})
}

// TestScripts runs testdata/script. Beside testscript's own, a script has
//
//	[root], [busybox]     conditions: we are root; there is a static busybox
//	mkbase DIR            makes a root file system with a shell, for --build-context base=DIR
//	status N PROGRAM ...  runs a program that must exit with N
//
// and an environment with a state directory of its own ($GOBUILD_ROOT, below $WORK).
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			home := filepath.Join(env.WorkDir, "home")
			env.Setenv("HOME", home)
			env.Setenv("GOBUILD_ROOT", filepath.Join(env.WorkDir, ".state"))
			env.Setenv("BUSYBOX", busybox())
			return os.Mkdir(home, 0o700)
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "root":
				return os.Geteuid() == 0, nil
			case "busybox":
				return busybox() != "", nil
			}
			return false, errors.New("unknown condition " + cond)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"mkbase": scriptMkbase,
			"status": scriptStatus,
		},
	})
}

// busybox is the path of a statically linked busybox, "" when there is none.
func busybox() string {
	for _, path := range []string{"/bin/busybox", "/usr/bin/busybox", "/usr/local/bin/busybox"} {
		f, err := elf.Open(path)
		if err != nil {
			continue
		}
		static := true
		for _, p := range f.Progs {
			static = static && p.Type != elf.PT_INTERP
		}
		_ = f.Close()
		if static {
			return path
		}
	}
	return ""
}

// scriptMkbase makes a small root file system: busybox with its applets as links, users, and /tmp.
func scriptMkbase(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: mkbase DIR")
	}
	if busybox() == "" {
		ts.Fatalf("mkbase: no static busybox; begin the script with [!busybox] skip")
	}
	ts.Check(makeBase(ts.MkAbs(args[0])))
}

func makeBase(dir string) error {
	box := busybox()
	data, err := os.ReadFile(box)
	if err != nil {
		return err
	}
	list, err := exec.Command(box, "--list").Output()
	if err != nil {
		return err
	}
	for _, d := range []string{"bin", "etc", "root", "tmp", "usr/bin", "var", "home/user"} {
		err = errors.Join(err, os.MkdirAll(filepath.Join(dir, d), 0o755))
	}
	err = errors.Join(err, os.Chmod(filepath.Join(dir, "tmp"), 0o777|os.ModeSticky), testexec.WriteFile(filepath.Join(dir, "bin/busybox"), data))
	for _, applet := range strings.Fields(string(list)) {
		if applet != "busybox" && !strings.ContainsRune(applet, '/') {
			err = errors.Join(err, os.Symlink("busybox", filepath.Join(dir, "bin", applet)))
		}
	}
	return errors.Join(err,
		os.WriteFile(filepath.Join(dir, "etc/passwd"), []byte("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"), 0o644),
		os.WriteFile(filepath.Join(dir, "etc/group"), []byte("root:x:0:\nuser:x:1000:\n"), 0o644))
}

// scriptStatus is exec for a program whose exit code is part of the test.
func scriptStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N PROGRAM [ARG...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%s: %v", args[1], err)
	}
	if got != want {
		ts.Fatalf("%s exited with %d, want %d", args[1], got, want)
	}
}
