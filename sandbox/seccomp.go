package sandbox

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"unsafe"

	bpf "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	profile "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	netbpf "golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// compileFilter makes the seccomp program of a step: Docker's default profile for our capabilities. What the profile does not
// allow is EPERM; clone3, and every call with a number above all that the profile knows, is ENOSYS, since C libraries then use
// the older call. Programs of another instruction set (i386 on amd64) get EPERM for each call, x32 gets ENOSYS.
func compileFilter() ([]byte, error) {
	info, err := arch.GetInfo("")
	if err != nil {
		return nil, fmt.Errorf("seccomp: %w", err)
	}
	p, err := profile.GetDefaultProfile(&specs.Spec{Process: &specs.Process{
		Capabilities: &specs.LinuxCapabilities{Bounding: capNames()},
	}})
	if err != nil {
		return nil, fmt.Errorf("seccomp profile: %w", err)
	}
	policy, newest, err := translate(p, info)
	if err != nil {
		return nil, err
	}
	program, err := policy.Assemble()
	if err != nil {
		return nil, fmt.Errorf("assemble seccomp filter: %w", err)
	}
	return encodeFilter(append(newerIsENOSYS(info, newest), program...))
}

// translate turns a profile into rules for this machine's instruction set, and finds the highest number it knows.
func translate(p *specs.LinuxSeccomp, info *arch.Info) (*bpf.Policy, uint32, error) {
	t := translation{info: info, plain: map[string]bool{}}
	for _, rule := range p.Syscalls {
		if len(rule.Args) == 0 && rule.Action == specs.ActAllow {
			for _, name := range rule.Names {
				t.plain[name] = true // also allowed under a condition: the condition says nothing
			}
		}
	}
	for _, rule := range p.Syscalls {
		if err := t.add(rule); err != nil {
			return nil, 0, err
		}
	}
	allow := bpf.SyscallGroup{Action: bpf.ActionAllow, NamesWithCondtions: t.conditional}
	for name := range t.plain {
		if _, known := info.SyscallNames[name]; known {
			allow.Names = append(allow.Names, name)
		}
	}
	slices.Sort(allow.Names) // one program on every run
	groups := append(t.refused, allow)
	// The bare action is EPERM in this library.
	return &bpf.Policy{DefaultAction: bpf.ActionErrno, Syscalls: groups}, t.newest, nil
}

type translation struct {
	info        *arch.Info
	plain       map[string]bool
	conditional []bpf.NameWithConditions
	refused     []bpf.SyscallGroup // with an errno of their own
	newest      uint32
}

func (t *translation) add(rule specs.LinuxSyscall) error {
	var refuse []string
	for _, name := range rule.Names {
		number, known := t.info.SyscallNames[name]
		if !known {
			continue // of another instruction set
		}
		t.newest = max(t.newest, uint32(number))
		switch {
		case rule.Action == specs.ActErrno && len(rule.Args) == 0:
			refuse = append(refuse, name)
		case rule.Action != specs.ActAllow:
			return fmt.Errorf("seccomp profile: %w: action %s on %s", ErrUnsupported, rule.Action, name)
		case len(rule.Args) > 0 && !t.plain[name]:
			conditions, err := conditionsOf(rule.Args)
			if err != nil {
				return fmt.Errorf("seccomp profile: %s: %w", name, err)
			}
			t.conditional = append(t.conditional, bpf.NameWithConditions{Name: name, Conditions: conditions})
		}
	}
	if len(refuse) > 0 {
		code := uint(unix.EPERM)
		if rule.ErrnoRet != nil {
			code = *rule.ErrnoRet
		}
		t.refused = append(t.refused, bpf.SyscallGroup{Names: refuse, Action: bpf.ActionErrno | bpf.Action(code)})
	}
	return nil
}

func conditionsOf(args []specs.LinuxSeccompArg) (bpf.ArgumentConditions, error) {
	operations := map[specs.LinuxSeccompOperator]bpf.Operation{
		specs.OpEqualTo: bpf.Equal, specs.OpNotEqual: bpf.NotEqual, specs.OpGreaterThan: bpf.GreaterThan,
		specs.OpLessThan: bpf.LessThan, specs.OpGreaterEqual: bpf.GreaterOrEqual, specs.OpLessEqual: bpf.LessOrEqual,
	}
	var out bpf.ArgumentConditions
	for _, a := range args {
		operation, ok := operations[a.Op]
		if a.Op == specs.OpMaskedEqual && a.ValueTwo == 0 {
			operation, ok = bpf.BitsNotSet, true // (arg & Value) == 0
		}
		if !ok {
			return nil, fmt.Errorf("%w: condition %s", ErrUnsupported, a.Op)
		}
		out = append(out, bpf.Condition{Argument: uint32(a.Index), Operation: operation, Value: a.Value})
	}
	return out, nil
}

// The offsets of struct seccomp_data, seccomp(2).
const (
	seccompNumber = 0
	seccompArch   = 4
)

// newerIsENOSYS goes before the program: EPERM for a call that the C library tries first would break every new C library.
func newerIsENOSYS(info *arch.Info, newest uint32) []netbpf.Instruction {
	return []netbpf.Instruction{
		netbpf.LoadAbsolute{Off: seccompArch, Size: 4},
		netbpf.JumpIf{Cond: netbpf.JumpEqual, Val: uint32(info.ID), SkipFalse: 3},
		netbpf.LoadAbsolute{Off: seccompNumber, Size: 4},
		netbpf.JumpIf{Cond: netbpf.JumpGreaterThan, Val: newest, SkipFalse: 1},
		netbpf.RetConstant{Val: uint32(bpf.ActionErrno) | uint32(unix.ENOSYS)},
	}
}

func encodeFilter(program []netbpf.Instruction) ([]byte, error) {
	raw, err := netbpf.Assemble(program)
	if err != nil {
		return nil, fmt.Errorf("assemble seccomp filter: %w", err)
	}
	var out bytes.Buffer
	for _, i := range raw {
		if err := binary.Write(&out, binary.NativeEndian, unix.SockFilter{Code: i.Op, Jt: i.Jt, Jf: i.Jf, K: i.K}); err != nil {
			return nil, fmt.Errorf("encode seccomp filter: %w", err)
		}
	}
	return out.Bytes(), nil
}

// loadFilter installs a program on this thread. Without no_new_privs, which would break sudo, that needs CAP_SYS_ADMIN.
func loadFilter(program []byte) error {
	const size = int(unsafe.Sizeof(unix.SockFilter{}))
	filter := make([]unix.SockFilter, len(program)/size)
	if len(filter) == 0 {
		return unix.EINVAL
	}
	if _, err := binary.Decode(program, binary.NativeEndian, filter); err != nil {
		return unix.EINVAL
	}
	prog := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	if e != 0 {
		return e
	}
	return nil
}
