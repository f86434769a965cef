package sbom

import (
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"gobuild/internal/rpmdb"
)

// rpm reads the database of rpm, in any of its forms.
func (s *scan) rpm(name string, f *os.File, size int64) error {
	if err := s.rpmLog(name); err != nil {
		s.note(name+"-wal", err)
	}
	return rpmdb.Read(watched{s, f}, size, func(p rpmdb.Package) error {
		if p.Name == "gpg-pubkey" { // a key that signatures are checked with, which rpm keeps as if it were a package
			return nil
		}
		return s.addRPM(name, p)
	})
}

// rpmLog says what SQLite has not yet put into the database. A transaction that ends does that and leaves nothing, or an empty file.
func (s *scan) rpmLog(name string) error {
	st, err := s.root.Lstat(name + "-wal")
	if err != nil || st.Size == 0 {
		return nil //nolint:nilerr // there is none
	}
	return fmt.Errorf("%d bytes of changes that are not in the database yet are not read: a program that had it open was killed", st.Size)
}

func (s *scan) addRPM(name string, p rpmdb.Package) error {
	version, epoch := p.Version, ""
	if p.Release != "" {
		version += "-" + p.Release
	}
	full := version
	if p.Epoch != nil {
		epoch = fmt.Sprint(*p.Epoch)
		full = epoch + ":" + version
	}
	return s.add(name, Package{
		Kind: "rpm", Name: p.Name, Version: full, License: p.License, Supplier: p.Vendor, Homepage: p.URL,
		PURL: purl("rpm", s.distro.rpmVendor(), p.Name, version, "arch", p.Arch, "distro", s.distro.text(), "epoch", epoch, "upstream", p.Source),
	})
}

// rpmVendor is the namespace that readers of package URLs look for: who makes the packages, where os-release has another word.
func (d distribution) rpmVendor() string {
	switch {
	case d.id == "rhel":
		return "redhat"
	case strings.HasPrefix(d.id, "opensuse"):
		return "opensuse"
	case d.id == "sles" || strings.HasPrefix(d.id, "sle-") || strings.HasPrefix(d.id, "sle_"):
		return "suse"
	}
	return d.vendor("")
}

// isRPM says that a file is the database of rpm in one of its places: rpmdb.sqlite, Packages.db (ndb) or Packages (Berkeley DB).
func isRPM(full string) bool {
	dir := path.Dir(full)
	if dir != "/var/lib/rpm" && dir != "/lib/sysimage/rpm" {
		return false
	}
	switch path.Base(full) {
	case "rpmdb.sqlite", "Packages.db", "Packages":
		return true
	}
	return false
}

// watched ends the reading of a file when the scan is cancelled.
type watched struct {
	s *scan
	r io.ReaderAt
}

func (w watched) ReadAt(p []byte, at int64) (int, error) {
	if err := w.s.ctx.Err(); err != nil {
		return 0, err
	}
	return w.r.ReadAt(p, at)
}
