package sandbox

import "debug/elf"

const programMachine = elf.EM_AARCH64
