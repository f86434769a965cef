package sbom

import (
	"os"
	"strings"

	"gobuild/internal/rescue"
)

// distribution is as much of os-release as package URLs name.
type distribution struct{ id, version string }

func (d distribution) text() string {
	if d.id == "" || d.version == "" {
		return d.id
	}
	return d.id + "-" + d.version
}

// vendor is the namespace of packages of a distribution.
func (d distribution) vendor(otherwise string) string {
	if d.id == "" {
		return otherwise
	}
	return d.id
}

// distribution reads os-release. A tree without it is one without a distribution.
func (s *scan) distribution() {
	for _, name := range []string{"/etc/os-release", "/usr/lib/os-release"} {
		f, st, err := s.root.OpenRegular(name)
		if err != nil {
			continue
		}
		err = rescue.Do(func() error { return s.readRelease(f, st.Size) })
		_ = f.Close() // read only
		if err != nil {
			s.note(name, err)
		}
		if s.distro.id != "" {
			return
		}
	}
}

func (s *scan) readRelease(f *os.File, size int64) error {
	return s.lines(f, size, maxManifest, func(line string) error {
		name, value, _ := strings.Cut(line, "=")
		value = plain(strings.Trim(strings.TrimSpace(value), `"'`))
		if len(value) > 100 {
			return nil
		}
		switch name {
		case "ID":
			s.distro.id = strings.ToLower(value)
		case "VERSION_ID":
			s.distro.version = value
		}
		return nil
	})
}
