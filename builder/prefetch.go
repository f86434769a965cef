package builder

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"gobuild/cache"
)

// prefetched are the layers that are being fetched, each with what came of it.
type prefetched map[*fsLayer]chan error

// wait returns when a layer is fetched, at once for one that is not being fetched.
func (p prefetched) wait(ctx context.Context, l *fsLayer) error {
	done, ok := p[l]
	if !ok {
		return nil
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// prefetch fetches the layers of a state that are neither directories nor blobs yet side by side, so that the first are unpacked while the
// others arrive. Call stop when they are no longer wanted. One layer alone is left to unpack.
func (bd *build) prefetch(ctx context.Context, s state) (p prefetched, stop func(), err error) {
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
	if len(missing) < 2 {
		return nil, func() {}, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	group := &errgroup.Group{}
	group.SetLimit(4 + 1) // transfers at once, as for whole images, and the one that starts them
	p = prefetched{}
	for _, l := range missing {
		p[l] = make(chan error, 1)
	}
	group.Go(func() error {
		for _, l := range missing {
			group.Go(func() error {
				p[l] <- guard(func() error { return bd.fetchShared(ctx, l) })
				return nil
			})
		}
		return nil
	})
	return p, func() { cancel(); _ = group.Wait() }, nil // what went wrong was told by wait
}

// fetchShared fetches a layer's blob unless another process does or did; that one may have unpacked it, too.
func (bd *build) fetchShared(ctx context.Context, l *fsLayer) error {
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
	return bd.ensureBlob(ctx, l)
}
