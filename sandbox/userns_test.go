package sandbox

import (
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// asInNamespace is the name of the variable that tells the tests of this package that they run in a user namespace of a test.
const asInNamespace = "GOBUILD_TEST_IN_USERNS"

// inNamespace runs tests of this package again, in a user and a mount namespace like those of a build without root: with the ids
// of a range. The ids are the same outside, so that the test's own program and files can be read there.
func inNamespace(t *testing.T, tests ...string) {
	t.Helper()
	if os.Getenv(asInNamespace) != "" {
		t.Fatal("a test in the namespace starts another one")
	}
	runtime.LockOSThread() // the signal comes with the end of the thread that started the process
	defer runtime.UnlockOSThread()
	skipped := flag.Lookup("test.skip").Value.String() // by .ci/vm
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^("+strings.Join(tests, "|")+")$", "-test.skip="+skipped, "-test.timeout=5m", "-test.v")
	cmd.Env = append(os.Environ(), asInNamespace+"=1")
	ids := []syscall.SysProcIDMap{{Size: 1 << 16}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, UidMappings: ids, GidMappings: ids, GidMappingsEnableSetgroups: true,
		Pdeathsig: syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range tests {
		left, err := regexp.MatchString(skipped, name)
		must(t, err)
		if (!left || skipped == "") && !strings.Contains(string(out), "--- PASS: "+name+" (") {
			t.Errorf("%s did not run:\n%s", name, out)
		}
	}
}

// Steps have the same world where gobuild itself is in a user namespace: mounts, identities, environment, networks, limits, their end.
func TestG8_StepsInAUserNamespace(t *testing.T) {
	t.Parallel()
	newFixture(t, Config{})
	compiled := "TestHostileH68H72_SystemCalls"
	if _, err := exec.LookPath("go"); err != nil {
		compiled = "TestG4_UmaskAndStdio" // nothing can be compiled here: one more of the others instead
	}
	tests := []string{compiled}
	if emulates() {
		tests = append(tests, "TestG22_ForeignProgramsRunWithAnEmulator", "TestG22_AnEmulatedStepIsAsOthers")
	}
	inNamespace(t, append(tests, "TestInNamespaceOverlay", "TestInNamespaceHostNetwork", "TestInNamespaceJoinedNetwork", "TestG18_ExitStatus", "TestG1_Environment", "TestG2_Users", "TestG3_WorkingDirectory",
		"TestG5G6G7_EtcFilesAndHostname", "TestG9_ShmSize", "TestG11_SetuidProgramsWork", "TestG16_NetworkNone", "TestB24_Tmpfs", "TestB25_File",
		"TestHostileH80_Stubs", "TestReadOnlyRoot", "TestEmptyLowerBindsUpper", "TestManyAndOddlyNamedLayers", "TestG18_ZombiesAreReapedAndDaemonsEnd",
		"TestG21_CancelLeavesNothing", "TestStepsInParallel", "TestHostileH69_SettingsOfTheMachine",
		"TestHostileH70_AttributesOfNodes", "TestP3_AttachedShellIsInside", "TestP3_AttachedShellEndsWithTheStep", "TestHostileH77_CancelEndsWhatDoesNotListen")...)
}

// userNamespaceOnly skips a test that another one starts in a user namespace.
func userNamespaceOnly(t *testing.T) {
	t.Helper()
	if os.Getenv(asInNamespace) == "" {
		t.Skip("is started in a user namespace by TestG8_StepsInAUserNamespace")
	}
}

func TestInNamespaceOverlay(t *testing.T) {
	userNamespaceOnly(t)
	if !InUserNamespace() {
		t.Fatal("the namespace is not known as one")
	}
	f := newFixture(t, Config{})
	must(t, os.MkdirAll(filepath.Join(f.lower, "gone/sub"), 0o755))
	must(t, os.MkdirAll(filepath.Join(f.lower, "new/sub"), 0o755))
	s := f.spec(t, `rm -r /gone && rm -r /new && mkdir /new && echo x > /owned && chown 5:7 /owned && ls -ln /owned | awk '{print $3, $4}'
cat /proc/self/uid_map | awk '{print $3}'; [ -d /sys/kernel ] || echo no sysfs; (echo x > /sys/kernel/uevent_helper) 2>/dev/null && echo BAD`)
	if out, _ := f.sh(t, s); out != "5 7\n65536\n" {
		t.Errorf("%q", out)
	}
	var st unix.Stat_t
	must(t, unix.Lstat(filepath.Join(s.Upper, "gone"), &st))
	if st.Mode&unix.S_IFMT != unix.S_IFCHR || st.Rdev != 0 {
		t.Errorf("the removed directory has no whiteout: mode %o, device %d", st.Mode, st.Rdev)
	}
	var mark [8]byte
	if n, err := unix.Lgetxattr(filepath.Join(s.Upper, "new"), "user.overlay.opaque", mark[:]); err != nil || string(mark[:n]) != "y" {
		t.Errorf("the directory made anew is not opaque: %q, %v", mark[:max(n, 0)], err)
	}
}

// With the host's network there is no sysfs of the step's own: it has the host's, and can change nothing in it.
func TestInNamespaceHostNetwork(t *testing.T) {
	userNamespaceOnly(t)
	f := newFixture(t, Config{})
	s := f.spec(t, `ls /sys/class/net | grep -c lo; ls -A /sys/firmware
grep -E ' /sys[ /]' /proc/mounts | grep -vE ' (ro|ro,[^ ]*) ' && echo BAD a mount that can be written to
(echo x > /sys/kernel/uevent_helper) 2>/dev/null && echo BAD; mount -o remount,rw /sys 2>/dev/null && echo BAD; true`)
	s.Network = NetworkHost
	if out, _ := f.sh(t, s); out != "1\n" {
		t.Errorf("%q", out)
	}
}

// A network of the machine cannot be left again by a process that has no rights over it: it is not entered then.
func TestInNamespaceJoinedNetwork(t *testing.T) {
	userNamespaceOnly(t)
	f := newFixture(t, Config{})
	s := f.spec(t, "true")
	s.Network = NetworkPath + "/proc/self/ns/net"
	_, err := f.run(t, s)
	var setup *SetupError
	if !errors.As(err, &setup) || !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "user namespace") {
		t.Errorf("%v", err)
	}
}
