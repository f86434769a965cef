package rpmdb

import "errors"

const (
	// maxFile bounds a database: one of 5,000 packages with all their files has 300 MB.
	maxFile = 2 << 30
	// maxHeader bounds what is told of one package. The longest, of packages with 100,000 files, have 20 MB.
	maxHeader = 64 << 20
	// maxTags bounds the fields of a package: rpm itself takes no more than 65,535.
	maxTags = 65_535
	// maxText bounds a field that is read as text.
	maxText = 64 << 10
	// maxDepth bounds a tree of pages: each level has at least two pages for each of the one above it.
	maxDepth = 32
	// maxSlots bounds the slots of an ndb file, of which it has one for each package and some that are empty.
	maxSlots = 1 << 20
)

var (
	// ErrForm is of a file that is no database of rpm, or is damaged.
	ErrForm = errors.New("not in the form that is known")
	// ErrTooLarge is of a file or a package over a bound.
	ErrTooLarge = errors.New("larger than is read")
)
