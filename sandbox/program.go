//go:build amd64 || arm64

package sandbox

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"os"
	"unsafe"
)

// The init of a step is a program of a few hundred bytes, written in assembly (program_*.s) and executed from memory. It knows no
// policy: it makes the system calls that a script names, one after the other, and then serves as an init. See script.go for the form
// of a script.
//
// It begins with a script at descriptor 4 and a socket at descriptor 3. Of a call that fails it tells the socket which one and why,
// and exits. When it comes to the entry scriptFork, a child goes on with the script at another address, while the program itself
// reaps all children, passes signals on to that one, tells the socket how that one ended, and ends itself: with it its namespace does,
// and whatever still runs in there.
//
// Nothing of gobuild's own memory is in such a process, and what it executes cannot be written to: it is sealed.

// initProgram is never called: its bytes are what programText says.
func initProgram() //nolint:unused // the assembler knows it

func programText() unsafe.Pointer

const (
	programBase = 0x400000
	maxProgram  = 4096
	programEnd  = "gobuild\x00"
)

// openProgram makes the executable.
func openProgram() (*os.File, error) {
	image, err := programImage()
	if err != nil {
		return nil, setupError("make init", "", err)
	}
	f, err := sealedProgram(childName, bytes.NewReader(image))
	return f, inContext("make init", err)
}

// programImage is the ELF file of the program.
func programImage() ([]byte, error) {
	return programFile(unsafe.Slice((*byte)(programText()), maxProgram), programMachine)
}

// programFile puts what comes before the program's end into an ELF file with one segment.
func programFile(text []byte, machine elf.Machine) ([]byte, error) {
	end := bytes.Index(text, []byte(programEnd))
	if end < 0 {
		return nil, errors.New("the end of the init's program is not where it should be")
	}
	const headers = 64 + 2*56 // sizes of Header64 and two Prog64
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(machine), Version: uint32(elf.EV_CURRENT), Entry: programBase + headers,
		Phoff: 64, Ehsize: 64, Phentsize: 56, Phnum: 2, Shentsize: 64,
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	size := uint64(headers + end)
	segments := []elf.Prog64{
		{Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Vaddr: programBase, Paddr: programBase, Filesz: size, Memsz: size, Align: 0x1000},
		{Type: uint32(elf.PT_GNU_STACK), Flags: uint32(elf.PF_R | elf.PF_W), Align: 16},
	}
	image, err := binary.Append(nil, binary.LittleEndian, &h)
	if err == nil {
		image, err = binary.Append(image, binary.LittleEndian, segments)
	}
	return append(image, text[:end]...), err
}
