package sandbox

import "debug/elf"

const programMachine = elf.EM_X86_64
