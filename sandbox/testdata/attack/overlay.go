package main

import (
	"os"
	"syscall"
	"unsafe"
)

// overlay makes what overlayfs obeys in a layer, in the folder /d that a lower layer has: whiteouts, opaque folders, redirects.
func overlay() {
	check(os.WriteFile("/d/mine", []byte("mine\n"), 0o644))
	try("make a whiteout", syscall.Mknod("/d/file", syscall.S_IFCHR, 0))
	try("make a whiteout", syscall.Mknod("/d/white", syscall.S_IFCHR, 0))
	check(os.Chmod("/d/file", 0o644)) // copied up
	const renameWhiteout = 4
	from, to := []byte("/d/mine\x00"), []byte("/d/moved\x00")
	try("rename with a whiteout", call(sysRenameat2, atCurrent, uintptr(unsafe.Pointer(&from[0])), atCurrent, uintptr(unsafe.Pointer(&to[0])), renameWhiteout))
	for name, value := range map[string]string{"opaque": "y", "redirect": "/../../..", "metacopy": "", "origin": "", "impure": "y", "whiteout": "", "upper": "x"} {
		for _, path := range []string{"/d", "/d/file", "/d/sub", "/"} {
			try("set trusted.overlay."+name, syscall.Setxattr(path, "trusted.overlay."+name, []byte(value), 0))
			// Of no effect where overlays keep theirs in trusted.*, and kept apart where not.
			_ = syscall.Setxattr(path, "user.overlay."+name, []byte(value), 0)
		}
	}
}

// initLimits sets what may be set of a process of the same user.
func initLimits() {
	for limit := range uintptr(16) {
		none := [2]uint64{}
		_ = call(syscall.SYS_PRLIMIT64, 1, limit, uintptr(unsafe.Pointer(&none)), 0)
	}
	_ = syscall.Setpriority(syscall.PRIO_PROCESS, 1, 19)
	one := uint64(1)
	_ = call(syscall.SYS_SCHED_SETAFFINITY, 1, 8, uintptr(unsafe.Pointer(&one)))
	for signal := syscall.Signal(1); signal <= 64; signal++ {
		switch signal {
		case syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2: // come back to us
		default:
			_ = syscall.Kill(1, signal)
		}
	}
}
