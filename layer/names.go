package layer

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

// names is the sorted content of one directory. A directory of five million
// files is held in some 80 MB: names lie behind each other in blocks, and an
// index has four bytes for each.
type names struct {
	blocks [][]byte
	index  []uint32 // block number << blockShift | offset
	next   int
}

const (
	blockShift = 20
	largeBlock = 1 << blockShift
	smallBlock = 2 << 10
)

// In a block a name is: its flag byte, its length (two bytes), its bytes.
const (
	nameFixed      = 3
	nameIsWhiteout = 1 // the name is that of a whiteout entry, prefix included
)

func (n *names) add(prefix string, name []byte, flag byte) {
	need := nameFixed + len(prefix) + len(name)
	last := len(n.blocks) - 1
	if last < 0 || len(n.blocks[last])+need > cap(n.blocks[last]) {
		size := smallBlock
		if last >= 0 {
			size = min(cap(n.blocks[last])*4, largeBlock)
		}
		n.blocks = append(n.blocks, make([]byte, 0, size))
		last++
	}
	b := n.blocks[last]
	n.index = append(n.index, uint32(last<<blockShift|len(b)))
	b = append(b, flag)
	b = binary.NativeEndian.AppendUint16(b, uint16(len(prefix)+len(name)))
	b = append(b, prefix...)
	n.blocks[last] = append(b, name...)
}

func (n *names) at(i uint32) (name []byte, flag byte) {
	b := n.blocks[i>>blockShift][i&(largeBlock-1):]
	length := int(binary.NativeEndian.Uint16(b[1:]))
	return b[nameFixed : nameFixed+length], b[0]
}

func (n *names) sort() {
	slices.SortFunc(n.index, func(a, b uint32) int {
		x, _ := n.at(a)
		y, _ := n.at(b)
		return bytes.Compare(x, y)
	})
}

// take returns the next name in order.
func (n *names) take() (name []byte, flag byte, ok bool) {
	if n.next == len(n.index) {
		return nil, 0, false
	}
	name, flag = n.at(n.index[n.next])
	n.next++
	return name, flag, true
}

// has looks a name up in a sorted list.
func (n *names) has(name []byte) bool {
	_, found := slices.BinarySearchFunc(n.index, name, func(i uint32, want []byte) int {
		have, _ := n.at(i)
		return bytes.Compare(have, want)
	})
	return found
}

// direntFixed is the size of struct linux_dirent64 before the name: inode (8),
// offset (8), record length (2), type (1).
const direntFixed = 19

// readNames calls visit with each name in an open directory, in no order, but
// for "." and "..", and with its type as getdents64(2) gives it. The name is
// valid during the call only.
func readNames(fd int, buf []byte, visit func(name []byte, kind byte) error) error {
	for {
		n, err := unix.Getdents(fd, buf)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return nil
		}
		for rest := buf[:n]; len(rest) > direntFixed; {
			length := binary.NativeEndian.Uint16(rest[16:])
			name := rest[direntFixed:length]
			if end := bytes.IndexByte(name, 0); end >= 0 {
				name = name[:end]
			}
			kind := rest[18]
			rest = rest[length:]
			if string(name) == "." || string(name) == ".." {
				continue
			}
			if err := visit(name, kind); err != nil {
				return err
			}
		}
	}
}
