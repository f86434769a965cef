package builder

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/snapshot"
)

// roomFor are limits under which the state directory may take so much and no more.
func roomFor(size int64) GCOptions {
	return GCOptions{MaxUsed: Space{Given: true, Bytes: size}, Reserved: Space{Given: true}, MinFree: Space{Given: true}, Budget: time.Hour}
}

// twoLayers is a project whose state directory holds the layer of a former build, with the size of all that it holds.
func twoLayers(t *testing.T) (p *project, used int64) {
	t.Helper()
	p = newProject(t, "FROM scratch\nCOPY f /f\n", map[string]string{"f": strings.Repeat("1", 64<<10)})
	p.opt.GC.Off = true
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	for _, list := range rowsOf(t, p.builder()) {
		for _, row := range list {
			used += row.Size
		}
	}
	return p, used
}

// notices are those of a builder while f runs.
func notices(b *Builder, f func()) string {
	var said []string
	em := newEmitter(func(e Event) {
		if e.Type == EventNotice {
			said = append(said, e.Text)
		}
	}, time.Now)
	still := b.during(em)
	f()
	still()
	return strings.Join(said, "\n")
}

func TestI16_RoomIsMadeBeforeALargeWrite(t *testing.T) {
	for _, tc := range []struct {
		name  string
		write int64
		limit func(used int64) GCOptions
		gone  bool
		says  string
	}{
		{"within the limit nothing goes", 1 << 20, func(used int64) GCOptions { return roomFor(used + 1<<20) }, false, ""},
		{"what the write would pass is made room for, however lately it was used", 1 << 20, func(used int64) GCOptions { return roomFor(used + 1<<20 - 1) }, true, "made room"},
		{"down to the reserve", 1 << 20, func(used int64) GCOptions {
			opt := roomFor(used)
			opt.Reserved.Bytes = used
			return opt
		}, false, "takes more than"},
		{"no claim of a size larger than the limit empties the cache", 4 << 20, roomFor, false, "takes more than"},
		{"off", 1 << 20, func(int64) GCOptions { opt := roomFor(1); opt.Off = true; return opt }, false, ""},
		{"free room counts, too", 1, func(int64) GCOptions {
			opt := roomFor(1 << 60)
			opt.MinFree.Percent = 100
			return opt
		}, true, "made room"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p, used := twoLayers(t)
			b := p.later(time.Minute)
			b.limitTo(tc.limit(used))
			before := len(rowsOf(t, b)[usageRegular])
			said := notices(b, func() {
				release, err := b.reserve(t.Context(), tc.write, "")
				must(t, err)
				release()
			})
			if gone := len(rowsOf(t, b)[usageRegular]) < before; gone != tc.gone {
				t.Errorf("gone: %v, want %v; said %q", gone, tc.gone, said)
			}
			if !strings.Contains(said, tc.says) || tc.says == "" && said != "" {
				t.Errorf("said %q, want %q", said, tc.says)
			}
			if b.ceiling.pending != 0 {
				t.Errorf("%d bytes are still reserved", b.ceiling.pending)
			}
		})
	}
}

func TestI16_WhatIsBeingWrittenCountsAgainstTheLimit(t *testing.T) {
	t.Parallel()
	p, used := twoLayers(t)
	b := p.later(time.Minute)
	b.limitTo(roomFor(used + 100))
	release, err := b.reserve(t.Context(), 60, "")
	must(t, err)
	defer release()
	if len(rowsOf(t, b)[usageRegular]) != 1 {
		t.Fatal("the first write made room, though there was some")
	}
	if _, err := b.reserve(t.Context(), 60, ""); err != nil {
		t.Fatal(err)
	}
	if len(rowsOf(t, b)[usageRegular]) != 0 {
		t.Error("two writes that together pass the limit went on")
	}
}

