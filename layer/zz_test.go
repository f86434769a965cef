package layer

import (
	"bytes"
	"fmt"
	"math/rand"
	"testing"
	"time"
)

func TestZZ(t *testing.T) {
	rng := rand.New(rand.NewSource(time.Now().UnixNano()))
	seeds := [][]byte{}
	for _, seed := range []string{
		"file ../../x X", "link a /etc\nfile a/passwd X", "dir d\nfile d/.wh..wh..opq\nfile .wh.d", "hard x ../../etc/passwd",
		"link . /etc", "char c 0 0", "file a A\nhard b a\nlink c b\ndir c\nfile c/x X", "fifo p mode=07777 uid=5", "file f F x:user.a=b",
	} {
		seeds = append(seeds, tarOf(t, seed), gz(t, tarOf(t, seed)), xzs(t, tarOf(t, seed)), zst(t, tarOf(t, seed)))
	}
	end := time.Now().Add(20 * time.Second)
	n := 0
	for time.Now().Before(end) {
		data := bytes.Clone(seeds[rng.Intn(len(seeds))])
		for range 1 + rng.Intn(4) {
			data[rng.Intn(len(data))] = byte(rng.Intn(256))
		}
		start := time.Now()
		cage := newCage(t)
		limits := Limits{Entries: 100, Unpacked: 1 << 20, Path: 1000}
		_, err := Unpack(t.Context(), bytes.NewReader(data), openRoot(t, cage.root), UnpackOptions{Limits: limits})
		noBug(t, err)
		err = Extract(t.Context(), bytes.NewReader(data), openRoot(t, cage.root), "/d", ExtractOptions{Limits: limits})
		noBug(t, err)
		cage.check(t)
		if d := time.Since(start); d > time.Second {
			fmt.Printf("slow %v %q\n", d, data[:100])
		}
		n++
	}
	fmt.Println(n)
}
