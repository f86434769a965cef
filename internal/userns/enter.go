package userns

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Inside is what the second process knows of the first.
type Inside struct {
	UID     int                   // of the user, outside
	Signals <-chan syscall.Signal // that the first process got; the terminal sends its own to both
}

// ErrGone says that the first process has ended, or given up and told why.
var ErrGone = errors.New("the process outside of the user namespace is gone")

// Enter waits until this process is root of its namespace. The mark is the value of the variable Mark.
func Enter(mark string) (*Inside, error) {
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
	signals := make(chan syscall.Signal, 1)
	go func() {
		for {
			if _, err := io.ReadFull(orders, start[:]); err != nil {
				return
			}
			signals <- syscall.Signal(start[0])
		}
	}()
	return &Inside{UID: uid, Signals: signals}, nil
}
