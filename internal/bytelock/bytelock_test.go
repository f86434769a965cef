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
