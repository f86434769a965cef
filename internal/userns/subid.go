package userns

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Range is a range of ids that belong to a user.
type Range struct{ First, Count uint32 }

// Ranges reads what a file like /etc/subuid gives a user, by number or by name; an empty name is nobody's. A line that makes no sense
// is passed over, as the programs that put the file to use do (subuid(5)); so is a range that has ids of an earlier one, which the
// kernel would refuse: some tools write a line for the name and one for the number.
func Ranges(path string, uid int, name string) ([]Range, error) {
	var list []Range
	err := eachLine(path, func(owner string, r Range) {
		if (owner == strconv.Itoa(uid) || owner == name) && owner != "" && len(list) < maxRanges && !slices.ContainsFunc(list, r.overlaps) {
			list = append(list, r)
		}
	})
	return list, err
}

func (r Range) overlaps(other Range) bool {
	return uint64(r.First) < uint64(other.First)+uint64(other.Count) && uint64(other.First) < uint64(r.First)+uint64(r.Count)
}

// Sum counts the ids of ranges.
func Sum(list []Range) uint64 {
	var sum uint64
	for _, r := range list {
		sum += uint64(r.Count)
	}
	return sum
}

// unused is where a range could begin that no file gives to anybody.
func unused(paths ...string) uint64 {
	const first, step = 100_000, 1 << 16 // as useradd(8) has them by default
	next := uint64(first)
	for _, path := range paths {
		_ = eachLine(path, func(_ string, r Range) {
			if end := uint64(r.First) + uint64(r.Count); r.First >= first && end > next {
				next = first + (end-first+step-1)/step*step
			}
		})
	}
	return next
}

func eachLine(path string, line func(owner string, r Range)) error {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return err
	}
	if len(data) > maxFile {
		return fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	for text := range strings.Lines(string(data)) {
		field := strings.Split(strings.TrimSpace(text), ":")
		if len(field) != 3 {
			continue
		}
		first, err1 := strconv.ParseUint(field[1], 10, 32)
		count, err2 := strconv.ParseUint(field[2], 10, 32)
		if err1 == nil && err2 == nil && count > 0 && first+count <= 1<<32-1 {
			line(field[0], Range{uint32(first), uint32(count)})
		}
	}
	return nil
}
