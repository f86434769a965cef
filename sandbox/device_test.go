package sandbox

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

func TestG10_GivenDevicesCanBeUsed(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	const script = "stat -c '%a %u %g' /dev/a/log; (: > /dev/a/log) && echo writes; head -c2 /opt/zero | wc -c"
	s := f.spec(t, script)
	s.Devices = []Device{
		{Path: "/dev/a/log", Major: 1, Minor: 11, Mode: 0o640, UID: 5, GID: 6, Access: "rwm"},
		{Path: "/opt/zero", Major: 1, Minor: 5, Mode: 0o600, Access: "rw"},
	}
	if out, _ := f.sh(t, s); !strings.Contains(out, "640 5 6\nwrites\n2\n") {
		t.Errorf("%q", out)
	}
	assertUpperEmpty(t, s)
	// The next step has none of it.
	if out, _ := f.sh(t, f.spec(t, "ls -d /dev/a /opt/zero 2>/dev/null; echo end")); out != "end\n" {
		t.Errorf("%q", out)
	}
}

func TestG10_AccessIsRestricted(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	h, err := f.groups.find()
	must(t, err)
	s := f.spec(t, "(: > /dev/log) 2>/dev/null || echo no; head -c1 /dev/zero | wc -c; test -c /dev/ptmx && cat /dev/null && echo fine")
	s.Devices = []Device{{Path: "/dev/log", Major: 1, Minor: 11, Mode: 0o666, Access: "r"}}
	out, err := f.run(t, s)
	if h.unified || !h.has("devices") {
		if !errors.Is(err, ErrLimitUnavailable) {
			t.Errorf("without the controller: %q, %v", out, err)
		}
		return
	}
	if err != nil || out != "no\n1\nfine\n" {
		t.Errorf("%q, %v", out, err)
	}
	must(t, f.Close())
	assertNoGroups(t, f)
}

func TestG10_RulesOfTheFilter(t *testing.T) {
	t.Parallel()
	rules := deviceRules([]Device{{Path: "/dev/x", Block: true, Major: 7, Minor: 2, Access: "r"}, {Path: "/dev/y", Block: true, Major: 7, Minor: 2, Access: "r"}})
	if n := len(rules); rules[n-1] != "b 7:2 r" || slices.Contains(rules[:n-1], "b 7:2 r") || slices.ContainsFunc(rules, func(r string) bool { return strings.HasPrefix(r, "a") }) {
		t.Errorf("%q", rules)
	}
	if deviceRules(nil) != nil {
		t.Error("a step without devices has a filter")
	}
	for _, bad := range []Device{{Path: "dev/x", Access: "r"}, {Path: "/", Access: "r"}, {Path: "/dev/", Access: "r"}, {Path: "/dev/x"}, {Path: "/dev/x", Access: "rx"}} {
		if err := bad.check(); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}
