package treetest

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
)

// Holding are the files below directories, or such files themselves, that hold a secret: as it is, in base64, hexadecimal or the form of
// URLs, in the file or in a gzip stream that begins anywhere in it. Names and targets of links count, too.
func Holding(secret string, places ...string) ([]string, error) {
	needles := forms(secret)
	var list []string
	for _, place := range places {
		err := filepath.WalkDir(place, func(path string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // removed meanwhile
			}
			if err != nil {
				return err
			}
			var data []byte
			switch {
			case d.Type().IsRegular():
				data, err = begin(path)
			case d.Type()&fs.ModeSymlink != 0:
				var target string
				target, err = os.Readlink(path)
				data = []byte(target)
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err == nil && (Holds(data, secret) || containsAny([]byte(d.Name()), needles)) {
				list = append(list, path)
			}
			return err
		})
		if err != nil {
			return list, err
		}
	}
	return list, nil
}

// begin reads a file, of one that is larger than what tests write its beginning.
func begin(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 256<<20))
}

// Holds says whether data hold a secret in one of its forms, or in a gzip stream.
func Holds(data []byte, secret string) bool {
	needles := forms(secret)
	if containsAny(data, needles) {
		return true
	}
	magic := []byte{0x1f, 0x8b, 8}
	for at := 0; ; at++ {
		next := bytes.Index(data[at:], magic)
		if next < 0 {
			return false
		}
		at += next
		r, err := gzip.NewReader(bytes.NewReader(data[at:]))
		if err != nil {
			continue
		}
		plain, _ := io.ReadAll(r) // what could be read before an error counts
		if containsAny(plain, needles) {
			return true
		}
	}
}

// forms are the ways to write a secret. A text in base64 has three, by where it begins; what depends on its neighbours is left out.
func forms(secret string) []string {
	list := []string{secret, hex.EncodeToString([]byte(secret)), strings.ToUpper(hex.EncodeToString([]byte(secret))), url.QueryEscape(secret), url.PathEscape(secret)}
	for shift := range 3 {
		text := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", shift) + secret))
		from, to := (shift*8+5)/6, (shift+len(secret))*8/6
		list = append(list, text[from:to], strings.NewReplacer("+", "-", "/", "_").Replace(text[from:to]))
	}
	return list
}

func containsAny(data []byte, needles []string) bool {
	for _, n := range needles {
		if bytes.Contains(data, []byte(n)) {
			return true
		}
	}
	return false
}
