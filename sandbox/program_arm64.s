#include "textflag.h"

// The program of program.go for arm64, with the comments of its twin for amd64. Registers: R19 is the entry, R20 the process number of
// the command, R21 the message.
//
// Numbers of system calls are those of include/uapi/asm-generic/unistd.h.

// func initProgram()
TEXT ·initProgram(SB), NOSPLIT|NOFRAME, $0-0
	// mmap
	MOVD $222, R8
	MOVD $0x10000000, R0
	MOVD $0x4000000, R1
	MOVD $3, R2
	MOVD $0x12, R3
	MOVD $4, R4
	MOVD $0, R5
	SVC
	MOVD $0x10000000, R9
	CMP  R9, R0
	BNE  leave
	MOVD $0, R20
	MOVD $0x10000100, R19
	MOVD $0x10000010, R21

next:
	MOVD 0(R19), R8
	CMN  $1, R8
	BEQ  serve
	CMN  $2, R8
	BEQ  fork
	MOVD 8(R19), R0
	MOVD 16(R19), R1
	MOVD 24(R19), R2
	MOVD 32(R19), R3
	MOVD 40(R19), R4
	MOVD 48(R19), R5
	SVC
	CMN  $4095, R0
	BCS  failed

advance:
	ADD $64, R19
	B   next

failed:
	MOVD 56(R19), R9
	CBNZ R9, advance

	// write, exit_group
	MOVD $1, R9
	MOVD R9, 0(R21)
	MOVD R19, 8(R21)
	MOVD R0, 16(R21)
	MOVD $64, R8
	MOVD $3, R0
	MOVD R21, R1
	MOVD $24, R2
	SVC

leave:
	MOVD $94, R8
	MOVD $1, R0
	SVC
	BRK

fork:
	// clone
	MOVD $220, R8
	MOVD $17, R0
	MOVD $0, R1
	MOVD $0, R2
	MOVD $0, R3
	MOVD $0, R4
	SVC
	CMN  $4095, R0
	BCS  failed
	CBNZ R0, parent
	MOVD 8(R19), R19
	B    next

parent:
	MOVD R0, R20

serve:
	// rt_sigtimedwait
	MOVD $137, R8
	MOVD $0x10000000, R0
	MOVD $0, R1
	MOVD $0, R2
	MOVD $8, R3
	SVC
	CMP  $17, R0
	BEQ  reap
	CMP  $0, R0
	BLE  serve
	CBZ  R20, serve

	// kill
	MOVD R0, R1
	MOVD R20, R0
	MOVD $129, R8
	SVC
	B    serve

reap:
	// wait4
	MOVD $260, R8
	MOVD $-1, R0
	ADD  $8, R21, R1
	MOVD $1, R2
	ADD  $16, R21, R3
	SVC
	CMP  $0, R0
	BLE  serve
	CMP  R20, R0
	BNE  reap

	// write
	MOVD $2, R9
	MOVD R9, 0(R21)
	MOVD $64, R8
	MOVD $3, R0
	MOVD R21, R1
	MOVD $160, R2
	SVC
	B    leave

	// The end.
	WORD $0x75626f67
	WORD $0x00646c69

// func programText() unsafe.Pointer
TEXT ·programText(SB), NOSPLIT, $0-8
	MOVD $·initProgram(SB), R0
	MOVD R0, ret+0(FP)
	RET
