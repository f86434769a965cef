package history

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"

	"gobuild/internal/atomicfile"

	"golang.org/x/sys/unix"
)

// Chunk is something a step printed, byte for byte.
type Chunk struct {
	Line   int    // of the step in the Dockerfile
	Stream string // stdout or stderr
	Data   []byte
}

// Log takes what the steps of one build print. Its form is a line "LINE STREAM BYTES" before each chunk, and a line end
// after it. Methods are safe for concurrent use.
type Log struct {
	path, dir string

	mu      sync.Mutex
	f       *os.File
	err     error
	written int64
	clipped bool
}

// Log begins the log of a build. No file is made before something is printed.
func (s *Store) Log(id string) *Log { return &Log{path: s.path(id, ".log"), dir: s.dir} }

// Write adds a chunk. What goes wrong is said by Close: a build does not end because its log cannot be kept.
func (l *Log) Write(c Chunk) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err != nil || l.clipped || len(c.Data) == 0 {
		return
	}
	head := fmt.Sprintf("%d %s %d\n", c.Line, c.Stream, len(c.Data))
	if l.written+int64(len(head)+len(c.Data)) > maxLog {
		l.clipped = true
		return
	}
	if l.f == nil {
		if l.f, l.err = l.create(); l.err != nil {
			return
		}
	}
	n, err := l.f.Write(append(append([]byte(head), c.Data...), '\n'))
	l.written += int64(n)
	l.err = err
}

func (l *Log) create() (*os.File, error) {
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL | unix.O_NOFOLLOW
	f, err := os.OpenFile(l.path, flags, 0o600)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if err := atomicfile.Mkdir(l.dir); err != nil {
		return nil, err
	}
	return os.OpenFile(l.path, flags, 0o600)
}

// Close ends the log. path is "" when nothing was printed, clipped tells that more was printed than is kept.
func (l *Log) Close() (path string, clipped bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return "", l.clipped, l.err
	}
	err = errors.Join(l.err, l.f.Close())
	l.f = nil
	if err != nil {
		return l.path, l.clipped, fmt.Errorf("keep build log: %w", err)
	}
	return l.path, l.clipped, nil
}

// ReadLog calls fn for each chunk of a build's log, in the order they were printed. A build that printed nothing has none. A
// log that ends within a chunk, as that of a killed build may, ends there.
func (s *Store) ReadLog(id string, fn func(Chunk) error) error {
	if !idPattern.MatchString(id) {
		return fmt.Errorf("read log of build %q: %w", id, ErrNotFound)
	}
	f, err := openRegular(s.path(id, ".log"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read log of build %s: %w", id, err)
	}
	defer f.Close()
	in := bufio.NewReaderSize(f, 64<<10)
	for {
		c, ok, err := readChunk(in)
		if err != nil {
			return fmt.Errorf("read log of build %s: %w", id, err)
		}
		if !ok {
			return nil
		}
		if err := fn(c); err != nil {
			return err
		}
	}
}

// readChunk reads one chunk; false at the end, and where the log is no log any more.
func readChunk(in *bufio.Reader) (c Chunk, ok bool, err error) {
	head, err := in.ReadSlice('\n')
	if len(head) > maxHead || errors.Is(err, bufio.ErrBufferFull) || errors.Is(err, io.EOF) {
		return c, false, nil
	}
	if err != nil {
		return c, false, err
	}
	var size int
	if _, err := fmt.Sscanf(string(head), "%d %s %d\n", &c.Line, &c.Stream, &size); err != nil || size < 0 || size > maxChunk {
		return c, false, nil //nolint:nilerr // torn: it ends here
	}
	c.Data = make([]byte, size)
	if _, err := io.ReadFull(in, c.Data); err != nil {
		return c, false, torn(err)
	}
	end, err := in.ReadByte()
	return c, end == '\n', torn(err)
}

// torn forgets that the file ended too early.
func torn(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}
