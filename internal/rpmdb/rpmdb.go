package rpmdb

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Package is what rpm says of one that is installed.
type Package struct {
	Name, Version, Release, Arch string
	Epoch                        *uint32 // nil: none, which is not the same as 0 to readers of package URLs
	License, Vendor, URL, Source string  // Source is the name of the source package's file
}

// each takes the header of a package as a form of database has it.
type each func(header []byte) error

// Read hands over the packages of a database, in the order that it has them. The error of each ends it.
func Read(r io.ReaderAt, size int64, found func(Package) error) error {
	if size > maxFile {
		return fmt.Errorf("%w: %d bytes, the bound is %d", ErrTooLarge, size, int64(maxFile))
	}
	read, err := form(r)
	if err != nil {
		return err
	}
	var damaged error
	err = read(source{r, size}, func(header []byte) error {
		p, err := parseHeader(header)
		if err != nil {
			if damaged == nil {
				damaged = err
			}
			return nil
		}
		return found(p)
	})
	if err != nil {
		return err
	}
	return damaged
}

// form tells how to read a database by its first bytes.
func form(r io.ReaderAt) (func(source, each) error, error) {
	var start [16]byte
	if n, err := r.ReadAt(start[:], 0); n < len(start) {
		if err == nil || err == io.EOF { //nolint:errorlint // io.ReaderAt gives it bare
			err = fmt.Errorf("%w: too short", ErrForm)
		}
		return nil, err
	}
	switch {
	case string(start[:]) == sqliteMagic:
		return readSQLite, nil
	case string(start[:4]) == ndbMagic:
		return readNDB, nil
	case binary.LittleEndian.Uint32(start[12:]) == bdbHashMagic:
		return bdbReader(binary.LittleEndian), nil
	case binary.BigEndian.Uint32(start[12:]) == bdbHashMagic:
		return bdbReader(binary.BigEndian), nil
	}
	return nil, fmt.Errorf("%w: it begins neither as SQLite nor as ndb nor as a hash of Berkeley DB", ErrForm)
}

// source is the file. What it is said to have and has not is an error of its form.
type source struct {
	io.ReaderAt
	size int64
}

// at fills buf with what is at an offset.
func (s source) at(buf []byte, offset int64) error {
	if offset < 0 || offset > s.size-int64(len(buf)) {
		return fmt.Errorf("%w: it ends before byte %d", ErrForm, offset+int64(len(buf)))
	}
	if n, err := s.ReadAt(buf, offset); n < len(buf) {
		return fmt.Errorf("read at byte %d: %w", offset, err)
	}
	return nil
}

// pages are the pages of a file, each of which may be visited once.
type pages struct {
	source
	page    int64 // bytes of a page
	count   int64
	visited []uint64 // a bit for each
}

func newPages(s source, page int64) *pages {
	count := s.size / page
	return &pages{source: s, page: page, count: count, visited: make([]uint64, count/64+1)}
}

// visit fills buf with a page, by its number from 0.
func (p *pages) visit(buf []byte, number int64) error {
	if number < 0 || number >= p.count {
		return fmt.Errorf("%w: there is no page %d", ErrForm, number)
	}
	bit := uint64(1) << (number % 64)
	if p.visited[number/64]&bit != 0 {
		return fmt.Errorf("%w: page %d is used twice", ErrForm, number)
	}
	p.visited[number/64] |= bit
	return p.at(buf, number*p.page)
}
