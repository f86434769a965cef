// Package rpmdb reads the packages that rpm has recorded as installed.
//
// What: Read finds the form of a database by its first bytes (SQLite, which rpm writes since 4.16; ndb, which SUSE uses; Berkeley DB's
// hash, which older versions wrote) and hands over each package.
//
//	err := rpmdb.Read(file, size, func(p rpmdb.Package) error { ...; return nil })
//
// Promise: the file may be hostile. Every page is read at most once, so that the work is bounded by the size of the file, which has a
// bound itself (limits.go); chains and trees that lead back to themselves are errors, and so is every length that the file does not
// have. Nothing is written, no lock is taken, and only the file itself is read. A package that is damaged is an error after all the others
// were handed over.
//
// Not here: what SQLite keeps in a write-ahead log beside the file, and signatures and digests of packages, which rpm checks.
package rpmdb
