package sandbox

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// The parent talks with its child over a stream socket, the child's descriptor 3. At its start the child gets a prepFrame and
// builds what does not depend on the command; then it waits, possibly for long, for a stepFrame and its descriptors. It answers
// with one replyFrame and exits. After the stepFrame single bytes are orders. End of file at any time means that the parent is
// gone, and the child ends at once.
//
// A frame is four bytes of length and JSON. Texts are []byte: arguments and paths need not be UTF-8, and JSON strings must.

// orderTerm asks the init to send TERM to the command.
const orderTerm = 'T'

type prepFrame struct {
	Network    string
	Link       *wireLink // nil: a network of the step's own has no way out
	Cgroups    []cgroupDir
	Filter     []byte // the seccomp program, as struct sock_filter; none: no filter
	Privileges privileges
}

// cgroupDir is a directory of a cgroup hierarchy to be shown read-only below /sys/fs/cgroup. Name is empty for version 2.
type cgroupDir struct{ Name, Path string }

type stepFrame struct {
	FDs          int  // how many descriptors follow; the first is the root's mount
	Stdin        int  // index of one of them, or -1
	Terminal     bool // Stdin is a terminal for all three streams
	Args, Env    [][]byte
	SecretEnv    [][]byte
	Dir, User    []byte
	Hostname     []byte
	Mounts       []wireMount
	ShmSize      int64
	Rlimits      []Rlimit
	ReadOnlyRoot bool
}

type wireMount struct {
	FD       int // index of a detached mount, or -1: a tmpfs, or with IsFile a file made here
	Target   []byte
	IsFile   bool
	ReadOnly bool
	NoExec   bool
	NoFollow bool // a link at Target is covered, not followed
	Data     []byte
	Mode     uint32
	UID, GID int
	Size     int64
}

type replyFrame struct {
	Err       *wireError
	Exec      ExecFailure
	ExecText  string
	ExitCode  int
	Signal    int
	MaxRSS    int64
	User, Sys time.Duration
	Wall      time.Duration
	Read      int64
	Written   int64
	Received  int64
	Sent      int64
	Notices   []string
}

// wireError is a SetupError on its way; Kind is a place in kinds() plus one.
type wireError struct {
	Op, Path, Detail string
	Kind             int
	Errno            int
}

func (e *SetupError) wire() *wireError {
	w := &wireError{Op: e.Op, Path: e.Path, Detail: e.Detail, Errno: int(e.Errno)}
	for i, kind := range kinds() {
		if e.Kind == kind { //nolint:errorlint // Kind is one of these very values
			w.Kind = i + 1
		}
	}
	return w
}

func (w *wireError) setupError() *SetupError {
	e := &SetupError{Op: w.Op, Path: w.Path, Detail: w.Detail, Errno: unix.Errno(w.Errno)}
	if all := kinds(); w.Kind > 0 && w.Kind <= len(all) {
		e.Kind = all[w.Kind-1]
	}
	return e
}

func writeFrame(w io.Writer, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode %T: %w", v, err)
	}
	if len(body) > maxFrame {
		return fmt.Errorf("%w: arguments, environment and files of %d bytes, at most %d", ErrInvalid, len(body), maxFrame)
	}
	msg := binary.LittleEndian.AppendUint32(make([]byte, 0, 4+len(body)), uint32(len(body)))
	_, err = w.Write(append(msg, body...))
	return err
}

func readFrame(r io.Reader, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return err
	}
	n := binary.LittleEndian.Uint32(head[:])
	if n > maxFrame {
		return fmt.Errorf("frame of %d bytes", n)
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		return err
	}
	return json.Unmarshal(body, v)
}

// sendFDs sends descriptors over a socket, one byte with each batch.
func sendFDs(socket int, fds []int) error {
	for len(fds) > 0 {
		batch := fds[:min(len(fds), fdBatch)]
		fds = fds[len(batch):]
		for {
			err := unix.Sendmsg(socket, []byte{0}, unix.UnixRights(batch...), nil, 0)
			if err == unix.EINTR || err == unix.EAGAIN {
				// The child has the frame before it reads descriptors, so the buffer empties soon.
				if _, err := unix.Poll([]unix.PollFd{{Fd: int32(socket), Events: unix.POLLOUT}}, -1); err != nil && err != unix.EINTR {
					return err
				}
				continue
			}
			if err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// receiveFDs receives n descriptors that sendFDs sent.
func receiveFDs(socket, n int) ([]int, error) {
	var fds []int
	for len(fds) < n {
		want := min(n-len(fds), fdBatch)
		oob := make([]byte, unix.CmsgSpace(4*want))
		var data [1]byte
		size, oobSize, flags, _, err := unix.Recvmsg(socket, data[:], oob, unix.MSG_CMSG_CLOEXEC)
		if err == unix.EINTR {
			continue
		}
		if err == nil && size == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err == nil && flags&unix.MSG_CTRUNC != 0 {
			err = unix.EMFILE
		}
		if err != nil {
			return nil, err
		}
		messages, err := unix.ParseSocketControlMessage(oob[:oobSize])
		if err != nil {
			return nil, err
		}
		for i := range messages {
			got, err := unix.ParseUnixRights(&messages[i])
			if err != nil {
				return nil, err
			}
			fds = append(fds, got...)
		}
	}
	return fds, nil
}

func toBytes(list []string) [][]byte {
	out := make([][]byte, len(list))
	for i, s := range list {
		out[i] = []byte(s)
	}
	return out
}

func toStrings(list [][]byte) []string {
	out := make([]string, len(list))
	for i, b := range list {
		out[i] = string(b)
	}
	return out
}
