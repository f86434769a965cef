package sbom

import (
	"errors"
	"os"
)

var errBerkeley = errors.New("the packages of this rpm are in a Berkeley DB, which is not read; rpm since version 4.16 keeps them in SQLite")

// rpmBerkeley is the database of older versions of rpm.
func (s *scan) rpmBerkeley(string, *os.File, int64) error { return errBerkeley }

func (s *scan) rpmSQLite(string, *os.File, int64) error {
	return errors.New("lists of rpm are not read")
}

func (s *scan) rpmNDB(string, *os.File, int64) error { return errors.New("lists of rpm are not read") }
