package userns

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "subuid")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRanges(t *testing.T) {
	t.Parallel()
	path := write(t, "other:1:5\nme:100000:65536\n# a remark\nme:5\n1000:300000:10\nme:x:y\nme:7:0\nme:-1:9\nme:4294967290:9\n:1:2\n  me:9:1  \n")
	got, err := Ranges(path, 1000, "me")
	want := []Range{{100000, 65536}, {300000, 10}, {9, 1}}
	if err != nil || !reflect.DeepEqual(got, want) || Sum(got) != 65547 {
		t.Errorf("%v, %v", got, err)
	}
	if got, err := Ranges(path, 77, ""); err != nil || got != nil {
		t.Errorf("of nobody: %v, %v", got, err)
	}
	if got, err := Ranges(path+".missing", 1000, "me"); err != nil || got != nil {
		t.Errorf("of no file: %v, %v", got, err)
	}
	if got, err := Ranges(write(t, "me:100:50\n1000:100:50\nme:149:2\nme:150:2\nme:98:2\n"), 1000, "me"); err != nil || !reflect.DeepEqual(got, []Range{{100, 50}, {150, 2}, {98, 2}}) {
		t.Errorf("ranges that overlap: %v, %v", got, err)
	}
	var many strings.Builder
	for i := range maxRanges + 5 {
		fmt.Fprintf(&many, "me:%d:1\n", i)
	}
	if got, err := Ranges(write(t, many.String()), 1, "me"); err != nil || len(got) != maxRanges {
		t.Errorf("%d ranges, %v", len(got), err)
	}
	if _, err := Ranges(write(t, strings.Repeat("x", maxFile+1)), 1, "me"); err == nil {
		t.Error("a file without an end is read")
	}
}

// A range that is proposed is nobody's.
func TestUnusedRange(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		uids, gids string
		want       uint64
	}{
		{"", "", 100000},
		{"a:100000:65536\n", "", 165536},
		{"a:100000:65536\nb:165536:65536\n", "a:100000:65536\nb:231072:1\n", 296608},
		{"a:5:10\n", "", 100000},
		{"", "a:120000:10\n", 165536},
	} {
		if got := unused(write(t, tt.uids), write(t, tt.gids)); got != tt.want {
			t.Errorf("%q, %q: %d, want %d", tt.uids, tt.gids, got, tt.want)
		}
	}
}

// What the kernel refuses is told by the setting behind it.
func TestRefusalsAreExplained(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		s      settings
		err    error
		why    string
		remedy string
	}{
		{"none allowed", settings{maxNamespaces: "0", clone: "1"}, unix.ENOSPC, "no space left on device (user.max_user_namespaces is 0)", "sudo sysctl user.max_user_namespaces=15000"},
		{"too many", settings{maxNamespaces: "5"}, fmt.Errorf("fork: %w", unix.ENOSPC), "no space left on device (user.max_user_namespaces is 5)", "sudo sysctl user.max_user_namespaces=15000"},
		{"switched off", settings{maxNamespaces: "9", clone: "0"}, unix.EPERM, "operation not permitted (kernel.unprivileged_userns_clone is 0)", "sudo sysctl kernel.unprivileged_userns_clone=1"},
		{"AppArmor", settings{appArmor: "1"}, unix.EACCES, "permission denied (kernel.apparmor_restrict_unprivileged_userns is 1)", "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, or"},
		{"no support", settings{}, unix.EINVAL, "invalid argument: the kernel has no user namespaces", "sudo gobuild"},
		{"a filter", settings{maxNamespaces: "9"}, unix.EPERM, "operation not permitted: something around gobuild forbids it", "docker run --security-opt seccomp=unconfined"},
	} {
		e := tt.s.refused("make user namespace", tt.err)
		if !strings.HasPrefix(e.Error(), "make user namespace: "+tt.why) || !strings.HasPrefix(e.Remedy(), tt.remedy) {
			t.Errorf("%s: %v; %s", tt.name, e, e.Remedy())
		}
	}
}

// A mark that somebody else has set leads nowhere.
func TestMarksOfOthers(t *testing.T) {
	t.Parallel()
	for _, mark := range []string{"1", "1:2", "1:x", "x:5", ":", "1:-4", "0:1"} {
		if _, err := Enter(mark, ""); err == nil || !strings.Contains(err.Error(), "not set by gobuild") {
			t.Errorf("%s: %v", mark, err)
		}
	}
	if _, err := Enter("1000:999", ""); err == nil {
		t.Error("a descriptor that is not open")
	}
}
