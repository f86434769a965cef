package needles

import (
	"bytes"
)

// Shortest is the least length of a needle: shorter ones are found everywhere, and the search steps by it.
const Shortest = 8

// Longest bounds what of a needle is looked for: its beginning. A Stream keeps as much between pieces.
const Longest = 4 << 10

// Needle is a byte string and what it is called. Several may have one name.
type Needle struct {
	Name  string
	Bytes []byte
}

// Set is ready to search. It is Wu and Manber's algorithm: the first Shortest bytes of all needles form a window, and the two bytes at
// its end say how far it may move.
type Set struct {
	needles []Needle
	shift   [1 << 16]uint8
	ends    map[uint16][]int // the last two bytes of a window to the needles that begin with it
	longest int
}

// New makes a set; nil if no needle is long enough. Needles of one repeated byte are left out: empty space is full of them.
func New(list []Needle) *Set {
	s := &Set{ends: map[uint16][]int{}}
	for i := range s.shift {
		s.shift[i] = Shortest - 1
	}
	for _, n := range list {
		if len(n.Bytes) < Shortest || len(bytes.TrimLeft(n.Bytes, string(n.Bytes[:1]))) == 0 {
			continue
		}
		n.Bytes = bytes.Clone(n.Bytes[:min(len(n.Bytes), Longest)])
		for at := 1; at < Shortest; at++ {
			pair := pairAt(n.Bytes, at)
			s.shift[pair] = min(s.shift[pair], uint8(Shortest-1-at))
		}
		end := pairAt(n.Bytes, Shortest-1)
		s.ends[end] = append(s.ends[end], len(s.needles))
		s.needles = append(s.needles, n)
		s.longest = max(s.longest, len(n.Bytes))
	}
	if len(s.needles) == 0 {
		return nil
	}
	return s
}

// pairAt are the bytes before and at an index.
func pairAt(p []byte, at int) uint16 { return uint16(p[at-1])<<8 | uint16(p[at]) }

// Find calls found with the name of each needle that data has, each name once.
func (s *Set) Find(data []byte, found func(name string)) {
	if s == nil {
		return
	}
	s.search(data, map[string]bool{}, found)
}

func (s *Set) search(data []byte, told map[string]bool, found func(name string)) {
	for at := Shortest - 1; at < len(data); {
		pair := pairAt(data, at)
		if step := s.shift[pair]; step > 0 {
			at += int(step)
			continue
		}
		start := data[at-(Shortest-1):]
		for _, i := range s.ends[pair] {
			if n := s.needles[i]; !told[n.Name] && bytes.HasPrefix(start, n.Bytes) {
				told[n.Name] = true
				found(n.Name)
			}
		}
		at++
	}
}

// Stream searches data that comes in pieces. It is for one goroutine.
type Stream struct {
	set   *Set
	tail  []byte // of what was written
	told  map[string]bool
	found func(name string)
}

// Stream begins a search; nil for a nil set.
func (s *Set) Stream(found func(name string)) *Stream {
	if s == nil {
		return nil
	}
	return &Stream{set: s, told: map[string]bool{}, found: found}
}

// Write searches the next piece. It never fails.
func (st *Stream) Write(p []byte) (int, error) {
	if st == nil {
		return len(p), nil
	}
	keep := st.set.longest - 1
	if len(st.tail) > 0 {
		st.set.search(append(st.tail, p[:min(len(p), keep)]...), st.told, st.found)
	}
	st.set.search(p, st.told, st.found)
	if len(p) >= keep {
		st.tail = append(st.tail[:0], p[len(p)-keep:]...)
		return len(p), nil
	}
	st.tail = append(st.tail, p...)
	st.tail = append(st.tail[:0], st.tail[max(0, len(st.tail)-keep):]...)
	return len(p), nil
}
