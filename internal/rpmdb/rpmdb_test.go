package rpmdb

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// field is a field of a header as a test writes it.
type field struct {
	tag, kind uint32
	data      string
}

func texts(name, version string) []field {
	return []field{
		{tagName, typeString, name + "\x00"}, {tagVersion, typeString, version + "\x00"}, {tagRelease, typeString, "1\x00"}, {tagLicense, typeString, "MIT\x00"},
		{tagArch, typeString, "noarch\x00"}, {tagSource, typeString, name + "-" + version + "-1.src.rpm\x00"},
	}
}

// header is what a database has of a package.
func header(fields ...field) []byte {
	var index, data []byte
	be := binary.BigEndian
	for _, f := range fields {
		index = be.AppendUint32(index, f.tag)
		index = be.AppendUint32(index, f.kind)
		index = be.AppendUint32(index, uint32(len(data)))
		index = be.AppendUint32(index, 1)
		data = append(data, f.data...)
	}
	out := be.AppendUint32(be.AppendUint32(nil, uint32(len(fields))), uint32(len(data)))
	return append(append(out, index...), data...)
}

// ndb is an ndb file with these packages; every other slot is empty.
func ndb(headers ...[]byte) []byte {
	le := binary.LittleEndian
	file := slices.Repeat([]byte{0}, ndbPage)
	copy(file, ndbMagic)
	le.PutUint32(file[12:], 1)
	for at := ndbHeader; at < ndbPage; at += ndbBlock {
		copy(file[at:], ndbSlot)
	}
	for i, h := range headers {
		slot := file[ndbHeader+ndbBlock*2*i:] // every other slot
		le.PutUint32(slot[4:], uint32(i+1))
		le.PutUint32(slot[8:], uint32(len(file)/ndbBlock))
		file = append(file, ndbBlob...)
		file = le.AppendUint32(file, uint32(i+1))
		file = le.AppendUint32(file, 7)
		file = le.AppendUint32(file, uint32(len(h)))
		file = append(file, h...)
		file = append(file, make([]byte, 12+(ndbBlock-(len(h)+12)%ndbBlock)%ndbBlock)...) // the tail: a sum, the length, "BlbE"
	}
	return file
}

