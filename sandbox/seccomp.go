package sandbox

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	bpf "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	profile "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	netbpf "golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// compileFilter makes the seccomp program of a step: Docker's default profile for these capabilities, or the one given. What the
// default profile does not allow is EPERM; clone3, and every call with a number above all that the profile knows, is ENOSYS, since
// C libraries then use the older call. 32-bit programs (i386 on amd64, arm on arm64) have the same rules where the profile is for
// their instruction set, and else EPERM for each call, as those of any other; x32 gets ENOSYS.
func compileFilter(caps capSet, text string) ([]byte, error) {
	info, err := arch.GetInfo("")
	if err != nil {
		return nil, fmt.Errorf("seccomp: %w", err)
	}
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: caps.names()}}}
	load := func() (*specs.LinuxSeccomp, error) { return profile.GetDefaultProfile(spec) }
	if text != "" {
		load = func() (*specs.LinuxSeccomp, error) { return profile.LoadProfile(text, spec) }
	}
	p, err := load()
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w: %w", ErrInvalid, err)
	}
	if p == nil || p.DefaultAction == "" {
		return nil, fmt.Errorf("seccomp profile: %w: it has no defaultAction", ErrInvalid)
	}
	t := translation{info: info}
	program, err := t.program(p)
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	var compat []netbpf.Instruction
	second := compatInfo(info, p.Architectures)
	if second != nil {
		if compat, err = compatProgram(p, second, text == ""); err != nil {
			return nil, fmt.Errorf("seccomp profile: rules of %s: %w", second.Name, err)
		}
	}
	return encodeFilter(slices.Concat(choose(info, second, len(compat)), compat, program))
}

// translation turns a profile into rules for this machine's instruction set.
type translation struct {
	info        *arch.Info
	fallback    bpf.Action            // for what no rule matches
	plain       map[string]bpf.Action // what rules without conditions say; the first one counts
	conditional []conditional         // in the order of the rules
	newest      uint32                // the highest number the profile knows
}

// conditional is what one call gets when one of several sets of conditions holds.
type conditional struct {
	name   string
	action bpf.Action
	sets   []bpf.NameWithConditions
}

// program asks first for the calls that only rules without conditions name: nearly all of them.
func (t *translation) program(p *specs.LinuxSeccomp) ([]netbpf.Instruction, error) {
	if err := t.read(p); err != nil {
		return nil, err
	}
	if len(t.plain)+len(t.conditional) == 0 {
		return nil, fmt.Errorf("%w: it has no rules for this machine", ErrInvalid)
	}
	often, late := map[string]bpf.Action{}, map[string]bpf.Action{}
	for name, action := range t.plain {
		if t.hasConditions(name) {
			late[name] = action
		} else {
			often[name] = action
		}
	}
	var rest [][]bpf.SyscallGroup
	for _, c := range t.conditional {
		rest = append(rest, []bpf.SyscallGroup{{Action: c.action, NamesWithCondtions: c.sets}})
	}
	out := t.before()
	for _, groups := range append(append([][]bpf.SyscallGroup{t.groups(often)}, rest...), t.groups(late)) {
		if len(groups) == 0 {
			continue
		}
		// A comparison of arguments leaves the library's programs without the call's number. So each call with conditions has a
		// program of its own, which loads it again, and whose end, the answer for what does not match, is the next program.
		part, err := (&bpf.Policy{DefaultAction: bpf.ActionErrno, Syscalls: groups}).Assemble()
		if err != nil {
			return nil, fmt.Errorf("assemble seccomp filter: %w", err)
		}
		out = append(out, part[:len(part)-1]...)
	}
	return append(out, netbpf.RetConstant{Val: uint32(t.fallback)}), nil
}

func (t *translation) hasConditions(name string) bool {
	return slices.ContainsFunc(t.conditional, func(c conditional) bool { return c.name == name })
}

