package userns

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Inside is what the second process knows of the first.
type Inside struct {
	UID     int                   // of the user, outside
	OneID   bool                  // no other id is mapped
	Signals <-chan syscall.Signal // that the first process got; the terminal sends its own to both
}

// ErrGone says that the first process has ended, or given up and told why.
var ErrGone = errors.New("the process outside of the user namespace is gone")

// rootHome is where programs look for files of root's, which their user is now: ssh by the user database, whatever HOME is.
const rootHome = "/root"

// Enter waits until this process is root of its namespace. The mark is the value of the variable Mark. Where root's home is closed to
// the user, as it should be, the user's own home takes its place in this namespace.
func Enter(mark, home string) (*Inside, error) {
	mark, one := strings.CutSuffix(mark, oneIDMark(true))
	user, number, _ := strings.Cut(mark, ":")
	uid, err1 := strconv.Atoi(user)
	fd, err2 := strconv.Atoi(number)
	if err := errors.Join(err1, err2); err != nil || fd < 3 {
		return nil, fmt.Errorf("%s=%s: not set by gobuild", Mark, mark)
	}
	unix.CloseOnExec(fd)
	orders := os.NewFile(uintptr(fd), "orders")
	var start [1]byte
	if _, err := io.ReadFull(orders, start[:]); err != nil {
		return nil, ErrGone
	}
	if os.Geteuid() != 0 || os.Getegid() != 0 {
		return nil, fmt.Errorf("enter user namespace: user %d and group %d instead of 0", os.Geteuid(), os.Getegid())
	}
	// What is mounted outside later appears here, and nothing from here there. It also tells at once where the kernel made a
	// namespace without any rights in it.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return nil, readSettings().refused("mount in a user namespace", err)
	}
	if filepath.IsAbs(home) && unix.Access(rootHome, unix.R_OK|unix.X_OK) != nil {
		if err := unix.Mount(home, rootHome, "", unix.MS_BIND|unix.MS_REC, ""); err != nil && !missing(err) {
			return nil, fmt.Errorf("mount %s as the home of root in the namespace: %w", home, err)
		}
	}
	nameProcess()
	signals := make(chan syscall.Signal, 1)
	go func() {
		for {
			if _, err := io.ReadFull(orders, start[:]); err != nil {
				return
			}
			signals <- syscall.Signal(start[0])
		}
	}()
	return &Inside{UID: uid, OneID: one, Signals: signals}, nil
}

// missing says that one of the directories is none, or not to be found.
func missing(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EACCES)
}

// nameProcess gives this process the name of its program, which it does not have since it was started by way of /proc/self/exe.
func nameProcess() {
	if exe, err := os.Readlink("/proc/self/exe"); err == nil {
		_ = os.WriteFile("/proc/self/comm", []byte(filepath.Base(exe)), 0) // what ps shows, and nothing else
	}
}
