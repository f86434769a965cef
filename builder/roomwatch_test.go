package builder

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gobuild/snapshot"
)

// layerOf is where the layer of the only entry that du lists lies.
func (p *project) layerOf() string {
	p.t.Helper()
	rows := rowsOf(p.t, p.builder())[usageRegular]
	if len(rows) != 1 {
		p.t.Fatalf("%d layers", len(rows))
	}
	return filepath.Join(p.root, "snapshots", "layers", string(snapshot.ID(rows[0].ID)))
}

func isGone(path string) bool {
	_, err := os.Lstat(path)
	return err != nil
}

// until waits for a condition, for as long as nothing here takes on a busy machine.
func until(cond func() bool) bool {
	for end := time.Now().Add(2 * time.Minute); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// TestI16_RoomIsMadeWhileAStepWrites: nobody knows beforehand how much a RUN leaves. It writes until a layer that nobody uses is gone.
func TestI16_RoomIsMadeWhileAStepWrites(t *testing.T) {
	t.Parallel()
	old, used := twoLayers(t)
	layer := old.layerOf()
	p := newShellProject(t, "FROM base\nRUN for i in $(seq 1000); do dd if=/dev/zero of=/more bs=64k count=16 seek=$((i*16)) conv=notrunc 2>/dev/null; echo $i; sleep 0.1; done\n", nil)
	p.root = old.root
	p.opt.Target = "base"
	p.opt.GC.Off = true
	_, err := p.build() // what lies below the RUN is not written by it
	must(t, err)
	if isGone(layer) {
		t.Fatal("it is gone before the RUN")
	}
	p.opt.Target = ""
	p.opt.GC = roomFor(used + 8<<20)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	lines := 0
	p.during = func(e Event) {
		if e.Type == EventOutput {
			if lines++; isGone(layer) {
				cancel()
			}
		}
	}
	_, err = p.buildWithin(ctx)
	if !isGone(layer) || err == nil || lines < 2 {
		t.Errorf("the layer is gone: %t, after %d lines: %v", isGone(layer), lines, err)
	}
}

// TestI16_RoomIsMadeForAsMuchAsAStepLeftLastTime: before it begins.
func TestI16_RoomIsMadeForAsMuchAsAStepLeftLastTime(t *testing.T) {
	t.Parallel()
	p := newShellProject(t, "FROM base\nARG N\nRUN echo begins; dd if=/dev/zero of=/more bs=64k count=64 2>/dev/null\n", nil)
	p.opt.GC.Off = true
	p.opt.BuildArgs = map[string]string{"N": "1"}
	_, err := p.build()
	must(t, err)
	var used int64
	var layer string
	for _, row := range rowsOf(t, p.builder())[usageRegular] {
		if used += row.Size; row.Size > 3<<20 && strings.Contains(row.Description, "RUN") && !strings.Contains(row.Description, "stage base") {
			layer = filepath.Join(p.root, "snapshots", "layers", row.ID)
		}
	}
	if isGone(layer) || layer == "" {
		t.Fatalf("no layer of the RUN: %q", layer)
	}
	p.opt.BuildArgs["N"] = "2"
	p.opt.GC = roomFor(used + 2<<20)
	early := false
	p.during = func(e Event) {
		if e.Type == EventOutput && strings.Contains(string(e.Data), "begins") {
			early = isGone(layer)
		}
	}
	if _, err := p.build(); err != nil || !early {
		t.Errorf("the former layer was gone when the step began: %t; %v", early, err)
	}
}

// TestI16_RoomIsMadeForAFetchedFile: before its first byte where the server says how long it is, and while it comes where not.
func TestI16_RoomIsMadeForAFetchedFile(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		serve func(w http.ResponseWriter, gone func() bool) bool
	}{
		{"a stated length", func(w http.ResponseWriter, gone func() bool) bool {
			w.Header().Set("Content-Length", "2100000")
			w.(http.Flusher).Flush()
			ok := until(gone)
			_, err := w.Write(make([]byte, 2_100_000))
			return ok && err == nil
		}},
		{"no stated length", func(w http.ResponseWriter, gone func() bool) bool {
			n := 0
			for !gone() && n < 1000 {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return false
				}
				w.(http.Flusher).Flush()
				n++
				time.Sleep(20 * time.Millisecond) // a slow server
			}
			return gone()
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p, used := twoLayers(t)
			layer := p.layerOf()
			var served atomic.Bool
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				served.Store(tc.serve(w, func() bool { return isGone(layer) }))
			}))
			t.Cleanup(server.Close)
			p.write("Dockerfile", "FROM scratch\nADD "+server.URL+"/file /file\n")
			p.opt.GC = roomFor(used + 2<<20)
			if _, err := p.build(); err != nil || !served.Load() {
				t.Errorf("the former layer went in time: %t; %v", served.Load(), err)
			}
		})
	}
}
