package sandbox

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/internal/rescue"
)

// drain copies a step's output to its writer.
type drain struct {
	pipe *os.File
	to   io.Writer
	done chan error
}

func newDrain(pipe *os.File, to io.Writer) *drain {
	if to == nil {
		to = io.Discard
	}
	d := &drain{pipe: pipe, to: to, done: make(chan error, 1)}
	go func() { d.done <- rescue.Do(d.copy) }()
	return d
}

func (d *drain) copy() error {
	buf := make([]byte, 32<<10)
	var failed error
	for {
		n, err := d.pipe.Read(buf)
		if n > 0 && failed == nil {
			// A writer that fails must not stop the step by a full pipe.
			_, failed = d.to.Write(buf[:n])
		}
		switch {
		case errors.Is(err, io.EOF):
			return failed
		case errors.Is(err, os.ErrDeadlineExceeded):
			return errors.Join(failed, d.rest(buf))
		case err != nil:
			return errors.Join(failed, err)
		}
	}
}

// rest takes what is in the pipe without waiting for more: someone outside of the sandbox still holds its other end.
func (d *drain) rest(buf []byte) error {
	return withFD(d.pipe, func(fd int) error {
		for total := 0; total < drainBytes; {
			n, err := unix.Read(fd, buf)
			if err != nil || n == 0 {
				return nil //nolint:nilerr // EAGAIN: the pipe is empty
			}
			if _, err := d.to.Write(buf[:n]); err != nil {
				return err
			}
			total += n
		}
		return nil
	})
}

// finish waits for the end of the output, which is there when all of the step's processes are dead.
func (d *drain) finish() error {
	if err := d.pipe.SetReadDeadline(time.Now().Add(drainTime)); err != nil {
		return err
	}
	return <-d.done
}

// inputPump feeds a step's stdin through a pipe.
type inputPump struct {
	read  int
	write *os.File
	done  chan struct{}
}

func newInputPump(from io.Reader) (*inputPump, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, setupError("make pipe", "", err)
	}
	defer r.Close()
	// A blocking description for the command: os.Pipe made it non-blocking for us.
	fd, err := unix.FcntlInt(r.Fd(), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		_ = w.Close()
		return nil, setupError("make pipe", "", err)
	}
	p := &inputPump{read: fd, write: w, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		// The step may not read it all: a broken pipe is no error. A reader's own error ends the input.
		_ = rescue.Do(func() error {
			_, err := io.Copy(w, from)
			return err
		})
		_ = w.Close()
	}()
	return p, nil
}

// stop ends the input when the step has ended. A reader that blocks for ever keeps its goroutine, as with os/exec.
func (p *inputPump) stop() {
	if p != nil {
		_ = p.write.Close()
	}
}
