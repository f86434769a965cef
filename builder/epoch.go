package builder

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strconv"
	"time"

	"github.com/opencontainers/go-digest"

	"gobuild/cache"
	"gobuild/layer"
	"gobuild/stages"
)

// maxScanned bounds what is read of an archive to find its newest file, as unpacking does.
const maxScanned = 64 << 30

// timeRecord is what the cache keeps of a commit's time, or of an archive's newest file.
type timeRecord struct {
	Seconds int64 `json:"seconds"`
	None    bool  `json:"none,omitempty"` // it has no time
}

func timeKey(identity string) cache.Key { return cache.NewKey("time").Add("of", identity).Key() }

// settleEpoch finds out what SOURCE_DATE_EPOCH means, and tells the plan (FEATURES B11).
func (bd *build) settleEpoch(ctx context.Context, file *stages.File, opt *stages.Options) error {
	if bd.opt.SourceDateEpoch == nil {
		from, err := file.Epoch(*opt)
		if err != nil {
			return bd.planError(err)
		}
		found, err := bd.epochFrom(ctx, from)
		if err != nil {
			return classify(fmt.Errorf("find SOURCE_DATE_EPOCH: %w", err), CategoryRemote)
		}
		bd.opt.SourceDateEpoch = found
	}
	text := ""
	if e := bd.opt.SourceDateEpoch; e != nil {
		text = strconv.FormatInt(e.Unix(), 10)
	}
	opt.Epoch = &text
	var err error
	if bd.form, err = formOf(bd.opt); err != nil {
		return classify(err, CategoryUsage)
	}
	return nil
}

// epochFrom is nil where there is no time to be had.
func (bd *build) epochFrom(ctx context.Context, from stages.Epoch) (*time.Time, error) {
	var secs timeRecord
	var err error
	what := ""
	switch {
	case from.Seconds != nil:
		secs.Seconds = *from.Seconds
	case from.Main:
		what = "the build context"
		secs, err = bd.mainTime(ctx)
	case from.Context != "":
		what = "the build context " + from.Context
		secs, err = bd.contextTime(ctx, from.Context)
	case from.URL != "":
		what = "the source of that stage"
		secs, err = bd.sourceTime(ctx, from)
	default:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if secs.None {
		bd.notice(fmt.Sprintf("SOURCE_DATE_EPOCH is not set: %s has no time of its own", what))
		return nil, nil
	}
	at := time.Unix(max(secs.Seconds, 0), 0).UTC()
	return &at, nil
}

// mainTime is that of a context that was fetched, or came as an archive. A folder has none.
func (bd *build) mainTime(ctx context.Context) (timeRecord, error) {
	switch {
	case bd.main.repo.Remote != "":
		return bd.commitTime(ctx, bd.main.repo)
	case bd.main.rec.Digest != "":
		return bd.fileTime(ctx, bd.main.rec)
	case bd.unpacked:
		return newestFile(bd.opt.Context)
	}
	return timeRecord{None: true}, nil
}

func (bd *build) contextTime(ctx context.Context, name string) (timeRecord, error) {
	if !isAddress(bd.opt.Contexts[name]) {
		return timeRecord{None: true}, nil
	}
	_, far, err := bd.contextTree(ctx, name)
	switch {
	case err != nil:
		return timeRecord{}, err
	case far.repo.Remote != "":
		return bd.commitTime(ctx, far.repo)
	}
	return bd.fileTime(ctx, far.rec)
}

func (bd *build) sourceTime(ctx context.Context, from stages.Epoch) (timeRecord, error) {
	if from.Git {
		repo, err := bd.gitSource(ctx, from.URL, from.Checksum, nil)
		if err != nil {
			return timeRecord{}, err
		}
		return bd.commitTime(ctx, repo)
	}
	rec, err := bd.fetchURL(ctx, from.URL, from.Checksum)
	if err != nil {
		return timeRecord{}, err
	}
	return bd.fileTime(ctx, rec)
}

// commitTime never changes, so it is fetched once.
func (bd *build) commitTime(ctx context.Context, repo gitSource) (rec timeRecord, err error) {
	key := timeKey("git " + repo.rev.Commit)
	if _, ok, err := bd.cache.Lookup(key, &rec); ok && err == nil {
		return rec, nil
	}
	if err := bd.reach("fetch " + repo.Remote); err != nil {
		return rec, err
	}
	_, dir, err := bd.tempFolder()
	if err != nil {
		return rec, err
	}
	if err := bd.remote.GitFetch(ctx, repo.Git, repo.rev, dir, repo.auth, false); err != nil {
		return rec, err
	}
	if rec.Seconds, err = bd.remote.GitTime(ctx, repo.Git, repo.rev.Commit, dir); err != nil {
		return rec, err
	}
	return rec, bd.cache.Put(key, "time", rec)
}

// fileTime is when a server says that a file was changed, or the time of the newest file in it.
func (bd *build) fileTime(ctx context.Context, file httpRecord) (rec timeRecord, err error) {
	if !file.Modified.IsZero() {
		return timeRecord{Seconds: file.fileTime().Unix()}, nil
	}
	key := timeKey("http " + file.Digest.String())
	if _, ok, err := bd.cache.Lookup(key, &rec); ok && err == nil {
		return rec, nil
	}
	if rec, err = bd.archiveTime(ctx, file.Digest); err != nil {
		return rec, err
	}
	return rec, bd.cache.Put(key, "time", rec)
}

// archiveTime looks through an archive. What is none, or is broken, has no time.
func (bd *build) archiveTime(ctx context.Context, blob digest.Digest) (timeRecord, error) {
	none := timeRecord{None: true}
	f, err := bd.store.OpenVerified(ctx, blob)
	if err != nil {
		return none, err
	}
	defer f.Close()
	if is, err := layer.IsArchive(f); err != nil || !is {
		return none, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return none, err
	}
	r, err := layer.Decompress(f)
	if err != nil {
		return none, nil //nolint:nilerr // broken
	}
	defer r.Close()
	newest := none
	for tr := tar.NewReader(io.LimitReader(r, maxScanned)); ; {
		h, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			return newest, nil
		case err != nil:
			return none, nil //nolint:nilerr // broken
		case ctx.Err() != nil:
			return none, context.Cause(ctx)
		case h.Typeflag == tar.TypeReg:
			newest = newest.or(h.ModTime)
		}
	}
}

// or is the later of two times.
func (t timeRecord) or(other time.Time) timeRecord {
	if t.None || other.Unix() > t.Seconds {
		return timeRecord{Seconds: other.Unix()}
	}
	return t
}

// newestFile is the time of the newest file in a folder that was unpacked from an archive.
func newestFile(dir string) (timeRecord, error) {
	newest := timeRecord{None: true}
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			newest = newest.or(info.ModTime())
		}
		return err
	})
	return newest, err
}
