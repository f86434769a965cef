package builder

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// roomTick is how often the room is looked at while something is written of which nobody knows the size: what passes a limit is
// at most what is written in that time, and while room is made.
const roomTick = 500 * time.Millisecond

// watchRoom keeps the state directory within the limits while a step writes, or a server sends what has no stated length. Like reserve
// it lets the writing go on where nothing more can be removed. A look costs two system calls. The result ends it.
func (b *Builder) watchRoom(ctx context.Context) (stop func()) {
	if b.ceiling.opt.Off {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	ticker := time.NewTicker(roomTick)
	go func() { // ends with the result of this function
		defer close(done)
		err := guard(func() error { return b.keepRoom(ctx, ticker.C) })
		if err != nil && ctx.Err() == nil {
			b.notice(fmt.Sprintf("making room in the state directory: %v", err))
		}
	}()
	return func() {
		ticker.Stop()
		cancel()
		<-done
	}
}

// keepRoom looks at each tick, and makes room for what comes until the next: as much as came since the last.
func (b *Builder) keepRoom(ctx context.Context, ticks <-chan time.Time) error {
	c := b.ceiling
	last, err := b.room(c.opt)
	for err == nil {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-ticks:
		}
		var now room
		if now, err = b.room(c.opt); err != nil {
			break
		}
		grown := now.taken - last.taken
		last = now
		// Others write to this file system, too: what is foreseen is no more than a part of the limit.
		if soon := c.add(0) + min(grown, now.maxUsed/8); grown > 0 && b.mayPass(now, soon) {
			err = b.freeFor(ctx, soon)
		}
	}
	return err
}

// roomForStep makes room for what a step will write: as much as when it last ran, which is a guess; nothing where that is not known.
// It does not stay reserved: what the step does write is looked at by watchRoom.
func (sr *stageRun) roomForStep(ctx context.Context, slot string, j *job) error {
	var before stepRecord
	opt := sr.ceiling.opt
	if r, err := sr.room(opt); err == nil && !opt.Off && sr.mayPass(r, roomFarOff) {
		if old, ok, err := sr.cache.Nearest(slot, j.key); err != nil || !ok || json.Unmarshal(old.Payload, &before) != nil {
			before.Bytes = 0
		}
	}
	made, err := sr.reserve(ctx, max(before.Bytes, 0), "")
	made()
	return err
}

// roomFarOff is so much that a step need not be looked up if the limits are further away.
const roomFarOff = 16 << 30
