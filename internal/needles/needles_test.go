package needles

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func found(s *Set, data []byte) []string {
	var list []string
	s.Find(data, func(name string) { list = append(list, name) })
	slices.Sort(list)
	return list
}

func TestFind(t *testing.T) {
	t.Parallel()
	s := New([]Needle{
		{"a", []byte("hunter2hunter2")}, {"b", []byte("hunter2hunter3")}, {"b", []byte("another-one")}, {"short", []byte("1234567")},
		{"blank", []byte("        ")}, {"long", bytes.Repeat([]byte("0123456789"), 1000)},
	})
	for data, want := range map[string]string{
		"": "", "hunter2": "", "hunter2hunter": "", "hunter2hunter2": "a", "xhunter2hunter2": "a", "hunter2hunter2hunter3": "a b", "another-one,hunter2hunter3": "b",
		"1234567": "", strings.Repeat(" ", 100): "", strings.Repeat("0123456789", 409): "", strings.Repeat("x", 77) + strings.Repeat("0123456789", 410): "long",
	} {
		if got := strings.Join(found(s, []byte(data)), " "); got != want {
			t.Errorf("%.40q: %s, want %s", data, got, want)
		}
	}
	if New([]Needle{{"short", []byte("1234567")}}) != nil {
		t.Error("a set without a needle is not nil")
	}
	if got := found(nil, []byte("hunter2hunter2")); got != nil {
		t.Errorf("a nil set finds %s", got)
	}
}

// A needle is found wherever it lies and however the data is cut: the same as by a search for each one.
func TestStreamFindsWhatBytesContainsFinds(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	letters := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = "abc"[rng.IntN(3)] // few letters: windows match often
		}
		return b
	}
	for range 300 {
		var list []Needle
		for i := range 6 {
			list = append(list, Needle{fmt.Sprint(i), append(letters(7+rng.IntN(8)), 'c')}) // never of one byte alone
		}
		data := letters(300)
		var want []string
		for _, n := range list {
			if bytes.Contains(data, n.Bytes) {
				want = append(want, n.Name)
			}
		}
		s := New(list)
		if got := found(s, data); !slices.Equal(got, want) {
			t.Fatalf("%q in %q: %s, want %s", list, data, got, want)
		}
		var got []string
		st := s.Stream(func(name string) { got = append(got, name) })
		for rest := data; len(rest) > 0; {
			n := min(len(rest), 1+rng.IntN(30))
			_, _ = st.Write(rest[:n])
			rest = rest[n:]
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Fatalf("in pieces %q in %q: %s, want %s", list, data, got, want)
		}
	}
}

func TestFormsAreFoundInWhatProgramsWrite(t *testing.T) {
	t.Parallel()
	const secret = "s3cr3t/+ \"value\"\x01é"
	var list []Needle
	for _, f := range Forms([]byte(secret + "\n")) {
		list = append(list, Needle{"s", f})
	}
	s := New(list)
	for _, text := range []string{
		secret, "x" + secret + "y", `{"a":"s3cr3t/+ \"value\"\u0001é"}`, "a=s3cr3t%2F%2B+%22value%22%01%C3%A9", "/s3cr3t%2F+%20%22value%22%01%C3%A9",
		fmt.Sprintf("%x", secret), fmt.Sprintf("%X", secret),
	} {
		if found(s, []byte(text)) == nil {
			t.Errorf("not found in %q", text)
		}
	}
	for before := range 5 {
		for after := range 5 {
			plain := strings.Repeat("u", before) + secret + strings.Repeat("p", after)
			for _, enc := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding} {
				if found(s, []byte(enc.EncodeToString([]byte(plain)))) == nil {
					t.Errorf("not found in base64 of %q", plain)
				}
			}
		}
	}
	if Forms([]byte("1234567\r\n")) != nil {
		t.Error("a value of seven bytes has forms")
	}
}

func BenchmarkFind(b *testing.B) {
	var list []Needle
	for i := range 5 {
		for _, f := range Forms(fmt.Appendf(nil, "secret-value-number-%d/with+more", i)) {
			list = append(list, Needle{fmt.Sprint(i), f})
		}
	}
	s := New(list)
	data := make([]byte, 1<<20)
	rng := rand.NewChaCha8([32]byte{})
	_, _ = rng.Read(data)
	b.SetBytes(1 << 20)
	for b.Loop() {
		s.Find(data, func(string) { b.Error("found") })
	}
}