func (t *translation) read(p *specs.LinuxSeccomp) error {
	var err error
	if t.fallback, err = actionOf(p.DefaultAction, p.DefaultErrnoRet); err != nil {
		return err
	}
	t.plain = map[string]bpf.Action{}
	for _, add := range []func(specs.LinuxSyscall, bpf.Action) error{t.addPlain, t.addConditional} {
		for _, rule := range p.Syscalls {
			action, err := actionOf(rule.Action, rule.ErrnoRet)
			if err == nil {
				err = add(rule, action)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (t *translation) addPlain(rule specs.LinuxSyscall, action bpf.Action) error {
	for _, name := range rule.Names {
		number, known := t.info.SyscallNames[name]
		if !known {
			continue // of another instruction set
		}
		t.newest = max(t.newest, uint32(number))
		if _, twice := t.plain[name]; len(rule.Args) == 0 && !twice {
			t.plain[name] = action
		}
	}
	return nil
}

// addConditional leaves out calls that have the same action in any case.
func (t *translation) addConditional(rule specs.LinuxSyscall, action bpf.Action) error {
	if len(rule.Args) == 0 {
		return nil
	}
	sets, err := conditionsOf(rule.Args)
	if err != nil {
		return err
	}
	for _, name := range rule.Names {
		_, known := t.info.SyscallNames[name]
		if always, ok := t.plain[name]; !known || ok && always == action {
			continue
		}
		i := slices.IndexFunc(t.conditional, func(c conditional) bool { return c.name == name && c.action == action })
		if i < 0 {
			i = len(t.conditional)
			t.conditional = append(t.conditional, conditional{name: name, action: action})
		}
		for _, conditions := range sets {
			t.conditional[i].sets = append(t.conditional[i].sets, bpf.NameWithConditions{Name: name, Conditions: conditions})
		}
	}
	return nil
}

// groups are calls by action, in one order on every run.
func (t *translation) groups(calls map[string]bpf.Action) []bpf.SyscallGroup {
	byAction := map[bpf.Action][]string{}
	for name, action := range calls {
		byAction[action] = append(byAction[action], name)
	}
	var groups []bpf.SyscallGroup
	for _, action := range slices.Sorted(maps.Keys(byAction)) {
		slices.Sort(byAction[action])
		groups = append(groups, bpf.SyscallGroup{Action: action, Names: byAction[action]})
	}
	return groups
}

func actionOf(a specs.LinuxSeccompAction, errnoRet *uint) (bpf.Action, error) {
	switch a {
	case specs.ActAllow:
		return bpf.ActionAllow, nil
	case specs.ActErrno:
		code := uint(unix.EPERM)
		if errnoRet != nil {
			code = *errnoRet
		}
		if code > maxErrno {
			return 0, fmt.Errorf("%w: errno %d", ErrInvalid, code)
		}
		return bpf.ActionErrno | bpf.Action(code), nil
	case specs.ActKill, specs.ActKillThread:
		return bpf.ActionKillThread, nil
	case specs.ActKillProcess:
		return bpf.ActionKillProcess, nil
	case specs.ActTrap:
		return bpf.ActionTrap, nil
	case specs.ActLog:
		return bpf.ActionLog, nil
	case specs.ActTrace, specs.ActNotify:
	}
	return 0, fmt.Errorf("%w: action %q", ErrUnsupported, a)
}

// conditionsOf gives sets of conditions, one of which must hold as a whole: all on different arguments, or each by itself where
// one argument has several (as the container engines read it).
func conditionsOf(args []specs.LinuxSeccompArg) ([]bpf.ArgumentConditions, error) {
	operations := map[specs.LinuxSeccompOperator]bpf.Operation{
		specs.OpEqualTo: bpf.Equal, specs.OpNotEqual: bpf.NotEqual, specs.OpGreaterThan: bpf.GreaterThan,
		specs.OpLessThan: bpf.LessThan, specs.OpGreaterEqual: bpf.GreaterOrEqual, specs.OpLessEqual: bpf.LessOrEqual,
	}
	var all bpf.ArgumentConditions
	var each []bpf.ArgumentConditions
	seen, twice := map[uint]bool{}, false
	for _, a := range args {
		operation, ok := operations[a.Op]
		if a.Op == specs.OpMaskedEqual && a.ValueTwo == 0 {
			operation, ok = bpf.BitsNotSet, true // (arg & Value) == 0
		}
		if !ok {
			return nil, fmt.Errorf("%w: condition %s", ErrUnsupported, a.Op)
		}
		c := bpf.Condition{Argument: uint32(a.Index), Operation: operation, Value: a.Value}
		all, each = append(all, c), append(each, bpf.ArgumentConditions{c})
		twice, seen[a.Index] = twice || seen[a.Index], true
	}
	if twice {
		return each, nil
	}
	return []bpf.ArgumentConditions{all}, nil
}

// The offsets of struct seccomp_data, seccomp(2).
const (
	seccompNumber = 0
	seccompArch   = 4
)

// choose goes before the programs: a call has the number of its instruction set, which the rules of the other do not mean. The
// compat program comes first, with its length.
func choose(native, compat *arch.Info, length int) []netbpf.Instruction {
	out := []netbpf.Instruction{netbpf.LoadAbsolute{Off: seccompArch, Size: 4}}
	refuse := netbpf.RetConstant{Val: uint32(bpf.ActionErrno) | uint32(unix.EPERM)}
	if compat == nil {
		return append(out, netbpf.JumpIf{Cond: netbpf.JumpEqual, Val: uint32(native.ID), SkipTrue: 1}, refuse)
	}
	return append(out,
		netbpf.JumpIf{Cond: netbpf.JumpEqual, Val: uint32(native.ID), SkipFalse: 1},
		netbpf.Jump{Skip: uint32(length) + 2},
		netbpf.JumpIf{Cond: netbpf.JumpEqual, Val: uint32(compat.ID), SkipTrue: 1},
		refuse)
}

// before goes before the native program. Where the profile refuses what it does not know, calls newer than it are ENOSYS: EPERM
// for a call that the C library tries first would break every new C library.
func (t *translation) before() []netbpf.Instruction {
	if t.fallback&^maxErrno != bpf.ActionErrno {
		return nil
	}
	return []netbpf.Instruction{
		netbpf.LoadAbsolute{Off: seccompNumber, Size: 4},
		netbpf.JumpIf{Cond: netbpf.JumpGreaterThan, Val: t.newest, SkipFalse: 1},
		netbpf.RetConstant{Val: uint32(bpf.ActionErrno) | uint32(unix.ENOSYS)},
	}
}

func encodeFilter(program []netbpf.Instruction) ([]byte, error) {
	raw, err := netbpf.Assemble(program)
	if err != nil {
		return nil, fmt.Errorf("assemble seccomp filter: %w", err)
	}
	if len(raw) > maxFilter {
		return nil, fmt.Errorf("%w: a seccomp filter of %d instructions, the kernel takes %d", ErrInvalid, len(raw), maxFilter)
	}
	var out bytes.Buffer
	for _, i := range raw {
		if err := binary.Write(&out, binary.NativeEndian, unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K}); err != nil {
			return nil, fmt.Errorf("encode seccomp filter: %w", err)
		}
	}
	return out.Bytes(), nil
}
