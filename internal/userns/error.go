package userns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Error says why a user namespace cannot be had, and what changes that.
type Error struct {
	Op     string // what was attempted
	Why    string
	remedy string
}

func (e *Error) Error() string { return e.Op + ": " + e.Why }

// Remedy is a command, or what to change.
func (e *Error) Remedy() string { return e.remedy }

// Settings of the machine that forbid user namespaces to users.
type settings struct {
	maxNamespaces string // user.max_user_namespaces
	clone         string // kernel.unprivileged_userns_clone (Debian, Arch)
	appArmor      string // kernel.apparmor_restrict_unprivileged_userns (Ubuntu)
	noNewPrivs    bool   // of this process
}

func readSettings() settings {
	s := settings{
		maxNamespaces: setting("user/max_user_namespaces"), clone: setting("kernel/unprivileged_userns_clone"),
		appArmor: setting("kernel/apparmor_restrict_unprivileged_userns"),
	}
	on, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)
	s.noNewPrivs = err == nil && on == 1
	return s
}

func setting(name string) string {
	data, err := os.ReadFile(filepath.Join("/proc/sys", name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

const outside = "sudo gobuild ..., or for a container around gobuild: docker run --privileged IMAGE"

// refused explains an error of the kernel's by the setting that is behind it.
func (s settings) refused(op string, err error) *Error {
	var errno unix.Errno
	why := err.Error()
	if errors.As(err, &errno) {
		why = errno.Error()
	}
	e := &Error{Op: op, Why: why, remedy: outside}
	switch {
	case s.maxNamespaces == "0", errno == unix.ENOSPC, errno == unix.EUSERS:
		e.Why += fmt.Sprintf(" (user.max_user_namespaces is %s)", s.maxNamespaces)
		e.remedy = "sudo sysctl user.max_user_namespaces=15000"
	case s.clone == "0":
		e.Why += " (kernel.unprivileged_userns_clone is 0)"
		e.remedy = "sudo sysctl kernel.unprivileged_userns_clone=1"
	case s.appArmor == "1":
		e.Why += " (kernel.apparmor_restrict_unprivileged_userns is 1)"
		e.remedy = "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0, or an AppArmor profile with `userns,` for gobuild"
	case errno == unix.EINVAL, errno == unix.ENOSYS:
		e.Why += ": the kernel has no user namespaces"
	case errno == unix.EPERM, errno == unix.EACCES:
		e.Why += ": something around gobuild forbids it, as the system call filter of a container does"
		e.remedy = "docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined IMAGE"
	}
	return e
}