func read(data []byte) ([]Package, error) {
	var list []Package
	err := Read(bytes.NewReader(data), int64(len(data)), func(p Package) error {
		list = append(list, p)
		return nil
	})
	return list, err
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// command runs a program of a package that make test installs.
func command(t testing.TB, stdin string, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// berkeley is a database of Berkeley DB's own tools.
func berkeley(t testing.TB, page int, headers ...[]byte) []byte {
	t.Helper()
	var dump strings.Builder
	fmt.Fprintf(&dump, "VERSION=3\nformat=bytevalue\ntype=hash\ndb_pagesize=%d\nHEADER=END\n 00000000\n 09000000\n", page)
	for i, h := range headers {
		fmt.Fprintf(&dump, " %s\n %s\n", hex.EncodeToString(binary.LittleEndian.AppendUint32(nil, uint32(i+1))), hex.EncodeToString(h))
	}
	dump.WriteString("DATA=END\n")
	name := filepath.Join(t.TempDir(), "Packages")
	command(t, dump.String(), "db5.3_load", name)
	data, err := os.ReadFile(name)
	must(t, err)
	return data
}

// installed is the database that rpm makes of packages: NAME and as many files each as it says.
func installed(t testing.TB, packages int) []byte {
	t.Helper()
	dir := t.TempDir()
	var spec strings.Builder
	spec.WriteString("Name: base\nVersion: 1.0\nRelease: 2\nEpoch: 0\nSummary: the first\nLicense: MIT\nURL: https://example.com/base\nVendor: Example Inc.\nBuildArch: noarch\n%description\nIt is.\n%files\n")
	for i := range packages {
		fmt.Fprintf(&spec, "%%package -n lib%03d\nVersion: %d.1\nSummary: one of many\n%%description -n lib%03d\n%s\n%%files -n lib%03d\n", i, i, i, strings.Repeat("word ", i*40), i)
	}
	must(t, os.WriteFile(filepath.Join(dir, "x.spec"), []byte(spec.String()), 0o644))
	command(t, "", "rpmbuild", "-bb", "--quiet", "--define", "_topdir "+dir+"/top", filepath.Join(dir, "x.spec"))
	files, err := filepath.Glob(filepath.Join(dir, "top/RPMS/noarch/*.rpm"))
	must(t, err)
	args := []string{"--root", dir, "--define", "_dbpath /db", "--define", "_db_backend sqlite", "--justdb", "--nodeps", "--noscripts", "-i"}
	command(t, "", "rpm", append(args, files...)...)
	data, err := os.ReadFile(filepath.Join(dir, "db/rpmdb.sqlite"))
	must(t, err)
	return data
}

func TestM4_WhatRpmWritesIsRead(t *testing.T) {
	t.Parallel()
	const many = 70 // more than one page of the table points to, some longer than a page
	got, err := read(installed(t, many))
	must(t, err)
	if len(got) != many+1 {
		t.Fatalf("%d packages", len(got))
	}
	slices.SortFunc(got, func(a, b Package) int { return strings.Compare(a.Name, b.Name) })
	zero := uint32(0)
	want := Package{
		Name: "base", Version: "1.0", Release: "2", Arch: "noarch", Epoch: &zero, License: "MIT", Vendor: "Example Inc.", URL: "https://example.com/base",
		Source: "base-1.0-2.src.rpm",
	}
	if diff := cmp.Diff(want, got[0]); diff != "" {
		t.Error(diff)
	}
	if last := got[many]; last.Name != "lib069" || last.Version != "69.1" {
		t.Errorf("the last is %+v", last)
	}
}

func TestM4_BerkeleyDBAndNDBAreRead(t *testing.T) {
	t.Parallel()
	var headers [][]byte
	var want []string
	for i := range 60 {
		name := fmt.Sprintf("p%02d", i)
		headers = append(headers, header(append(texts(name, "2"), field{tagVendor, typeI18N, strings.Repeat("v", i*100) + "\x00"})...))
		want = append(want, name)
	}
	for form, data := range map[string][]byte{"pages of 4096 bytes": berkeley(t, 4096, headers...), "pages of 512 bytes": berkeley(t, 512, headers...), "ndb": ndb(headers...)} {
		t.Run(form, func(t *testing.T) {
			t.Parallel()
			list, err := read(data)
			must(t, err)
			var got []string
			for _, p := range list {
				if p.Version != "2" || p.Release != "1" || p.Epoch != nil {
					t.Errorf("package %+v", p)
				}
				got = append(got, p.Name)
			}
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestM4_ADamagedPackageIsToldAfterTheOthers(t *testing.T) {
	t.Parallel()
	got, err := read(ndb(header(texts("a", "1")...), []byte("\x00\x00\x00\x01\xff\xff\xff\xff"), header(texts("c", "1")...)))
	if !errors.Is(err, ErrForm) || len(got) != 2 || got[1].Name != "c" {
		t.Errorf("packages %+v, error %v", got, err)
	}
}

func TestHostileH16_HeadersThatClaimMoreThanTheyHave(t *testing.T) {
	t.Parallel()
	good := header(texts("a", "1")...)
	far := slices.Clone(good)
	binary.BigEndian.PutUint32(far[8+8:], 1<<31)
	for name, h := range map[string][]byte{
		"nothing":                     nil,
		"no fields":                   make([]byte, 8),
		"more fields than rpm takes":  append([]byte{0, 1, 0, 0, 0, 0, 0, 0}, make([]byte, 16<<16)...),
		"more data than is there":     good[:len(good)-1],
		"a field outside of the data": far,
		"a text without an end":       header(field{tagName, typeString, "name"}),
		"a text of another type":      header(field{tagName, typeInt32, "\x00\x00\x00\x01"}),
		"an epoch cut short":          header(append(texts("a", "1"), field{tagEpoch, typeInt32, "\x00"})...),
		"no name":                     header(field{tagVersion, typeString, "1\x00"}),
	} {
		if p, err := parseHeader(h); !errors.Is(err, ErrForm) {
			t.Errorf("%s: package %+v, error %v", name, p, err)
		}
	}
}

// Each change makes a database lead its reader in circles, out of the file, or to terabytes.
func TestHostileH16_DatabasesThatLie(t *testing.T) {
	t.Parallel()
	long := header(append(texts("a", "1"), field{tagVendor, typeString, strings.Repeat("v", 3_000) + "\x00"})...)
	bdb, lite, nd := berkeley(t, 512, long, long), installed(t, 12), ndb(long, long)
	interior := bytes.Index(lite, []byte("SQLite")) // pages: that of the table Packages is the second
	if interior != 0 || lite[4096] != sqliteInterior {
		t.Fatalf("the table begins with a page of type %d", lite[4096])
	}
	change := func(data []byte, at int, with ...byte) []byte {
		out := slices.Clone(data)
		copy(out[at:], with)
		return out
	}
	for name, data := range map[string][]byte{
		"SQLite: a page that is its own child":      change(lite, 4096+8, 0, 0, 0, 2),
		"SQLite: a child that is not there":         change(lite, 4096+8, 0x7f, 0xff, 0xff, 0xff),
		"SQLite: more cells than a page has":        change(lite, 4096+3, 0xff, 0xff),
		"SQLite: a cell at the end of a page":       change(lite, 4096+12, 0x0f, 0xff),
		"SQLite: pages of 3 bytes":                  change(lite, 16, 0, 3),
		"SQLite: all of a page reserved":            change(change(lite, 16, 2, 0), 20, 0xff),
		"SQLite: UTF-16":                            change(lite, 56, 0, 0, 0, 2),
		"SQLite: cut short":                         lite[:8192],
		"SQLite: no table":                          change(lite, 100+3, 0, 0),
		"Berkeley DB: pages of 2 GiB":               change(bdb, 20, 0, 0, 0, 0x80),
		"Berkeley DB: encrypted":                    change(bdb, 24, 1),
		"Berkeley DB: more items than a page has":   change(bdb, 512+20, 0xfe, 0xff),
		"Berkeley DB: items that are not in a page": change(bdb, 512+26, 0xff, 0xff),
		"ndb: of another version":                   change(nd, 4, 1),
		"ndb: more slots than the file has":         change(nd, 12, 0, 1),
		"ndb: slots without end":                    change(nd, 12, 0xff, 0xff, 0xff, 0xff),
		"ndb: no slot":                              change(nd, ndbHeader, 'X'),
		"ndb: a blob outside of the file":           change(nd, ndbHeader+8, 0xff, 0xff, 0xff, 0x7f),
		"ndb: another package's blob":               change(nd, ndbHeader+4, 2),
		"ndb: a blob of 4 GiB":                      change(nd, ndbPage+12, 0xff, 0xff, 0xff, 0xff),
		"ndb: a blob longer than the file":          change(nd, ndbPage+12, 0, 0, 1, 0),
		"another form":                              []byte(strings.Repeat("x", 100)),
		"empty":                                     nil,
	} {
		if _, err := read(data); !errors.Is(err, ErrForm) && !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	for at := range bdb[512:] { // every chain and item of a small file
		_, _ = read(change(bdb, 512+at, bdb[512+at]^0xff)) // it must end
	}
	if err := Read(bytes.NewReader(nil), maxFile+1, nil); !errors.Is(err, ErrTooLarge) {
		t.Errorf("a file that is too large: %v", err)
	}
}

// The same blob for every slot would be read for each of them.
func TestHostileH16_BlobsThatOverlap(t *testing.T) {
	t.Parallel()
	data := ndb(header(append(texts("a", "1"), field{tagVendor, typeString, strings.Repeat("v", 20_000) + "\x00"})...))
	for at := ndbHeader + ndbBlock; at < ndbPage; at += ndbBlock {
		copy(data[at:], data[ndbHeader:ndbHeader+ndbBlock])
	}
	if got, err := read(data); !errors.Is(err, ErrForm) || len(got) > 2 {
		t.Errorf("%d packages, error %v", len(got), err)
	}
}

func FuzzRead(f *testing.F) {
	h := header(append(texts("a", "1"), field{tagEpoch, typeInt32, "\x00\x00\x00\x01"}, field{tagVendor, typeString, strings.Repeat("v", 700) + "\x00"})...)
	f.Add(ndb(h, h))
	f.Add(berkeley(f, 512, h, h))
	f.Add(tiny(h))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := read(data)
		if err == nil {
			for _, p := range list {
				if p.Name == "" {
					t.Errorf("package %+v has no name", p)
				}
			}
		}
		if len(list) > len(data) {
			t.Errorf("%d packages in %d bytes", len(list), len(data))
		}
	})
}

// tiny is a database of SQLite with pages of 512 bytes: a schema, and one row with pages that it spills into.
func tiny(blob []byte) []byte {
	file := slices.Repeat([]byte{0}, 1024)
	copy(file, sqliteMagic)
	file[16], file[56+3] = 2, 1
	row := append([]byte{6, 23, 29, 29, 1, 13}, "tablePackagesPackages\x02"...)
	putLeaf(file[:512], sqliteHeader, append([]byte{byte(len(row)), 1}, row...))
	db := &sqlite{usable: 512}
	kind := uint64(12 + 2*len(blob))
	row = append([]byte{4, 0, byte(kind>>7) | 0x80, byte(kind & 0x7f)}, blob...)
	local := int(db.local(int64(len(row))))
	cell := append([]byte{byte(len(row)>>7) | 0x80, byte(len(row) & 0x7f), 1}, row[:local]...)
	rest := row[local:]
	if len(rest) > 0 {
		cell = append(cell, 0, 0, 0, 3)
	}
	putLeaf(file[512:], 0, cell)
	for number := byte(4); len(rest) > 0; number++ {
		page := make([]byte, 512)
		n := copy(page[4:], rest)
		if rest = rest[n:]; len(rest) > 0 {
			page[3] = number
		}
		file = append(file, page...)
	}
	return file
}

// putLeaf makes a page of a table with one row.
func putLeaf(page []byte, start int, cell []byte) {
	at := len(page) - len(cell)
	page[start], page[start+4] = sqliteLeaf, 1
	page[start+8], page[start+9] = byte(at>>8), byte(at)
	copy(page[at:], cell)
}

func TestM4_RowsThatSpillIntoOtherPages(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1, 300, 340, 400, 477, 900, 3000} {
		h := header(append(texts("a", "1"), field{tagVendor, typeString, strings.Repeat("v", size) + "\x00"})...)
		got, err := read(tiny(h))
		must(t, err)
		if len(got) != 1 || len(got[0].Vendor) != size {
			t.Errorf("%d bytes: %+v", size, got)
		}
	}
}
