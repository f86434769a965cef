package builder

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/history"
	"gobuild/internal/rootfs"
	"gobuild/snapshot"
)

// fsLayer is one layer of a root file system: a directory of the snapshot
// store, a blob, or both. Fields are fixed once it is shared, but for the
// result of packing, which pack.go guards.
type fsLayer struct {
	id      snapshot.ID
	created time.Time // when its step ran; zero for a base's layer
	bytes   int64     // of a step's files, 0 where that is not known
	alone   bool      // COPY --link: made without what lies below

	// Of a base's layer, known from its manifest.
	desc   ocispec.Descriptor
	diffID digest.Digest
	fetch  fetcher

	form string // of a step's layer that another machine packed: how

	packing *packJob // of a step's layer that the image needs
}

func newBaseLayer(desc ocispec.Descriptor, diffID, chain digest.Digest, fetch fetcher) *fsLayer {
	return &fsLayer{id: snapshot.ID(chain.Encoded()), desc: desc, diffID: diffID, fetch: fetch}
}

// newID names the directory of one execution of a step. It is random: a step that runs again makes another directory,
// and never changes one that a build may be using.
func newID() snapshot.ID {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails (Go 1.24)
	return snapshot.ID(hex.EncodeToString(b[:]))
}

// state is a root file system between two steps.
type state struct {
	layers []*fsLayer
	key    digest.Digest // of the last step, or the base's chain ID: what the next key's parent line says

	unknown *history.Place // of a dry run: the step that would have to run before this state can be known
}

// with is the state after one more layer.
func (s state) with(l *fsLayer, key digest.Digest) state {
	layers := make([]*fsLayer, 0, len(s.layers)+1)
	return state{layers: append(append(layers, s.layers...), l), key: key}
}

func (s state) stack() []snapshot.ID {
	ids := make([]snapshot.ID, len(s.layers))
	for i, l := range s.layers {
		ids[i] = l.id
	}
	return ids
}

// lineage names exactly these layers in this order. A cached step is only taken together with the layers that it was
// made upon: keys are the same after `--no-cache`, the bytes below may not be.
func (s state) lineage() string {
	var text strings.Builder
	for _, l := range s.layers {
		fmt.Fprintf(&text, "%s\n", l.id)
	}
	return digest.FromString(text.String()).Encoded()
}

// baseState is the root file system of an image as it was pulled.
func baseState(b *base) state {
	s := state{layers: b.layers, key: emptyState.key}
	if n := len(b.layers); n > 0 {
		s.key = digest.NewDigestFromEncoded(digest.SHA256, string(b.layers[n-1].id))
	}
	return s
}

var emptyState = state{key: digest.FromString("")}

// flights lets one goroutine do a thing that several want.
type flights struct {
	mu sync.Mutex
	m  map[string]*sync.Mutex
}

func (f *flights) lock(name string) func() {
	f.mu.Lock()
	if f.m == nil {
		f.m = map[string]*sync.Mutex{}
	}
	l := f.m[name]
	if l == nil {
		l = &sync.Mutex{}
		f.m[name] = l
	}
	f.mu.Unlock()
	l.Lock()
	return l.Unlock
}

// materialize makes every layer of a state a directory. A cached build never calls it.
func (bd *build) materialize(ctx context.Context, s state) error {
	arriving, stop, err := bd.prefetch(ctx, s)
	if err != nil {
		return err
	}
	defer stop()
	for i, l := range s.layers {
		if _, ok := bd.asDirs.Load(l.id); ok {
			continue // and held since
		}
		have, err := bd.hasLayer(l.id)
		if err != nil {
			return err
		}
		if !have {
			if err := bd.unpack(ctx, s.layers[:i], l, arriving[l]); err != nil {
				return err
			}
		}
		bd.asDirs.Store(l.id, true)
	}
	return nil
}

// view opens the merged tree of a state for reading; nil for the empty one.
func (bd *build) view(ctx context.Context, s state) (*rootfs.Root, error) {
	if err := bd.materialize(ctx, s); err != nil {
		return nil, err
	}
	return bd.snapshots.Lower(s.stack())
}

// waiting tells the user once whom a lock waits for.
func (bd *build) waiting(what string) func(pid int) {
	return func(pid int) {
		if pid == os.Getpid() {
			return // another step of this build
		}
		bd.em.emit(Event{Type: EventNotice, Text: fmt.Sprintf("waiting for process %d, which is %s", pid, what)})
	}
}

func short(d digest.Digest) string {
	if hex := d.Encoded(); len(hex) > 12 {
		return hex[:12]
	}
	return d.String()
}
