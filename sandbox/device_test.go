package sandbox

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
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
	if !h.unified && !h.has("devices") {
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
	own := deviceRule{true, 7, 2, "r"}
	if n := len(rules); rules[n-1] != own || slices.Contains(rules[:n-1], own) || own.String() != "b 7:2 r" || rules[0].String() != "c *:* m" {
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

// decide runs a filter of version 2 on one access, as the kernel does.
func decide(t *testing.T, p []instruction, context [3]uint32) bool {
	t.Helper()
	var reg [10]uint64
	for at := 0; at < len(p); at++ {
		i := p[at]
		switch i.op {
		case opLoadWord:
			reg[i.dst] = uint64(context[i.offset/4])
		case opMove:
			reg[i.dst] = uint64(uint32(reg[i.src]))
		case opMoveValue:
			reg[i.dst] = uint64(uint32(i.imm))
		case opAndValue:
			reg[i.dst] = uint64(uint32(reg[i.dst]) & uint32(i.imm))
		case opShiftDown:
			reg[i.dst] = uint64(uint32(reg[i.dst]) >> i.imm)
		case opNotEqual:
			if reg[i.dst] != uint64(i.imm) {
				at += int(i.offset)
			}
		case opExit:
			return reg[regAnswer] != 0
		default:
			t.Fatalf("operation %#x", i.op)
		}
	}
	t.Fatal("the program has no end")
	return false
}

func TestG10_TheFilterOfVersion2DecidesAsTheRulesSay(t *testing.T) {
	t.Parallel()
	p := deviceProgram(deviceRules([]Device{
		{Path: "/dev/log", Major: 1, Minor: 11, Access: "r"}, {Path: "/dev/disk", Block: true, Major: 253, Minor: 1 << 19, Access: "rw"},
	}))
	const read, write, mknod = unix.BPF_DEVCG_ACC_READ, unix.BPF_DEVCG_ACC_WRITE, unix.BPF_DEVCG_ACC_MKNOD
	const char, block = unix.BPF_DEVCG_DEV_CHAR, unix.BPF_DEVCG_DEV_BLOCK
	for name, tt := range map[string]struct {
		kind, access, major, minor uint32
		want                       bool
	}{
		"read what may be read":            {char, read, 1, 11, true},
		"write it":                         {char, write, 1, 11, false},
		"read and write it":                {char, read | write, 1, 11, false},
		"a disk that was given":            {block, read | write, 253, 1 << 19, true},
		"its neighbour":                    {block, read, 253, 1<<19 + 1, false},
		"the character device of its name": {char, read, 253, 1 << 19, false},
		"null":                             {char, read | write, 1, 3, true},
		"memory":                           {char, read, 1, 1, false},
		"a terminal":                       {char, read | write, 136, 77, true},
		"make any node":                    {block, mknod, 8, 0, true},
		"make and open it":                 {block, mknod | read, 8, 0, false},
		"another disk":                     {block, read, 8, 0, false},
	} {
		if got := decide(t, p, [3]uint32{tt.access<<16 | tt.kind, tt.major, tt.minor}); got != tt.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if code := encode(p[:1]); len(code) != 8 || code[0] != opLoadWord {
		t.Errorf("% x", code)
	}
}
