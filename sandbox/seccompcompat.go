package sandbox

import (
	"fmt"
	"math"
	"slices"

	bpf "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/opencontainers/runtime-spec/specs-go"
	netbpf "golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	seccompArgs = 16       // the offset of the arguments in struct seccomp_data
	privateCall = 0x0f0000 // where the calls that only ARM has begin (arch/arm/include/uapi/asm/unistd.h)
	socketcall  = "socketcall"
	subSocket   = 1 // socketcall(2): SYS_SOCKET
)

// compatInfo is the 32-bit instruction set whose programs this machine runs too, if the profile is for it.
func compatInfo(native *arch.Info, profiled []specs.Arch) *arch.Info {
	switch {
	case native == arch.X86_64 && slices.Contains(profiled, specs.ArchX86):
		return arch.I386
	case native == arch.AARCH64 && slices.Contains(profiled, specs.ArchARM):
		return arch.ARM
	}
	return nil
}

// compatProgram gives the calls of 32-bit programs what the profile says of their names. The library that makes the native
// program knows no other instruction set. strict closes the way around the profile's rules for socket: socketcall's arguments are
// in memory, where a filter does not see the address family (AF_ALG, AF_VSOCK).
func compatProgram(p *specs.LinuxSeccomp, info *arch.Info, strict bool) ([]netbpf.Instruction, error) {
	t := translation{info: info}
	if err := t.read(p); err != nil {
		return nil, err
	}
	_, has := t.plain[socketcall]
	if strict && has {
		refuse := bpf.NameWithConditions{Name: socketcall, Conditions: bpf.ArgumentConditions{{Operation: bpf.Equal, Value: subSocket}}}
		t.conditional = append(t.conditional, conditional{socketcall, bpf.ActionErrno | bpf.Action(unix.ENOSYS), []bpf.NameWithConditions{refuse}})
	}
	out := []netbpf.Instruction{netbpf.LoadAbsolute{Off: seccompNumber, Size: 4}}
	for _, c := range t.conditional {
		part, err := t.compare(c)
		if err != nil {
			return nil, err
		}
		out = append(out, part...)
	}
	var newest uint32
	for _, r := range t.ranges() {
		if r.last < privateCall {
			newest = max(newest, r.last)
		}
		out = append(out,
			netbpf.JumpIf{Cond: netbpf.JumpGreaterOrEqual, Val: r.first, SkipFalse: 2},
			netbpf.JumpIf{Cond: netbpf.JumpGreaterThan, Val: r.last, SkipTrue: 1},
			netbpf.RetConstant{Val: uint32(r.action)})
	}
	if t.fallback&^maxErrno == bpf.ActionErrno { // as in before
		out = append(out,
			netbpf.JumpIf{Cond: netbpf.JumpGreaterThan, Val: newest, SkipFalse: 1},
			netbpf.RetConstant{Val: uint32(bpf.ActionErrno) | uint32(unix.ENOSYS)})
	}
	return append(out, netbpf.RetConstant{Val: uint32(t.fallback)}), nil
}

// callRange is calls with numbers in a row that have one action.
type callRange struct {
	first, last uint32
	action      bpf.Action
}

func (t *translation) ranges() []callRange {
	var all []callRange
	for name, action := range t.plain {
		number := uint32(t.info.SyscallNames[name])
		all = append(all, callRange{number, number, action})
	}
	slices.SortFunc(all, func(a, b callRange) int { return int(a.first) - int(b.first) })
	var out []callRange
	for _, r := range all {
		if n := len(out); n > 0 && out[n-1].action == r.action && out[n-1].last+1 == r.first {
			out[n-1].last = r.last
			continue
		}
		out = append(out, r)
	}
	return out
}

// compare returns the action if one of the sets holds, and else goes on after it with the number loaded again.
func (t *translation) compare(c conditional) ([]netbpf.Instruction, error) {
	var body []netbpf.Instruction
	for _, set := range c.sets {
		body = append(body, compareSet(set.Conditions, c.action)...)
	}
	body = append(body, netbpf.LoadAbsolute{Off: seccompNumber, Size: 4})
	if len(body) > math.MaxUint8 {
		return nil, fmt.Errorf("%w: %d conditions of %s", ErrUnsupported, len(c.sets), c.name)
	}
	number := uint32(t.info.SyscallNames[c.name])
	return append([]netbpf.Instruction{netbpf.JumpIf{Cond: netbpf.JumpEqual, Val: number, SkipFalse: uint8(len(body))}}, body...), nil
}

// compareSet wants all conditions. The upper half of an argument is zero in a 32-bit call.
func compareSet(conditions bpf.ArgumentConditions, action bpf.Action) []netbpf.Instruction {
	tests := map[bpf.Operation]struct {
		test      netbpf.JumpTest
		whenLarge bool // what the comparison with a value of more than 32 bits gives
	}{
		bpf.Equal: {netbpf.JumpEqual, false}, bpf.NotEqual: {netbpf.JumpNotEqual, true},
		bpf.GreaterThan: {netbpf.JumpGreaterThan, false}, bpf.GreaterOrEqual: {netbpf.JumpGreaterOrEqual, false},
		bpf.LessThan: {netbpf.JumpLessThan, true}, bpf.LessOrEqual: {netbpf.JumpLessOrEqual, true},
	}
	out := []netbpf.Instruction{netbpf.RetConstant{Val: uint32(action)}}
	for _, c := range slices.Backward(conditions) {
		jump := netbpf.JumpIf{Cond: netbpf.JumpBitsNotSet, Val: uint32(c.Value), SkipFalse: uint8(len(out))}
		if c.Operation != bpf.BitsNotSet {
			if c.Value > math.MaxUint32 && tests[c.Operation].whenLarge {
				continue
			} else if c.Value > math.MaxUint32 {
				return nil
			}
			jump.Cond = tests[c.Operation].test
		}
		out = append([]netbpf.Instruction{netbpf.LoadAbsolute{Off: seccompArgs + 8*c.Argument, Size: 4}, jump}, out...)
	}
	return out
}
