package rpmdb

import (
	"encoding/binary"
	"fmt"
)

// The parts of an ndb file, all of it little-endian: pages of slots, then blobs, in blocks of 16 bytes.
const (
	ndbMagic    = "RpmP"
	ndbSlot     = "Slot"
	ndbBlob     = "BlbS"
	ndbPage     = 4096
	ndbBlock    = 16
	ndbHeader   = 32 // in the place of the first two slots
	ndbBlobHead = 16
)

// readNDB hands over the blobs that slots point to. Blobs do not overlap in what rpm writes, so that together they are no larger than the file.
func readNDB(s source, found each) error {
	var h [ndbHeader]byte
	if err := s.at(h[:], 0); err != nil {
		return err
	}
	if version := binary.LittleEndian.Uint32(h[4:]); version != 0 {
		return fmt.Errorf("%w: ndb of version %d", ErrForm, version)
	}
	slots := int64(binary.LittleEndian.Uint32(h[12:])) * (ndbPage / ndbBlock)
	if slots > maxSlots {
		return fmt.Errorf("%w: %d slots", ErrTooLarge, slots)
	}
	page := make([]byte, ndbPage)
	left := s.size
	for at := int64(0); at < slots*ndbBlock; at += ndbPage {
		if err := s.at(page, at); err != nil {
			return err
		}
		rest := page
		if at == 0 {
			rest = page[ndbHeader:]
		}
		for ; len(rest) > 0; rest = rest[ndbBlock:] {
			if err := ndbPackage(s, rest[:ndbBlock], &left, found); err != nil {
				return err
			}
		}
	}
	return nil
}

// ndbPackage reads the blob of one slot: magic, number of the package (0: empty), first block, blocks.
func ndbPackage(s source, slot []byte, left *int64, found each) error {
	number, first := binary.LittleEndian.Uint32(slot[4:]), binary.LittleEndian.Uint32(slot[8:])
	if string(slot[:4]) != ndbSlot {
		return fmt.Errorf("%w: a slot is damaged", ErrForm)
	}
	if number == 0 {
		return nil
	}
	var h [ndbBlobHead]byte // magic, number, generation, length
	if err := s.at(h[:], int64(first)*ndbBlock); err != nil {
		return err
	}
	length := int64(binary.LittleEndian.Uint32(h[12:]))
	if string(h[:4]) != ndbBlob || binary.LittleEndian.Uint32(h[4:]) != number {
		return fmt.Errorf("%w: the slot of package %d points elsewhere", ErrForm, number)
	}
	if length > maxHeader {
		return fmt.Errorf("%w: package %d has %d bytes", ErrTooLarge, number, length)
	}
	if *left -= length; *left < 0 {
		return fmt.Errorf("%w: its packages are larger than itself", ErrForm)
	}
	if end := int64(first)*ndbBlock + ndbBlobHead + length; end > s.size {
		return fmt.Errorf("%w: package %d ends at byte %d of %d", ErrForm, number, end, s.size)
	}
	blob := make([]byte, length)
	if err := s.at(blob, int64(first)*ndbBlock+ndbBlobHead); err != nil {
		return err
	}
	return found(blob)
}
