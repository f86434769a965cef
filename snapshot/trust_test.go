package snapshot

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPowerCut_OnlySyncedLayersOfAnotherBootCount(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	boot := func(n string) *Store {
		s, err := OpenConfig(dir, Config{BootID: n})
		must(t, err)
		return s
	}
	one := boot("one")
	commit(t, one, nil, id(1), []string{"f a first"})
	must(t, one.Sync(context.Background()))
	commit(t, one, nil, id(2), []string{"f a second"})
	for _, n := range []int{1, 2} {
		if !boot("one").Has(id(n)) {
			t.Errorf("within its boot layer %d is denied", n)
		}
	}
	two := boot("two")
	if !two.Has(id(1)) {
		t.Error("a synced layer is denied after another boot")
	}
	if two.Has(id(2)) {
		t.Error("a layer nobody synced counts after another boot")
	}
	if _, err := two.New([]ID{id(2)}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("new above an untrusted layer: %v", err)
	}
	if _, err := two.UpperOf(id(2)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("upper of an untrusted layer: %v", err)
	}
	infos := map[ID]bool{}
	must(t, two.List(func(l ID, i Info) error { infos[l] = i.Trusted; return nil }))
	if !cmp.Equal(infos, map[ID]bool{id(1): true, id(2): false}) {
		t.Errorf("list: %v", infos)
	}
	// Built again: the new one takes the place of the old.
	commit(t, two, nil, id(2), []string{"f a rebuilt"})
	if !two.Has(id(2)) {
		t.Error("a layer built again is denied")
	}
	r, err := two.UpperOf(id(2))
	must(t, err)
	defer r.Close()
	wantTree(t, r, "a=rebuilt")
	must(t, one.Close())
	must(t, two.Close())
	if left := entries(t, two.workDir()); len(left) != 0 {
		t.Errorf("work left: %v", left)
	}
	// The note of boot one is not lost by that of two.
	must(t, two.Sync(context.Background()))
	if three := boot("three"); !three.Has(id(1)) || !three.Has(id(2)) {
		t.Error("a note of an earlier boot was lost")
	}
}

func TestSync_WithNothingCommittedDoesNothing(t *testing.T) {
	s := open(t)
	note := filepath.Join(s.dir, syncedName)
	must(t, s.Sync(t.Context()))
	if _, err := os.Stat(note); err == nil {
		t.Error("a note of nothing")
	}
	commit(t, s, nil, id(1), nil)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Sync(cancelled); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	must(t, s.Sync(t.Context())) // the one that did not succeed is made up for
	if _, err := os.Stat(note); err != nil {
		t.Error(err)
	}
}

// A build syncs before it commits anything itself: what matters are the layers of those before it.
func TestSync_CoversWhatOthersHaveCommitted(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	boot := func(n string) *Store {
		s, err := OpenConfig(dir, Config{BootID: n})
		must(t, err)
		return s
	}
	commit(t, boot("one"), nil, id(1), []string{"f a first"})
	must(t, boot("one").Sync(t.Context()))
	if !boot("two").Has(id(1)) {
		t.Error("a layer that a later Store synced is denied after another boot")
	}
}

func TestPowerCut_DamagedMetaOrNoteVouchesForNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "s")
	s, err := OpenConfig(dir, Config{BootID: "one"})
	must(t, err)
	commit(t, s, nil, id(1), nil)
	must(t, s.Sync(context.Background()))
	for _, path := range []string{filepath.Join(s.home(id(1)), metaName), filepath.Join(dir, syncedName)} {
		whole, err := os.ReadFile(path)
		must(t, err)
		check := func(what string, data []byte) {
			must(t, os.WriteFile(path, data, 0o600))
			s, err := OpenConfig(dir, Config{BootID: "two"})
			must(t, err)
			if s.Has(id(1)) {
				t.Errorf("%s: %s: the layer counts", filepath.Base(path), what)
			}
		}
		for i := range whole {
			check(fmt.Sprintf("cut at %d", i), whole[:i])
			flipped := append([]byte{}, whole...)
			flipped[i] ^= 1
			check(fmt.Sprintf("flipped at %d", i), flipped)
		}
		check("zeros", make([]byte, len(whole)))
		must(t, os.WriteFile(path, whole, 0o600))
	}
	s, err = OpenConfig(dir, Config{BootID: "two"})
	must(t, err)
	if !s.Has(id(1)) {
		t.Error("undamaged, and denied")
	}
}
