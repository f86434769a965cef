package sandbox

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// In version 2 of control groups a program decides on each access to a device (cgroup-v2.rst, "Device controller"). It is written
// here: a dozen instructions need no assembler, and the one of package cgroups brings readers of debugging formats along.

// instruction is one of the kernel's virtual machine (Documentation/bpf/standardization/instruction-set.rst).
type instruction struct {
	op       uint8
	dst, src uint8
	offset   int16
	imm      int32
}

// The operations that a filter needs.
const (
	opLoadWord  = 0x61 // dst = *(u32 *)(src + offset)
	opMove      = 0xbc // dst = src, 32 bits
	opMoveValue = 0xb4 // dst = imm, 32 bits
	opAndValue  = 0x54
	opShiftDown = 0x74
	opNotEqual  = 0x55 // if dst != imm, skip offset instructions
	opExit      = 0x95
)

// The registers: 1 holds the address of struct bpf_cgroup_dev_ctx at the start, 0 the answer at the end.
const (
	regAnswer = iota
	regContext
	regKind
	regAccess
	regMajor
	regMinor
)

// deviceProgram compiles rules: what none of them allows is refused.
func deviceProgram(rules []deviceRule) []instruction {
	p := []instruction{
		{op: opLoadWord, dst: regKind, src: regContext},                 // access_type: the kind below,
		{op: opLoadWord, dst: regAccess, src: regContext},               // what is done with it
		{op: opShiftDown, dst: regAccess, imm: 16},                      // above
		{op: opAndValue, dst: regKind, imm: 0xffff},                     //
		{op: opLoadWord, dst: regMajor, src: regContext, offset: 4},     // major
		{op: opLoadWord, dst: regMinor, src: regContext, offset: 4 + 4}, // minor
	}
	for _, r := range rules {
		p = append(p, r.program()...)
	}
	return append(p, instruction{op: opMoveValue, dst: regAnswer}, instruction{op: opExit})
}

// program compares one access with a rule. Each comparison that fails skips the rest of it.
func (r *deviceRule) program() []instruction {
	kind, access := int32(unix.BPF_DEVCG_DEV_CHAR), int32(0)
	if r.block {
		kind = unix.BPF_DEVCG_DEV_BLOCK
	}
	for letter, bit := range map[string]int32{"r": unix.BPF_DEVCG_ACC_READ, "w": unix.BPF_DEVCG_ACC_WRITE, "m": unix.BPF_DEVCG_ACC_MKNOD} {
		if strings.Contains(r.access, letter) {
			access |= bit
		}
	}
	p := []instruction{
		{op: opNotEqual, dst: regKind, imm: kind},
		{op: opMove, dst: regContext, src: regAccess}, // the context is not needed any more
		{op: opAndValue, dst: regContext, imm: ^access},
		{op: opNotEqual, dst: regContext},
	}
	if r.major >= 0 {
		p = append(p, instruction{op: opNotEqual, dst: regMajor, imm: int32(r.major)})
	}
	if r.minor >= 0 {
		p = append(p, instruction{op: opNotEqual, dst: regMinor, imm: int32(r.minor)})
	}
	p = append(p, instruction{op: opMoveValue, dst: regAnswer, imm: 1}, instruction{op: opExit})
	for i := range p {
		if p[i].op == opNotEqual {
			p[i].offset = int16(len(p) - i - 1)
		}
	}
	return p
}

// encode gives the bytes of a program, as this machine has them (struct bpf_insn).
func encode(p []instruction) []byte {
	var out []byte
	for _, i := range p {
		registers := i.src<<4 | i.dst
		if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 { // big-endian machines have the two the other way round
			registers = i.dst<<4 | i.src
		}
		out = append(out, i.op, registers)
		out = binary.NativeEndian.AppendUint16(out, uint16(i.offset))
		out = binary.NativeEndian.AppendUint32(out, uint32(i.imm))
	}
	return out
}

// filterDevices has a group of version 2 refuse its processes all devices but those of the rules. It ends with the group.
func filterDevices(dir string, rules []deviceRule) error {
	program, err := loadDeviceProgram(encode(deviceProgram(rules)))
	if err != nil {
		return fmt.Errorf("load device filter: %w", err)
	}
	defer unix.Close(program)
	group, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &os.PathError{Op: "open", Path: dir, Err: err}
	}
	defer unix.Close(group)
	attr := struct{ group, program, kind, flags uint32 }{uint32(group), uint32(program), unix.BPF_CGROUP_DEVICE, unix.BPF_F_ALLOW_MULTI}
	_, _, e := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_ATTACH, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
	if e != 0 {
		return fmt.Errorf("attach device filter: %w", e)
	}
	return nil
}

func loadDeviceProgram(code []byte) (int, error) {
	license := []byte("Apache-2.0\x00")
	var pinned runtime.Pinner // the kernel is given addresses as numbers, which keep nothing alive
	defer pinned.Unpin()
	pinned.Pin(&code[0])
	pinned.Pin(&license[0])
	attr := struct {
		kind, count   uint32
		code, license uint64
		level, size   uint32
		log           uint64
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(code) / 8),
		code: uint64(uintptr(unsafe.Pointer(&code[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	for range maxProgramLoads {
		fd, _, e := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
		if e == 0 {
			return int(fd), nil
		}
		if e != unix.EAGAIN { // a signal came while the kernel checked the program
			return -1, e
		}
	}
	return -1, errors.New("it was interrupted again and again")
}
