package rpmdb

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Tags and types of fields (rpm's documentation, "RPM Tags" and "Package format").
const (
	tagName, tagVersion, tagRelease, tagEpoch = 1000, 1001, 1002, 1003
	tagVendor, tagLicense, tagURL             = 1011, 1014, 1020
	tagArch, tagSource                        = 1022, 1044

	typeInt32, typeString, typeI18N = 4, 6, 9
)

// entrySize is what the index of a header has for each field: tag, type, offset and count.
const entrySize = 16

// parseHeader reads the header of a package as databases have it: without the magic and the padding that files of packages have.
// It is two lengths, an index, and the data that the index points into, all of it big-endian.
func parseHeader(h []byte) (Package, error) {
	var p Package
	if len(h) < 8 {
		return p, fmt.Errorf("%w: a package has %d bytes", ErrForm, len(h))
	}
	tags, size := binary.BigEndian.Uint32(h), binary.BigEndian.Uint32(h[4:])
	if tags == 0 || tags > maxTags || size > maxHeader || 8+int64(tags)*entrySize+int64(size) > int64(len(h)) {
		return p, fmt.Errorf("%w: a package of %d bytes claims %d fields and %d bytes", ErrForm, len(h), tags, size)
	}
	index, data := h[8:8+tags*entrySize], h[8+tags*entrySize:][:size]
	fields := map[uint32]*string{
		tagName: &p.Name, tagVersion: &p.Version, tagRelease: &p.Release, tagArch: &p.Arch, tagVendor: &p.Vendor, tagLicense: &p.License,
		tagURL: &p.URL, tagSource: &p.Source,
	}
	for ; len(index) > 0; index = index[entrySize:] {
		tag, kind, offset := binary.BigEndian.Uint32(index), binary.BigEndian.Uint32(index[4:]), binary.BigEndian.Uint32(index[8:])
		field := fields[tag]
		if field == nil && tag != tagEpoch {
			continue
		}
		if offset > size { // also a negative one
			return p, fmt.Errorf("%w: field %d of a package is not in it", ErrForm, tag)
		}
		switch rest := data[offset:]; {
		case field != nil && (kind == typeString || kind == typeI18N): // the first text of several is that of no language
			text, _, ended := bytes.Cut(rest[:min(len(rest), maxText)], []byte{0})
			if !ended {
				return p, fmt.Errorf("%w: field %d of a package does not end", ErrForm, tag)
			}
			*field = string(text)
		case field == nil && kind == typeInt32 && len(rest) >= 4:
			epoch := binary.BigEndian.Uint32(rest)
			p.Epoch = &epoch
		default:
			return p, fmt.Errorf("%w: field %d of a package has type %d", ErrForm, tag, kind)
		}
	}
	if p.Name == "" {
		return p, fmt.Errorf("%w: a package has no name", ErrForm)
	}
	return p, nil
}
