package sbom

import (
	"archive/zip"
	"bytes"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// javaArchive finds what Maven says in an archive of the packages that it was made of: META-INF/maven/GROUP/NAME/pom.properties.
func (s *scan) javaArchive(name string, f *os.File, size int64) error {
	z, err := zip.NewReader(&bounded{ctx: s.ctx, r: f, left: maxListFile}, size)
	if err != nil {
		return fmt.Errorf("%w: %w", errFormat, err)
	}
	if len(z.File) > maxArchiveFiles {
		return fmt.Errorf("%w: %d files", errTooLarge, len(z.File))
	}
	for _, e := range z.File {
		if ok, _ := path.Match("META-INF/maven/*/*/pom.properties", e.Name); !ok { // the pattern is right
			continue
		}
		if err := s.pomProperties(name, e); err != nil {
			return err
		}
	}
	return nil
}

func (s *scan) pomProperties(name string, e *zip.File) error {
	r, err := e.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxManifest))
	if err != nil {
		return err
	}
	got := map[string]string{}
	for line := range bytes.Lines(data) {
		key, value, _ := strings.Cut(strings.TrimSpace(string(line)), "=")
		got[strings.TrimSpace(key)] = strings.TrimSpace(value)
	}
	return s.addMaven(name, got["groupId"], got["artifactId"], got["version"])
}
