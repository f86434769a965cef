package layer

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// FuzzUnpack: whatever an archive holds, nothing panics, nothing outside the
// root changes, and the bounds hold.
func FuzzUnpack(f *testing.F) {
	for _, seed := range []string{
		"file ../../x X", "link a /etc\nfile a/passwd X", "dir d\nfile d/.wh..wh..opq\nfile .wh.d", "hard x ../../etc/passwd",
		"link . /etc", "char c 0 0", "file a A\nhard b a\nlink c b\ndir c\nfile c/x X", "fifo p mode=07777 uid=5", "file f F x:user.a=b",
	} {
		f.Add(tarOf(f, seed), true)
		f.Add(gz(f, tarOf(f, seed)), false)
	}
	f.Add(xzs(f, tarOf(f, "file x X")), false)
	f.Add(zst(f, tarOf(f, "file x X")), true)
	f.Fuzz(func(t *testing.T, data []byte, over bool) {
		cage := newCage(t)
		if over { // a lower tree
			must(t, cage.unpack(t, tarOf(t, "dir d\nfile d/low L\nlink l /d\nlink out ../../etc\nfile a A")))
		}
		limits := Limits{Entries: 100, Unpacked: 1 << 20, Path: 1000}
		_, err := Unpack(t.Context(), bytes.NewReader(data), openRoot(t, cage.root), UnpackOptions{Limits: limits})
		cage.check(t)
		noBug(t, err)
		err = Extract(t.Context(), bytes.NewReader(data), openRoot(t, cage.root), "/d", ExtractOptions{Limits: limits})
		cage.check(t)
		noBug(t, err)
		_, err = IsArchive(bytes.NewReader(data))
		noBug(t, err)
	})
}

func noBug(t *testing.T, err error) {
	t.Helper()
	if err != nil && strings.Contains(err.Error(), "internal error") {
		t.Fatal(err)
	}
}

// FuzzPackUnpack: what an archive unpacks to packs to an archive that unpacks to
// the same, and packing that gives the same bytes.
func FuzzPackUnpack(f *testing.F) {
	f.Add(tarOf(f, "dir d mode=01777\nfile d/x X mode=04755\nhard h d/x\nlink l h\nfifo p"))
	f.Add(tarOf(f, "file "+strings.Repeat("long/", 60)+"x X uid=3000000 mtime=-5"))
	f.Fuzz(func(t *testing.T, data []byte) {
		limits := Limits{Entries: 100, Unpacked: 1 << 20, Path: 1000}
		first := newCage(t)
		_, err := Unpack(t.Context(), bytes.NewReader(data), openRoot(t, first.root), UnpackOptions{Limits: limits})
		if err != nil {
			t.Skip("not a layer")
		}
		var one, two bytes.Buffer
		p, err := Pack(t.Context(), &one, openRoot(t, first.root), nil, PackOptions{Compression: Zstd})
		if errors.Is(err, ErrWhiteoutName) {
			t.Fatal("unpacking made a whiteout name")
		}
		must(t, err)
		second := newCage(t)
		_, err = Unpack(t.Context(), &one, openRoot(t, second.root), UnpackOptions{})
		must(t, err)
		q, err := Pack(t.Context(), &two, openRoot(t, second.root), nil, PackOptions{Compression: Zstd})
		must(t, err)
		if p != q {
			t.Errorf("%+v\n%+v\n%s\n%s", p, q, dumpTree(t, first.root), dumpTree(t, second.root))
		}
	})
}
