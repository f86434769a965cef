package rpmdb

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// sqliteMagic begins a database (SQLite's "Database File Format", section 1.3).
const sqliteMagic = "SQLite format 3\x00"

const (
	sqliteHeader   = 100 // bytes at the start of the first page
	sqliteInterior = 0x05
	sqliteLeaf     = 0x0d
)

// sqlite is a database of which tables are read from their first row to the last. Indexes are not read.
type sqlite struct {
	*pages
	usable int64 // bytes of a page without what is reserved at its end
}

// readSQLite hands over the blobs of the table Packages (hnum INTEGER PRIMARY KEY, blob BLOB).
func readSQLite(s source, found each) error {
	db, err := openSQLite(s)
	if err != nil {
		return err
	}
	root := int64(0)
	err = db.table(1, 0, func(row []byte) error { // type, name, tbl_name, rootpage, sql (section 2.6)
		kind, err := column(row, 0)
		if err != nil {
			return err
		}
		name, err := column(row, 1)
		if err != nil {
			return err
		}
		page, err := column(row, 3)
		if err != nil {
			return err
		}
		if string(kind.bytes) == "table" && string(name.bytes) == "Packages" {
			root = page.number
		}
		return nil
	})
	if err != nil {
		return err
	}
	if root == 0 {
		return fmt.Errorf("%w: it has no table Packages", ErrForm)
	}
	return db.table(root, 0, func(row []byte) error {
		blob, err := column(row, 1)
		if err != nil {
			return err
		}
		return found(blob.bytes)
	})
}

func openSQLite(s source) (*sqlite, error) {
	var h [sqliteHeader]byte
	if err := s.at(h[:], 0); err != nil {
		return nil, err
	}
	size := int64(binary.BigEndian.Uint16(h[16:]))
	if size == 1 {
		size = 64 << 10
	}
	usable := size - int64(h[20])
	if size < 512 || size&(size-1) != 0 || usable < 480 {
		return nil, fmt.Errorf("%w: pages of %d bytes", ErrForm, size)
	}
	if encoding := binary.BigEndian.Uint32(h[56:]); encoding > 1 { // 0: nothing was written yet
		return nil, fmt.Errorf("%w: its text is not UTF-8", ErrForm)
	}
	return &sqlite{pages: newPages(s, size), usable: usable}, nil
}

// table visits the rows of a tree of pages in order; number counts from 1 (section 1.6).
func (db *sqlite) table(number int64, depth int, row func([]byte) error) error {
	if depth > maxDepth {
		return fmt.Errorf("%w: a table is deeper than %d pages", ErrForm, maxDepth)
	}
	page := make([]byte, db.page)
	if err := db.visit(page, number-1); err != nil {
		return err
	}
	page = page[:db.usable]
	start := 0
	if number == 1 {
		start = sqliteHeader
	}
	kind := page[start]
	cells := int(binary.BigEndian.Uint16(page[start+3:]))
	first := start + 8
	if kind == sqliteInterior {
		first += 4
	} else if kind != sqliteLeaf {
		return fmt.Errorf("%w: page %d is of type %d, not of a table", ErrForm, number, kind)
	}
	if first+2*cells > len(page) {
		return fmt.Errorf("%w: page %d claims %d cells", ErrForm, number, cells)
	}
	for i := range cells {
		at := int(binary.BigEndian.Uint16(page[first+2*i:]))
		if at > len(page)-4 {
			return fmt.Errorf("%w: a cell of page %d is not in it", ErrForm, number)
		}
		var err error
		if kind == sqliteInterior {
			err = db.table(int64(binary.BigEndian.Uint32(page[at:])), depth+1, row)
		} else {
			err = db.cell(page[at:], row)
		}
		if err != nil {
			return err
		}
	}
	if kind == sqliteInterior {
		return db.table(int64(binary.BigEndian.Uint32(page[start+8:])), depth+1, row)
	}
	return nil
}

// cell puts a row together: what the page has of it, and the chain of pages with the rest.
func (db *sqlite) cell(cell []byte, row func([]byte) error) error {
	length, n := varint(cell)
	_, m := varint(cell[n:]) // the row's number
	cell = cell[n+m:]
	if n == 0 || m == 0 || length > maxHeader {
		return fmt.Errorf("%w: a row of %d bytes", ErrForm, length)
	}
	size := int64(length)
	local := db.local(size)
	if local > int64(len(cell)) {
		return fmt.Errorf("%w: a row is not in its page", ErrForm)
	}
	if local == size {
		return row(cell[:size])
	}
	if local+4 > int64(len(cell)) {
		return fmt.Errorf("%w: a row is not in its page", ErrForm)
	}
	data := append([]byte(nil), cell[:local]...)
	next := int64(binary.BigEndian.Uint32(cell[local:]))
	page := make([]byte, db.page)
	for int64(len(data)) < size {
		if err := db.visit(page, next-1); err != nil {
			return err
		}
		next = int64(binary.BigEndian.Uint32(page))
		data = append(data, page[4:min(db.usable, 4+size-int64(len(data)))]...)
	}
	return row(data)
}

// local is how much of a row its page has (section 1.6, "the amount of payload that spills").
func (db *sqlite) local(size int64) int64 {
	if size <= db.usable-35 {
		return size
	}
	least := (db.usable-12)*32/255 - 23
	if k := least + (size-least)%(db.usable-4); k <= db.usable-35 {
		return k
	}
	return least
}

// value is a column: text and blobs have bytes, integers a number.
type value struct {
	bytes  []byte
	number int64
}

var errRow = errors.New("a row is damaged")

// column reads one column of a row (section 2.1). NULL, and floating point numbers, which rpm has not, have the zero value.
func column(row []byte, want int) (value, error) {
	size, n := varint(row)
	if n == 0 || size > uint64(len(row)) || size < uint64(n) {
		return value{}, fmt.Errorf("%w: %w", ErrForm, errRow)
	}
	types, data := row[n:size], row[size:]
	for i := 0; ; i++ {
		kind, n := varint(types)
		if n == 0 {
			return value{}, fmt.Errorf("%w: %w: it has %d columns", ErrForm, errRow, i)
		}
		types = types[n:]
		length := columnSize(kind)
		if length > uint64(len(data)) {
			return value{}, fmt.Errorf("%w: %w: column %d is longer than it", ErrForm, errRow, i)
		}
		if i == want {
			return newValue(kind, data[:length]), nil
		}
		data = data[length:]
	}
}

func columnSize(kind uint64) uint64 {
	switch {
	case kind >= 12:
		return (kind - 12) / 2
	case kind <= 7:
		return [...]uint64{0, 1, 2, 3, 4, 6, 8, 8}[kind]
	}
	return 0 // the constants 0 and 1, and two that are reserved
}

func newValue(kind uint64, data []byte) value {
	if kind >= 12 {
		return value{bytes: data}
	}
	var v value
	switch {
	case kind == 9:
		v.number = 1
	case kind >= 1 && kind <= 6:
		for i, b := range data {
			if i == 0 {
				v.number = int64(int8(b)) // the sign
				continue
			}
			v.number = v.number<<8 | int64(b)
		}
	}
	return v
}

// varint reads a number of one to nine bytes, and says how many; 0 if it does not end.
func varint(b []byte) (v uint64, n int) {
	for n < len(b) && n < 8 {
		v = v<<7 | uint64(b[n]&0x7f)
		n++
		if b[n-1] < 0x80 {
			return v, n
		}
	}
	if n == 8 && n < len(b) {
		return v<<8 | uint64(b[8]), 9
	}
	return 0, 0
}
