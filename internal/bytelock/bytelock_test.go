package bytelock

import (
	"errors"
	"fmt"
	"path/filepath"
	"testing"
)

func TestHeldNamesCannotBeExcluded(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pins")
	a, b := Open(path), Open(path)
	for i := range 300 {
		if err := a.Hold(fmt.Sprint(i), "x"); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Hold("x"); err != nil {
		t.Fatalf("two holders: %v", err)
	}
	excluded := func(name string) bool {
		release, err := Exclude(path, name)
		if err == nil {
			release()
		} else if !errors.Is(err, ErrHeld) {
			t.Fatal(err)
		}
		return err == nil
	}
	if excluded("x") || excluded("7") || !excluded("other") {
		t.Error("held names can be excluded, or others cannot")
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if excluded("x") || !excluded("7") {
		t.Error("after one holder closed")
	}
	if err := errors.Join(b.Close(), b.Close(), a.Hold("7")); err != nil {
		t.Fatal(err)
	}
	if !excluded("x") || excluded("7") {
		t.Error("after both closed and one came back")
	}
}

func TestHoldWaitsForAnExclusionToEnd(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pins")
	release, err := Exclude(path, "x")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error)
	go func() { got <- Open(path).Hold("x") }()
	select {
	case err := <-got:
		t.Errorf("held beside an exclusion: %v", err)
	default:
	}
	release()
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func TestHeldTakesNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pins")
	if got, err := Held(path, "x"); err != nil || len(got) != 1 || got[0] {
		t.Fatalf("without a file: %v, %v", got, err)
	}
	s := Open(path)
	if err := s.Hold("x", "y"); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, err := Held(path, "x", "z", "y"); err != nil || fmt.Sprint(got) != "[true false true]" {
			t.Errorf("%v, %v", got, err)
		}
	}
	release, err := Exclude(path, "z") // asking has locked nothing
	if err != nil {
		t.Fatal(err)
	}
	defer release()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := Held(path, "x", "z"); err != nil || fmt.Sprint(got) != "[false true]" {
		t.Errorf("%v, %v", got, err)
	}
}
