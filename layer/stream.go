package layer

import (
	"errors"
	"io"

	"golang.org/x/sys/unix"
)

// streamFile passes on a batch that ends in a large file, and the file chunk by
// chunk.
func (b *blob) streamFile(bt *batch, opt PackOptions) error {
	e := bt.large
	fd, err := openContent(e, opt)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if bt.out.data, err = appendHeader(bt.out.data, e); err != nil {
		return err
	}
	b.put(bt.out)
	opt.watchName(e)
	look := opt.Watch.Stream(func(needle string) { opt.Found(e.name, needle) })
	s := stretch{fd: fd, size: e.size}
	if err := s.find(); err != nil {
		return err
	}
	for s.at < e.size {
		c, err := take(b.ctx, b.stream)
		if err != nil {
			return err
		}
		n := min(int64(chunkSize), e.size-s.at)
		c.data = c.data[:n]
		if err := s.read(c.data); err != nil {
			return err
		}
		_, _ = look.Write(c.data) // never fails
		if s.at == e.size {
			c.data = append(c.data, zeroBlock[:padding(e.size)]...)
		}
		b.put(c)
	}
	return checkSame(fd, e, s.at)
}

// stretch reads a file with holes: a hole gives zeros without being read, so it
// neither costs reads nor fills the page cache.
type stretch struct {
	fd    int
	size  int64
	at    int64
	data  int64 // data lies between data and hole, zeros between at and data
	hole  int64
	blind bool // the file system does not tell
}

// find looks for the next data at or after s.at.
func (s *stretch) find() error {
	if s.blind {
		return nil
	}
	data, err := unix.Seek(s.fd, s.at, unix.SEEK_DATA)
	if errors.Is(err, unix.ENXIO) { // none up to the end
		s.data, s.hole = s.size, s.size
		return nil
	}
	if err == nil {
		s.data = data
		s.hole, err = unix.Seek(s.fd, data, unix.SEEK_HOLE)
	}
	if err != nil {
		s.blind, s.data, s.hole = true, 0, s.size
	}
	return nil
}

func (s *stretch) read(p []byte) error {
	for len(p) > 0 {
		if s.at >= s.hole {
			if err := s.find(); err != nil {
				return err
			}
		}
		var n int64
		if s.at < s.data {
			n = min(int64(len(p)), s.data-s.at)
			clear(p[:n])
		} else {
			n = min(int64(len(p)), s.hole-s.at)
			got, err := preadFull(s.fd, p[:n], s.at)
			if err != nil {
				return err
			}
			if int64(got) < n {
				return ErrChanged
			}
		}
		if n <= 0 {
			return io.ErrNoProgress
		}
		s.at += n
		p = p[n:]
	}
	return nil
}

func preadFull(fd int, p []byte, at int64) (int, error) {
	total := 0
	for total < len(p) {
		n, err := unix.Pread(fd, p[total:], at+int64(total))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return total, err
		}
		if n == 0 {
			break
		}
		total += n
	}
	return total, nil
}
