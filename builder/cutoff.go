package builder

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"gobuild/cache"
	"gobuild/internal/rootfs"
	"gobuild/layer"
	"gobuild/snapshot"
	"gobuild/stages"
)

// formerStep is what a step gave when it was done before.
type formerStep struct {
	key digest.Digest
	rec stepRecord
}

// formerResult finds, for --cutoff, what this step gave before upon these very layers: under its own key, or under the nearest of
// those that it had. Nil where nothing is known, or its directory is gone. A hint: without it what follows runs.
func (sr *stageRun) formerResult(step *stages.Step, j *job, slot, lineage string) *formerStep {
	if !sr.opt.Cutoff || sr.opt.NoCache {
		return nil
	}
	former := &formerStep{key: j.key.Digest()}
	if _, ok, err := sr.cache.Lookup(j.key, &former.rec); err != nil || !ok {
		old, ok, err := sr.cache.Nearest(slot, j.key, sr.formerKeys(step)...)
		if err != nil || !ok || json.Unmarshal(old.Payload, &former.rec) != nil {
			return nil
		}
		former.key = old.Key.Digest()
	}
	if former.rec.ID == "" || former.rec.Lineage != lineage {
		return nil
	}
	if ok, err := sr.hasLayer(former.rec.ID); err != nil || !ok {
		return nil
	}
	return former
}

// sameFiles says whether a new layer is what a former execution left, in all that a later step can see
// (docs/decisions/0012-cut-off.md). A layer that cannot be compared is another.
func (bd *build) sameFiles(ctx context.Context, below state, work *snapshot.Work, now, former stepRecord) bool {
	if now.Bytes != former.Bytes {
		return false
	}
	upper, err := work.Upper()
	if err != nil {
		return false
	}
	defer upper.Close()
	is, err := bd.fingerprint(ctx, upper, below, now)
	if err != nil {
		return false
	}
	was, err := bd.formerFingerprint(ctx, below, former)
	return err == nil && is == was
}

// formerFingerprint is kept, since a directory never changes.
func (bd *build) formerFingerprint(ctx context.Context, below state, former stepRecord) (digest.Digest, error) {
	key := cache.NewKey("fingerprint").Add("directory", string(former.ID)).Key()
	var kept digest.Digest
	if _, ok, err := bd.cache.Lookup(key, &kept); ok && err == nil {
		return kept, nil
	}
	upper, err := bd.snapshots.UpperOf(former.ID)
	if err != nil {
		return "", err
	}
	defer upper.Close()
	was, err := bd.fingerprint(ctx, upper, below, former)
	if err != nil {
		return "", err
	}
	return was, bd.cache.Put(key, "fingerprint", was)
}

// fingerprint digests a layer as its tar would be. Times within the execution stand for "now", which is another each time.
func (bd *build) fingerprint(ctx context.Context, upper *rootfs.Root, below state, rec stepRecord) (_ digest.Digest, err error) {
	lower, err := bd.view(ctx, below)
	if err != nil {
		return "", err
	}
	if lower != nil {
		defer lower.Close()
	}
	r, w := io.Pipe()
	done := make(chan error, 1)
	go func() { // ends when the pipe is closed, at the latest by this function
		done <- guard(func() error {
			_, err := layer.Pack(ctx, w, upper, lower, layer.PackOptions{Compression: layer.None, UserXattrs: true})
			_ = w.CloseWithError(err) // never fails
			return err
		})
	}()
	defer func() {
		_ = r.Close() // never fails
		err = errors.Join(err, <-done)
	}()
	return digestEntries(r, rec.Created.Add(-rec.Duration-fileClockSlack).Unix(), rec.Created.Unix())
}

// fileClockSlack is how far a file's time may lie before the moment in which it was written: kernels take it from a clock that
// ticks a hundred times a second or more.
const fileClockSlack = 50 * time.Millisecond

// digestEntries reads a tar to its end. Times from begun to ended, in seconds, are all the same.
func digestEntries(r io.Reader, begun, ended int64) (digest.Digest, error) {
	sum := sha256.New()
	in := tar.NewReader(r)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return "", err
		}
		when := fmt.Sprint(h.ModTime.UnixNano())
		if at := h.ModTime.Unix(); begun <= at && at <= ended {
			when = "now"
		}
		fmt.Fprintf(sum, "%q %d %o %d:%d %d %q %d:%d %s\n", h.Name, h.Typeflag, h.Mode, h.Uid, h.Gid, h.Size, h.Linkname, h.Devmajor, h.Devminor, when)
		for _, name := range slices.Sorted(maps.Keys(h.PAXRecords)) {
			if name != "mtime" && name != "atime" && name != "ctime" {
				fmt.Fprintf(sum, "%q=%q\n", name, h.PAXRecords[name])
			}
		}
		if _, err := io.Copy(sum, in); err != nil {
			return "", err
		}
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // what packs it ends by itself
		return "", err
	}
	return digest.NewDigest(digest.SHA256, sum), nil
}

// cutOff drops what a step has just made for what it made before: the layers are those of the former build then, and so are the
// keys of the steps behind it.
func (sr *stageRun) cutOff(ctx context.Context, j *job, slot string, former *formerStep, out outcome) (outcome, error) {
	rec := former.rec
	if rec.As == "" && former.key != j.key.Digest() {
		rec.As = former.key
	}
	if rec.As == j.key.Digest() {
		rec.As = ""
	}
	if err := sr.cache.Put(j.key, slot, rec); err != nil {
		return out, fmt.Errorf("record step: %w", err)
	}
	sr.noteFiles(j)
	out.as = rec.As
	out.layer = &fsLayer{id: rec.ID, created: rec.Created, bytes: rec.Bytes, alone: j.alone}
	if info := stepOf(ctx); info != nil {
		sr.em.emit(Event{Type: EventCache, Step: info, Text: "it left the same files as before: what follows can be cached"})
	}
	return out, nil
}