func TestI16_WhatABuildUsesStaysWhateverIsWritten(t *testing.T) {
	t.Parallel()
	p, _ := twoLayers(t)
	b := p.later(time.Minute)
	b.limitTo(roomFor(1))
	for _, row := range rowsOf(t, b)[usageRegular] {
		if ok, err := b.hasLayer(snapshot.ID(row.ID)); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	said := notices(b, func() {
		for range 2 {
			_, err := b.reserve(t.Context(), 1, "")
			must(t, err)
		}
	})
	if len(rowsOf(t, b)[usageRegular]) != 1 {
		t.Error("a layer that is in use went")
	}
	if strings.Count(said, "gobuild prune") != 1 {
		t.Errorf("said %q, once it should name what helps", said)
	}
}

func TestI16_AWriteThatCannotFitFailsBeforeItBegins(t *testing.T) {
	t.Parallel()
	p, _ := twoLayers(t)
	b := p.later(time.Minute)
	release, err := b.reserve(t.Context(), 1<<60, "layer abc")
	release()
	var e *Error
	if err = classify(err, CategoryStep); !errors.Is(err, unix.ENOSPC) || !errors.As(err, &e) || e.Category != CategoryEnvironment {
		t.Fatalf("%v", err)
	}
	if !strings.Contains(err.Error(), "layer abc takes 1.15EB") || !strings.Contains(e.Hint, "gobuild du") || !strings.Contains(e.Hint, "gobuild prune") {
		t.Errorf("%v; hint: %s", err, e.Hint)
	}
	if _, err := b.reserve(t.Context(), 1<<60, ""); err != nil {
		t.Errorf("an estimate is no error: %v", err)
	}
	if len(rowsOf(t, b)[usageRegular]) != 1 {
		t.Error("the cache was emptied for what cannot fit")
	}
}

func mayPassNow(t *testing.T, b *Builder) bool {
	t.Helper()
	room, err := b.room(b.ceiling.opt)
	must(t, err)
	return b.mayPass(room, 0)
}

// Where the last look says that the directory is far from its limit, nothing is read, whatever else the disk holds.
func TestI16_RoomIsLookedForOnlyWhereItMayBeShort(t *testing.T) {
	t.Parallel()
	p, used := twoLayers(t)
	b := p.later(time.Minute)
	room, err := b.room(GCOptions{})
	must(t, err)
	b.limitTo(roomFor(room.taken / 2))
	if !mayPassNow(t, b) {
		t.Error("a disk that holds more than the limit, and nothing is known of the directory")
	}
	for _, damaged := range []string{"", "gobuild use 1\n", "gobuild use 1\nused -1\ntaken 0\n"} {
		must(t, os.WriteFile(filepath.Join(p.root, "use"), []byte(damaged), 0o600))
		if _, _, ok := b.keptUse(); ok {
			t.Errorf("%q counts", damaged)
		}
	}
	b.keepUse(used, room.taken)
	if mayPassNow(t, b) {
		t.Error("it is known that the directory is small")
	}
	b.keepUse(used, 0)
	if !mayPassNow(t, b) {
		t.Error("all that the disk took since may be the directory's")
	}
}

// A disk that others have filled is no reason to look through a directory of which nothing may go, with each build again.
func TestI16_ADirectoryBelowItsReserveIsNotLookedThrough(t *testing.T) {
	t.Parallel()
	p, used := twoLayers(t)
	b := p.later(time.Minute)
	room, err := b.room(GCOptions{})
	must(t, err)
	room.minFree, room.maxUsed, room.reserved = room.free+1, room.disk, used+1
	room.disk = room.free // so that what is free is no small part of it
	b.keepUse(used, room.taken)
	if b.mayPass(room, 0) {
		t.Error("nothing could be removed")
	}
	for what, change := range map[string]func(){
		"something may go":                    func() { room.reserved = used },
		"the user has set what shall be free": func() { room.reserved = used + 1; b.ceiling.opt.MinFree.Given = true },
		"hardly anything is free":             func() { b.ceiling.opt.MinFree.Given = false; room.disk = room.free * 21 },
	} {
		before := room
		change()
		if !b.mayPass(room, 0) {
			t.Error(what)
		}
		room = before
		b.ceiling.opt.MinFree.Given = false
	}
}

// Each step asks for room. Where that changes nothing, it writes nothing.
func TestI16_WhatIsKnownOfTheDirectoryIsWrittenWhenItChanges(t *testing.T) {
	t.Parallel()
	var c ceiling
	for _, now := range []struct {
		use
		changed bool
		why     string
	}{
		{use{100, 1000}, true, "nothing was known"},
		{use{100, 1000}, false, "the same"},
		{use{150, 1050}, false, "what the disk took since counts as ours, for whoever reads the file, too"},
		{use{120, 1020}, false, "the same difference"},
		{use{90, 1020}, true, "something was removed"},
		{use{90, 900}, true, "others removed something"},
		{use{90 + useGrain, 900 + useGrain}, true, "it has grown much"},
	} {
		if got := c.changed(now.use); got != now.changed {
			t.Errorf("%s: %v", now.why, got)
		}
	}
}

// The time that a command may wait for room is bounded; what then is not done is said.
func TestI16_TheWaitForRoomIsBounded(t *testing.T) {
	t.Parallel()
	p, _ := twoLayers(t)
	b := p.later(time.Minute)
	opt := roomFor(1)
	opt.Budget = time.Nanosecond
	b.limitTo(opt)
	said := notices(b, func() {
		for range 2 {
			_, err := b.reserve(t.Context(), 1, "")
			must(t, err)
		}
	})
	if !strings.Contains(said, "too many entries") || !strings.Contains(said, "gobuild prune") {
		t.Errorf("said %q", said)
	}
	if len(rowsOf(t, b)[usageRegular]) != 1 {
		t.Error("something was removed after the time was over")
	}
	p.opt.GC = opt
	p.opt.NoCache = true
	var events []string
	p.during = func(e Event) {
		if e.Type == EventNotice {
			events = append(events, e.Text)
		}
	}
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(fmt.Sprint(events), "too many entries"); n != 1 {
		t.Errorf("said %d times: %q", n, events)
	}
}

// A layer that a build fetches is the same as any other large write.
func TestI16_AFetchedLayerMakesRoom(t *testing.T) {
	t.Parallel()
	p, used := twoLayers(t)
	layout := filepath.Join(t.TempDir(), "base")
	below := newProject(t, "FROM scratch\nCOPY f /base\n", map[string]string{"f": "2"})
	below.opt.Outputs = []Output{{Type: "oci", Dest: layout}}
	if _, err := below.build(); err != nil {
		t.Fatal(err)
	}
	p.write("Dockerfile", "FROM base\nCOPY g /g\n")
	p.write("g", "1")
	p.opt.Contexts = map[string]string{"base": "oci-layout://" + layout}
	p.opt.GC = roomFor(used)
	if _, err := p.build(); err != nil {
		t.Fatal(err)
	}
	for _, row := range rowsOf(t, p.builder())[usageRegular] {
		if strings.Contains(row.Description, "COPY in "+filepath.Base(p.dir)) && row.Size > 32<<10 {
			t.Errorf("the former layer stayed: %+v", row)
		}
	}
}

func TestI16_ACancelledWaitForRoomEnds(t *testing.T) {
	t.Parallel()
	p, _ := twoLayers(t)
	b := p.later(time.Minute)
	b.limitTo(roomFor(1))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.reserve(ctx, 1, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}
