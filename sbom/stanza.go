package sbom

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// lines calls each with the lines of a list that may be large. A line over the bound is an error.
func (s *scan) lines(f *os.File, size, limit int64, each func(line string) error) error {
	if size > limit {
		return fmt.Errorf("%w: %d bytes, the bound is %d", errTooLarge, size, limit)
	}
	sc := bufio.NewScanner(io.LimitReader(f, limit))
	sc.Buffer(make([]byte, 64<<10), maxLine)
	for n := 0; sc.Scan(); n++ {
		if err := each(sc.Text()); err != nil {
			return err
		}
		if n%4096 == 0 && s.ctx.Err() != nil {
			return s.ctx.Err()
		}
	}
	if errors.Is(sc.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("%w: a line has more than %d bytes", errTooLarge, maxLine)
	}
	return sc.Err()
}

// stanzas calls each with the fields of every paragraph. Only the fields asked for are kept, each with its first line alone.
func (s *scan) stanzas(f *os.File, size int64, fields []string, each func(map[string]string) error) error {
	got := map[string]string{}
	flush := func() error {
		if len(got) == 0 {
			return nil
		}
		err := each(got)
		clear(got)
		return err
	}
	err := s.lines(f, size, maxListFile, func(line string) error {
		if strings.TrimSpace(line) == "" {
			return flush()
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || line[0] == ' ' || line[0] == '\t' {
			return nil // more of the field before
		}
		for _, want := range fields {
			if _, twice := got[want]; !twice && name == want {
				got[want] = strings.TrimSpace(value)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return flush()
}

// header reads the fields at the top of a description such as Python's METADATA, up to the first empty line.
func header(data []byte, fields ...string) map[string]string {
	got := map[string]string{}
	for line := range bytes.Lines(data) {
		text := strings.TrimRight(string(line), "\r\n")
		if text == "" {
			break
		}
		name, value, ok := strings.Cut(text, ":")
		if !ok || text[0] == ' ' || text[0] == '\t' {
			continue
		}
		for _, want := range fields {
			if _, twice := got[want]; !twice && strings.EqualFold(name, want) {
				got[want] = strings.TrimSpace(value)
			}
		}
	}
	return got
}
