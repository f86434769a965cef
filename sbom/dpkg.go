package sbom

import (
	"os"
	"strings"
)

// dpkg reads the list of packages of Debian and what descends from it (dpkg(1), deb-control(5)).
func (s *scan) dpkg(name string, f *os.File, size int64) error {
	fields := []string{"Package", "Status", "Version", "Architecture", "Source", "Maintainer", "Homepage"}
	return s.stanzas(f, size, fields, func(got map[string]string) error {
		// "want flag status": the files of a package are there in these two states and while it is being configured.
		state := strings.Fields(got["Status"])
		if len(state) != 3 || state[2] == "not-installed" || state[2] == "config-files" {
			return nil
		}
		return s.addDeb(name, got)
	})
}

// dpkgOne reads a file of status.d, which images without dpkg have for each package. It has no status.
func (s *scan) dpkgOne(name string, f *os.File, size int64) error {
	fields := []string{"Package", "Version", "Architecture", "Source", "Maintainer", "Homepage"}
	return s.stanzas(f, size, fields, func(got map[string]string) error { return s.addDeb(name, got) })
}

func (s *scan) addDeb(name string, got map[string]string) error {
	source := got["Source"] // NAME or NAME (VERSION)
	if base, version, ok := strings.Cut(source, " ("); ok {
		source = base + "@" + strings.TrimSuffix(version, ")")
	}
	if source == got["Package"] {
		source = ""
	}
	return s.add(name, Package{
		Kind: "deb", Name: got["Package"], Version: got["Version"], Supplier: got["Maintainer"], Homepage: got["Homepage"],
		PURL: purl("deb", s.distro.vendor("debian"), got["Package"], got["Version"], "arch", got["Architecture"], "distro", s.distro.text(), "upstream", source),
	})
}

// apk reads Alpine's list of packages: a letter a field.
func (s *scan) apk(name string, f *os.File, size int64) error {
	return s.stanzas(f, size, []string{"P", "V", "A", "L", "m", "U", "o"}, func(got map[string]string) error {
		origin := got["o"]
		if origin == got["P"] {
			origin = ""
		}
		return s.add(name, Package{
			Kind: "apk", Name: got["P"], Version: got["V"], License: got["L"], Supplier: got["m"], Homepage: got["U"],
			PURL: purl("apk", s.distro.vendor("alpine"), got["P"], got["V"], "arch", got["A"], "distro", s.distro.text(), "upstream", origin),
		})
	})
}
