package sandbox

import (
	"errors"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// streams are the shell's: a terminal, or pipes, so that the step gets no descriptor of ours that leads to a file of this machine.
type streams struct {
	files  [3]int
	stdin  *inputPump
	outs   []*drain
	closed bool
}

func (a *attachment) openStreams() (_ *streams, err error) {
	st := &streams{files: [3]int{-1, -1, -1}}
	defer func() {
		if err != nil {
			_ = st.finish()
		}
	}()
	if t := a.spec.Terminal; t != nil {
		for i := range st.files {
			if st.files[i], err = duplicate(t); err != nil {
				return nil, err
			}
		}
		return st, inContext("give terminal to step", unix.SetNonblock(st.files[0], false))
	}
	in := a.spec.Stdin
	if in == nil {
		in = strings.NewReader("")
	}
	if st.stdin, err = newInputPump(in); err != nil {
		return nil, err
	}
	st.files[0] = st.stdin.read
	for i, to := range []io.Writer{a.spec.Stdout, a.spec.Stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, setupError("make pipe", "", err)
		}
		st.outs = append(st.outs, newDrain(r, to))
		st.files[1+i], err = duplicate(w)
		_ = w.Close()
		if err == nil {
			err = unix.SetNonblock(st.files[1+i], false)
		}
		if err != nil {
			return nil, setupError("make pipe", "", err)
		}
	}
	return st, nil
}

// given closes our copies of the shell's ends, once it has them.
func (st *streams) given() {
	if st.closed {
		return
	}
	st.closed = true
	for _, fd := range st.files {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

// finish waits for the rest of the output. What a process in the background still writes is not waited for.
func (st *streams) finish() error {
	st.given()
	st.stdin.stop()
	var errs []error
	for _, d := range st.outs {
		errs = append(errs, d.finish(), d.pipe.Close())
	}
	return errors.Join(errs...)
}
