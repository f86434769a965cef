package layer

import (
	"encoding/binary"
	"hash/maphash"
)

// ownership remembers what a layer wrote, so that its whiteouts and opaque marks
// hide lower layers only, wherever they stand in it (OCI image-spec layer.md,
// "Whiteouts": they MUST only apply to resources in lower layers). It keeps a
// 64-bit hash of each path: with a seed that no archive can know, two of ten
// million paths meet once in some hundred thousand layers, and then one
// whiteout too few is applied.
type ownership struct {
	seed    maphash.Seed
	touched hashSet // written by this layer, or an ancestor of that
	clear   hashSet // directories without anything of a lower layer in them
}

func newOwnership() *ownership { return &ownership{seed: maphash.MakeSeed()} }

const rootHash = 1

// child hashes the path of a name below the directory of that hash.
func (o *ownership) child(dir uint64, name string) uint64 {
	var h maphash.Hash
	h.SetSeed(o.seed)
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], dir)
	_, _ = h.Write(b[:])
	_, _ = h.WriteString(name)
	return h.Sum64()
}

// hashSet is a set of hashes that takes 11 to 22 bytes for each. It grows in
// small parts, so that growing it needs little more than that.
type hashSet struct {
	shards [256]hashShard
}

type hashShard struct {
	slots []uint64 // open addressing; zero is free
	used  int
}

func (s *hashSet) add(h uint64) { s.shards[h>>56].add(h | 1) }

func (s *hashSet) has(h uint64) bool { return s.shards[h>>56].has(h | 1) }

func (s *hashShard) add(h uint64) {
	if 4*(s.used+1) > 3*len(s.slots) {
		s.grow()
	}
	i := s.find(h)
	if s.slots[i] == 0 {
		s.slots[i] = h
		s.used++
	}
}

func (s *hashShard) has(h uint64) bool {
	return s.used > 0 && s.slots[s.find(h)] != 0
}

// find returns the slot of h, or the free one where it belongs.
func (s *hashShard) find(h uint64) uint64 {
	mask := uint64(len(s.slots) - 1)
	i := h >> 1 & mask
	for s.slots[i] != 0 && s.slots[i] != h {
		i = (i + 1) & mask
	}
	return i
}

func (s *hashShard) grow() {
	old := s.slots
	s.slots = make([]uint64, max(16, 2*len(old)))
	for _, h := range old {
		if h != 0 {
			s.slots[s.find(h)] = h
		}
	}
}
