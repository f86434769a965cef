package builder

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"gobuild/internal/rootfs"
	"gobuild/sbom"
)

// generatedBill is one file that a generator left.
type generatedBill struct {
	Name      string          `json:"name"`
	Predicate json.RawMessage `json:"predicate"`
}

const (
	// maxGenerated bounds the bills of one generator: a few for each tree that it was shown.
	maxGenerated = 256
	// maxGeneratedBytes bounds them together: they are in memory while the image is made.
	maxGeneratedBytes = 2 * sbom.MaxDocument
	// maxBillName bounds the name of a bill, which becomes that of a file beside an output of files.
	maxBillName = 200
)

// readBills takes what a generator left in its folder. The files are a stranger's: nothing but regular files counts, each is one in-toto
// statement of an SPDX document, and whom it says it is about is not taken over: it was shown this image alone.
func readBills(root *rootfs.Root) ([]generatedBill, error) {
	d, err := root.Open("/", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	entries, err := d.ReadDir(maxGenerated + 1)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, fmt.Errorf("it left nothing in %s ($BUILDKIT_SCAN_DESTINATION)", scanDestination)
	}
	if len(entries) > maxGenerated {
		return nil, fmt.Errorf("it left more than %d files in %s", maxGenerated, scanDestination)
	}
	left := int64(maxGeneratedBytes)
	list := make([]generatedBill, 0, len(entries))
	for _, e := range entries {
		b, size, err := readBill(root, e.Name(), left)
		if err != nil {
			return nil, fmt.Errorf("%s in %s: %w", sbomName(e.Name()), scanDestination, err)
		}
		left -= size
		list = append(list, b)
	}
	slices.SortFunc(list, func(a, b generatedBill) int { // that of the image first, as BuildKit orders them
		return cmp.Or(coreLast(a.Name)-coreLast(b.Name), strings.Compare(a.Name, b.Name))
	})
	return list, nil
}

func coreLast(name string) int {
	if base, _, _ := strings.Cut(name, "."); base == "sbom" {
		return 0
	}
	return 1
}

// sbomName is a name as messages show it.
func sbomName(name string) string { return fmt.Sprintf("%q", clip(name)) }

func readBill(root *rootfs.Root, name string, left int64) (generatedBill, int64, error) {
	if len(name) > maxBillName || strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return generatedBill{}, 0, fmt.Errorf("want a name of at most %d printable characters", maxBillName)
	}
	f, st, err := root.OpenRegular("/" + name)
	if err != nil {
		return generatedBill{}, 0, err
	}
	defer f.Close()
	limit := min(left, sbom.MaxDocument)
	if st.Size > limit {
		return generatedBill{}, 0, fmt.Errorf("it has %d bytes, the bound is %d", st.Size, limit)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return generatedBill{}, 0, err
	}
	predicate, err := billOf(data)
	return generatedBill{name, predicate}, int64(len(data)), err
}

// billOf checks a statement, and gives what it states.
func billOf(data []byte) (json.RawMessage, error) {
	var st struct {
		Type          string          `json:"_type"`
		PredicateType string          `json:"predicateType"`
		Predicate     json.RawMessage `json:"predicate"`
	}
	if !utf8.Valid(data) {
		return nil, errors.New("it is no UTF-8")
	}
	if err := json.Unmarshal(data, &st); err != nil {
		return nil, fmt.Errorf("it is no in-toto statement: %w", err)
	}
	if !strings.HasPrefix(st.Type, "https://in-toto.io/Statement/") {
		return nil, fmt.Errorf("it is no in-toto statement: its type is %q", clip(st.Type))
	}
	if st.PredicateType != spdxPredicate {
		return nil, fmt.Errorf("it states %q, want %s", clip(st.PredicateType), spdxPredicate)
	}
	if len(st.Predicate) == 0 || st.Predicate[0] != '{' {
		return nil, errors.New("what it states is no object")
	}
	return st.Predicate, nil
}
