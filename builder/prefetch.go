package builder

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"gobuild/cache"
	"gobuild/store"
)

// arrival is a layer that is being fetched. The methods also serve a nil one: a layer that nobody fetches.
type arrival struct {
	begun chan *store.Incoming // the first attempt, when it is worth to be read meanwhile
	done  chan struct{}
	err   error // what came of it; once done is closed
}

// followFrom is the size of a layer, in bytes, whose unpacking does not wait for its last byte. Smaller ones arrive at once.
const followFrom = 1 << 20

// wait returns when the layer is fetched.
func (a *arrival) wait(ctx context.Context) error {
	if a == nil {
		return nil
	}
	select {
	case <-a.done:
		return a.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// follow returns the layer's bytes as they come, nil when they have come, or will not.
func (a *arrival) follow(ctx context.Context) *store.Incoming {
	if a == nil {
		return nil
	}
	select {
	case in := <-a.begun:
		return in
	case <-a.done:
	case <-ctx.Done():
	}
	return nil
}

// watch is what the store tells of a layer of that size; nil where it need not tell.
func (a *arrival) watch(size int64) func(*store.Incoming) {
	if a == nil || size < followFrom {
		return nil
	}
	return func(in *store.Incoming) {
		select {
		case a.begun <- in:
		default: // another attempt: it is unpacked when it is complete
			_ = in.Close() // was read by nobody
		}
	}
}

// close ends the reading of what arrives.
func (a *arrival) close() {
	select {
	case in := <-a.begun:
		_ = in.Close() // was read by nobody
	default:
	}
}

// prefetch fetches the layers of a state that are neither directories nor blobs yet side by side, and lets them be unpacked while
// they arrive. Call stop when they are no longer wanted. One small layer alone is left to unpack.
func (bd *build) prefetch(ctx context.Context, s state) (arriving map[*fsLayer]*arrival, stop func(), err error) {
	var missing []*fsLayer
	for _, l := range s.layers {
		if _, ok := bd.asDirs.Load(l.id); ok || l.fetch == nil {
			continue
		}
		have, err := bd.hasLayer(l.id)
		if err == nil && !have {
			_, have, err = bd.hasBlob(l.desc.Digest)
		}
		if err != nil {
			return nil, nil, err
		}
		if !have {
			missing = append(missing, l)
		}
	}
	if len(missing) == 0 || len(missing) == 1 && missing[0].desc.Size < followFrom {
		return nil, func() {}, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	group := &errgroup.Group{}
	group.SetLimit(4 + 1) // transfers at once, as for whole images, and the one that starts them
	arriving = map[*fsLayer]*arrival{}
	for _, l := range missing {
		arriving[l] = &arrival{begun: make(chan *store.Incoming, 1), done: make(chan struct{})}
	}
	group.Go(func() error {
		for _, l := range missing {
			group.Go(func() error {
				a := arriving[l]
				defer close(a.done)
				a.err = guard(func() error { return bd.fetchShared(ctx, l, a) })
				return nil
			})
		}
		return nil
	})
	stop = func() {
		cancel()
		_ = group.Wait() // what went wrong was told by wait
		for _, a := range arriving {
			a.close()
		}
	}
	return arriving, stop, nil
}

// fetchShared fetches a layer's blob unless another process does or did; that one may have unpacked it, too.
func (bd *build) fetchShared(ctx context.Context, l *fsLayer, a *arrival) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	lock, err := bd.cache.Lock(ctx, cache.NewKey("fetch").Add("blob", l.desc.Digest.String()).Key(), bd.waiting("fetching a layer"))
	if err != nil {
		return fmt.Errorf("wait for layer: %w", err)
	}
	defer lock.Release()
	if have, err := bd.hasLayer(l.id); have || err != nil {
		return err
	}
	return bd.ensureBlob(ctx, l, a)
}
