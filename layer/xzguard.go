package layer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
)

// xzGuard passes an xz file on and looks at the header of each block before the
// decoder sees it, since the decoder allocates whatever dictionary a header
// asks for (up to 4 GiB by a file of 28 bytes). It follows the structure of the
// file (xz-file-format-1.2.1, sections 2 and 3, and LZMA2's chunks), checks
// nothing else, and leaves other faults to the decoder.
type xzGuard struct {
	r     io.Reader
	state func(*xzGuard, byte) xzState // what the next byte is for
	skip  int64                        // bytes to pass by before that
	buf   []byte                       // being collected
	want  int
	check int64 // size of the check behind each block
	body  int64 // bytes of the current block's data
	todo  uint64
	err   error
}

type xzState func(*xzGuard, byte) xzState

func (g *xzGuard) Read(p []byte) (int, error) {
	if g.err != nil {
		return 0, g.err
	}
	n, err := g.r.Read(p)
	if bad := g.scan(p[:n]); bad != nil {
		g.err = bad
		return 0, bad
	}
	return n, err
}

func (g *xzGuard) scan(p []byte) error {
	if g.state == nil {
		g.state = (*xzGuard).streamHeader
	}
	for len(p) > 0 {
		if g.skip > 0 {
			n := min(g.skip, int64(len(p)))
			g.skip -= n
			p = p[n:]
			continue
		}
		next := g.state(g, p[0])
		if g.err != nil {
			return g.err
		}
		g.state = next
		p = p[1:]
	}
	return nil
}

// collect gathers want bytes, then calls use with them.
func (g *xzGuard) collect(c byte, want int, again xzState, use func([]byte) xzState) xzState {
	g.buf = append(g.buf, c)
	if len(g.buf) < want {
		return again
	}
	next := use(g.buf)
	g.buf = g.buf[:0]
	return next
}

const xzStreamHeader = 12

func (g *xzGuard) streamHeader(c byte) xzState {
	if len(g.buf) == 0 && c == 0 {
		return (*xzGuard).streamHeader // stream padding
	}
	return g.collect(c, xzStreamHeader, (*xzGuard).streamHeader, func(h []byte) xzState {
		g.check = [16]int64{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}[h[7]&15]
		return (*xzGuard).blockSize
	})
}

func (g *xzGuard) blockSize(c byte) xzState {
	if c == 0 {
		g.body, g.todo = 1, 0 // counts the index's bytes, for its padding
		return (*xzGuard).indexCount
	}
	g.want = (int(c)+1)*4 - 1
	return (*xzGuard).blockHeader
}

func (g *xzGuard) blockHeader(c byte) xzState {
	return g.collect(c, g.want, (*xzGuard).blockHeader, func(h []byte) xzState {
		g.err = checkXzFilters(h)
		g.body = 0
		return (*xzGuard).chunkControl
	})
}

// checkXzFilters reads a block header behind its size byte: flags, optional
// sizes, filters.
func checkXzFilters(h []byte) error {
	flags := h[0]
	r := bytes.NewReader(h[1:])
	for _, present := range []byte{0x40, 0x80} {
		if flags&present != 0 {
			if _, err := binary.ReadUvarint(r); err != nil {
				return nil //nolint:nilerr // the decoder says it better
			}
		}
	}
	for range flags&3 + 1 {
		id, err := binary.ReadUvarint(r)
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		size, err := binary.ReadUvarint(r)
		if err != nil || size > uint64(r.Len()) {
			return nil //nolint:nilerr // as above
		}
		props := make([]byte, size)
		if _, err := io.ReadFull(r, props); err != nil {
			return nil //nolint:nilerr // as above
		}
		const lzma2 = 0x21
		if id == lzma2 && size == 1 && xzDict(props[0]) > xzMaxDict {
			return fmt.Errorf("%w: xz dictionary over %d MiB", ErrBound, xzMaxDict>>20)
		}
	}
	return nil
}

// xzDict decodes a dictionary size (section 5.3.1).
func xzDict(b byte) uint64 {
	bits := b & 0x3f
	if bits > 40 {
		return 1 << 40 // not valid; the decoder refuses it
	}
	return uint64(2|bits&1) << (bits/2 + 11)
}

func (g *xzGuard) chunkControl(c byte) xzState {
	g.body++
	switch {
	case c == 0: // the end of the block: padding, check, next block
		g.skip = -g.body&3 + g.check
		return (*xzGuard).blockSize
	case c >= 0xc0: // two sizes and new properties
		g.want = 5
	case c >= 0x80: // two sizes
		g.want = 4
	case c <= 2: // stored: one size
		g.want = 2
	default:
		g.err = fmt.Errorf("%w: xz: bad chunk", ErrCorrupt)
	}
	return (*xzGuard).chunkHeader
}

func (g *xzGuard) chunkHeader(c byte) xzState {
	return g.collect(c, g.want, (*xzGuard).chunkHeader, func(h []byte) xzState {
		size := h[:2] // of a stored chunk
		if len(h) > 2 {
			size = h[2:4]
		}
		g.skip = int64(binary.BigEndian.Uint16(size)) + 1
		g.body += int64(len(h)) + g.skip
		return (*xzGuard).chunkControl
	})
}

// varint reads a number of the index; done is called when it is complete.
func (g *xzGuard) varint(c byte, again xzState, done func(uint64) xzState) xzState {
	g.body++
	g.buf = append(g.buf, c)
	if c&0x80 != 0 {
		if len(g.buf) >= binary.MaxVarintLen64 {
			g.err = fmt.Errorf("%w: xz: bad index", ErrCorrupt)
		}
		return again
	}
	v, _ := binary.Uvarint(g.buf)
	g.buf = g.buf[:0]
	return done(v)
}

func (g *xzGuard) indexCount(c byte) xzState {
	return g.varint(c, (*xzGuard).indexCount, func(records uint64) xzState {
		if records > 1<<40 {
			g.err = fmt.Errorf("%w: xz: bad index", ErrCorrupt)
		}
		g.todo = 2 * records
		return g.indexNext()
	})
}

func (g *xzGuard) indexRecord(c byte) xzState {
	return g.varint(c, (*xzGuard).indexRecord, func(uint64) xzState {
		g.todo--
		return g.indexNext()
	})
}

func (g *xzGuard) indexNext() xzState {
	if g.todo > 0 {
		return (*xzGuard).indexRecord
	}
	const crc, footer = 4, 12
	g.skip = -g.body&3 + crc + footer
	return (*xzGuard).streamHeader
}
