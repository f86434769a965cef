package rpmdb

import (
	"encoding/binary"
	"fmt"
)

// What is read of a hash of Berkeley DB (db_page.h of its source: HMETA, PAGE, HOFFPAGE), in the byte order of the machine that wrote it.
const (
	bdbHashMagic = 0x061561
	bdbMeta      = 8 // types of pages
	bdbOverflow  = 7
	bdbHash      = 13
	bdbUnsorted  = 2 // as bdbHash, before version 4.6
	bdbPageHead  = 26
	bdbInPage    = 1 // types of items
	bdbOffPage   = 3
)

// bdb is a database whose pages are read one after the other: where a hash puts a key does not matter to who wants all of them.
type bdb struct {
	*pages
	order binary.ByteOrder
}

func bdbReader(order binary.ByteOrder) func(source, each) error {
	return func(s source, found each) error { return readBDB(s, order, found) }
}

// readBDB hands over the values of all keys but 0, which counts the packages.
func readBDB(s source, order binary.ByteOrder, found each) error {
	var h [72]byte
	if err := s.at(h[:], 0); err != nil {
		return err
	}
	size := int64(order.Uint32(h[20:]))
	if size < 512 || size > 64<<10 || size&(size-1) != 0 || h[25] != bdbMeta || h[24] != 0 {
		return fmt.Errorf("%w: pages of %d bytes, the first of type %d", ErrForm, size, h[25])
	}
	db := &bdb{newPages(s, size), order}
	page := make([]byte, size)
	for number := int64(1); number < db.count; number++ {
		if err := db.at(page, number*size); err != nil {
			return err
		}
		if kind := page[25]; kind != bdbHash && kind != bdbUnsorted {
			continue
		}
		if err := db.visit(page, number); err != nil {
			return err
		}
		if err := db.items(page, number, found); err != nil {
			return err
		}
	}
	return nil
}

// items visits the pairs of a page. Items are put into a page from its end to its start.
func (db *bdb) items(page []byte, number int64, found each) error {
	count := int(db.order.Uint16(page[20:]))
	if bdbPageHead+2*count > len(page) || count%2 != 0 {
		return fmt.Errorf("%w: page %d claims %d items", ErrForm, number, count)
	}
	end := len(page)
	var key []byte
	for i := range count {
		at := int(db.order.Uint16(page[bdbPageHead+2*i:]))
		if at < bdbPageHead+2*count || at >= end {
			return fmt.Errorf("%w: an item of page %d is not in it", ErrForm, number)
		}
		item := page[at:end]
		end = at
		if i%2 == 0 {
			key = item
			continue
		}
		if isCount(key) {
			continue
		}
		value, err := db.value(item, number)
		if err != nil {
			return err
		}
		if err := found(value); err != nil {
			return err
		}
	}
	return nil
}

// isCount says that a key is the number 0.
func isCount(key []byte) bool {
	return len(key) == 5 && key[0] == bdbInPage && string(key[1:]) == "\x00\x00\x00\x00"
}

// value is what an item has: bytes, or the first page of a chain and a length.
func (db *bdb) value(item []byte, number int64) ([]byte, error) {
	switch {
	case item[0] == bdbInPage:
		return item[1:], nil
	case item[0] != bdbOffPage || len(item) < 12:
		return nil, fmt.Errorf("%w: an item of page %d is of type %d", ErrForm, number, item[0])
	}
	next, length := int64(db.order.Uint32(item[4:])), int64(db.order.Uint32(item[8:]))
	if length > maxHeader {
		return nil, fmt.Errorf("%w: a package of %d bytes", ErrTooLarge, length)
	}
	var value []byte
	page := make([]byte, db.page)
	for int64(len(value)) < length {
		if err := db.visit(page, next); err != nil {
			return nil, err
		}
		used := int64(db.order.Uint16(page[22:]))
		if page[25] != bdbOverflow || used == 0 || used > db.page-bdbPageHead {
			return nil, fmt.Errorf("%w: page %d is no part of a package", ErrForm, next)
		}
		next = int64(db.order.Uint32(page[16:]))
		value = append(value, page[bdbPageHead:bdbPageHead+min(used, length-int64(len(value)))]...)
	}
	return value, nil
}
