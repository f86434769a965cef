package owners

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The record of a directory has one part for each owner, which begin with the owner and end in a zero byte: "1000:1000/name/name".
// So hundreds of links of one owner fit where a file system gives attributes one block.

// OfLink is the owner of a link or special file.
func OfLink(dir int, name string) (Owner, error) {
	text, err := linksOf(dir)
	if err != nil {
		return Owner{}, err
	}
	for part := range strings.SplitSeq(text, "\x00") {
		owner, names, _ := strings.Cut(part, "/")
		for one := range strings.SplitSeq(names, "/") {
			if one == name {
				return parse(owner)
			}
		}
	}
	return Owner{}, nil
}

func linksOf(dir int) (string, error) {
	buf := make([]byte, 4<<10)
	n, err := unix.Fgetxattr(dir, linksAttr, buf)
	if err == unix.ERANGE { //nolint:errorlint // raw errno
		buf = make([]byte, maxRecord)
		n, err = unix.Fgetxattr(dir, linksAttr, buf)
	}
	if none(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// RecordLink records the owner of a link or special file. It is ENOSPC where the directory has too many.
func RecordLink(dir int, name string, o Owner) error {
	old, err := linksOf(dir)
	if err != nil {
		return err
	}
	text := withLink(old, name, o)
	switch text {
	case old:
		return nil
	case "":
		return unix.Fremovexattr(dir, linksAttr)
	}
	return unix.Fsetxattr(dir, linksAttr, []byte(text), 0)
}

// withLink is the record with one name moved to its owner's part. Root needs no record.
func withLink(text, name string, o Owner) string {
	var parts []string
	added := o == Owner{}
	for part := range strings.SplitSeq(text, "\x00") {
		if part == "" {
			continue
		}
		list := strings.Split(part, "/")
		list = append(list[:1], slices.DeleteFunc(list[1:], func(one string) bool { return one == name })...)
		if !added && list[0] == o.String() {
			list, added = append(list, name), true
		}
		if len(list) > 1 {
			parts = append(parts, strings.Join(list, "/"))
		}
	}
	if !added {
		parts = append(parts, o.String()+"/"+name)
	}
	return strings.Join(parts, "\x00")
}
