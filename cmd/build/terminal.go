package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// terminal is a pseudo terminal between the user's and a shell. There is no library for it among our modules, and it is two ioctls.
type terminal struct {
	master, peer *os.File
	user         *os.File
	before       *term.State
	resized      chan os.Signal
	drained      chan struct{}
}

// openTerminal makes a pseudo terminal and connects the user's with it: keys go to the shell untouched, ^C too.
func openTerminal(in io.Reader, out io.Writer) (_ *terminal, err error) {
	user, ok := in.(*os.File)
	if !ok {
		return nil, errors.New("standard input is no terminal")
	}
	t := &terminal{user: user, resized: make(chan os.Signal, 1), drained: make(chan struct{})}
	if t.master, err = os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		return nil, err
	}
	if err := t.openPeer(); err != nil {
		return nil, errors.Join(err, t.master.Close())
	}
	t.resize()
	if t.before, err = term.MakeRaw(int(user.Fd())); err != nil {
		return nil, errors.Join(err, t.peer.Close(), t.master.Close())
	}
	signal.Notify(t.resized, unix.SIGWINCH)
	go func() {
		for range t.resized {
			t.resize()
		}
	}()
	// It ends with the process: nothing else reads standard input after the shell.
	go func() { _, _ = io.Copy(t.master, user) }()
	go func() {
		defer close(t.drained)
		_, _ = io.Copy(out, t.master) // EIO when the last of the other side is closed
	}()
	return t, nil
}

func (t *terminal) openPeer() error {
	raw, err := t.master.SyscallConn()
	if err != nil {
		return err
	}
	var number int
	ctrlErr := raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			number, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err = errors.Join(ctrlErr, err); err != nil {
		return fmt.Errorf("unlock terminal: %w", err)
	}
	t.peer, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	return err
}

// resize gives the shell's terminal the size of the user's. One that has no size leaves it as it is.
func (t *terminal) resize() {
	size, err := unix.IoctlGetWinsize(int(t.user.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return
	}
	raw, err := t.master.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) { _ = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, size) })
}

// close shows what the shell still wrote and gives the user's terminal back.
func (t *terminal) close() error {
	err := t.peer.Close()
	<-t.drained
	signal.Stop(t.resized)
	close(t.resized)
	return errors.Join(err, t.master.Close(), term.Restore(int(t.user.Fd()), t.before))
}
