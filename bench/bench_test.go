package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		values []float64
		want   float64
	}{{[]float64{3, 1, 2}, 2}, {[]float64{4, 1, 3, 2}, 2.5}, {[]float64{7}, 7}} {
		if got := median(tc.values); got != tc.want {
			t.Errorf("median of %v: %v, want %v", tc.values, got, tc.want)
		}
	}
}

func TestInterleave_dropsTheFirstRoundAndTakesTurns(t *testing.T) {
	t.Parallel()
	var order []string
	side := func(name string) side {
		return func(round int) (time.Duration, error) {
			order = append(order, name)
			return time.Duration(round) * time.Second, nil
		}
	}
	times, err := interleave(2, side("a"), side("b"))
	if err != nil {
		t.Fatal(err)
	}
	if len(times[0]) != 2 || times[0][0] != 1000 || times[1][1] != 2000 {
		t.Errorf("times %v, want rounds 1 and 2 in milliseconds", times)
	}
	if len(order) != 6 || order[0] != "a" || order[1] != "b" || order[2] != "a" {
		t.Errorf("order %v, want the sides to alternate", order)
	}
}

func TestCompared_boundIsAFactorOfTheFloor(t *testing.T) {
	t.Parallel()
	if r := compared("S4", "", []float64{10}, []float64{12}, 1.25); !r.OK || r.Ratio != 1.2 {
		t.Errorf("%+v, want a ratio of 1.2 within the bound", r)
	}
	if r := compared("S4", "", []float64{10}, []float64{13}, 1.25); r.OK {
		t.Errorf("%+v, want the bound missed", r)
	}
}

func TestMaterial_isTheSameOnEveryRun(t *testing.T) {
	t.Parallel()
	var files [2][]byte
	for i := range files {
		m, err := newMaterial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "big")
		if err := m.bigFile(path, 100_001); err != nil {
			t.Fatal(err)
		}
		if files[i], err = os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	if len(files[0]) != 100_001 || !bytes.Equal(files[0], files[1]) {
		t.Errorf("%d and %d bytes, want 100001 equal ones", len(files[0]), len(files[1]))
	}
}

func TestPeak_isOfTheCommandNotOfItsParent(t *testing.T) {
	t.Parallel()
	ballast := make([]byte, 64<<20)
	for i := 0; i < len(ballast); i += 4096 {
		ballast[i] = 1
	}
	b := &bench{dir: t.TempDir()}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	got, err := b.peak(t.Context(), exe, "-test.list", "^$")
	if err != nil {
		t.Fatal(err)
	}
	if ballast[0] != 1 || got <= 0 || got > 48<<20 {
		t.Errorf("peak of a small command: %d bytes, want fewer than this process has", got)
	}
}

func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == peakWord { // this test binary stands in for bench
		main()
		return
	}
	os.Exit(m.Run())
}
