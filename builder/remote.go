package builder

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"gobuild/cache"
	buildcontext "gobuild/context"
	"gobuild/remote"
	"gobuild/snapshot"
	"gobuild/stages"
	"gobuild/store"
)

// httpRecord is what the cache keeps of a URL: which blob its bytes are, and how the server knows them again.
type httpRecord struct {
	URL      string        `json:"url"` // without its query, for people
	Name     string        `json:"name"`
	Digest   digest.Digest `json:"digest"`
	Size     int64         `json:"size"`
	ETag     string        `json:"etag,omitempty"`
	Changed  string        `json:"lastModified,omitempty"` // as the server wrote it
	Modified time.Time     `json:"modified,omitzero"`
}

// fileTime is when the file was changed: the epoch, where the server does not say (FEATURES B56).
func (r httpRecord) fileTime() time.Time {
	if r.Modified.IsZero() || r.Modified.Year() > 2200 { // beyond what file systems store
		return time.Unix(0, 0)
	}
	return r.Modified
}

// httpKey has the URL as a hash beside its harmless part: a query may be a secret (HOSTILE R-18).
func httpKey(url, checksum string) cache.Key {
	return cache.NewKey("http").Add("url", remote.Redact(url)).Add("id", digest.FromString(url).String()).Add("checksum", checksum).Key()
}

// remoteJob is ADD of URLs (FEATURES B56). Its key has the digests of the files, so that another Last-Modified alone
// changes nothing (I5, I6).
func (sr *stageRun) remoteJob(ctx context.Context, s state, step *stages.Step) (*job, error) {
	c := step.Copy
	k, err := sr.copyKeyHead(ctx, s, c)
	if err != nil {
		return nil, err
	}
	var files []httpRecord // empty with a checksum: then nothing is fetched before it is needed
	for i, url := range c.URLs {
		content := c.Checksum
		if content == "" {
			rec, err := sr.fetchURL(ctx, url, "")
			if err != nil {
				return nil, err
			}
			files, content = append(files, rec), rec.Digest.String()
		} else if err := sr.lock.note(lockedURL(url), content); err != nil {
			return nil, err
		}
		k.Add("source", strconv.Itoa(i), remote.Name(url)).Add("file:"+remote.Name(url), content)
	}
	exec := func(ctx context.Context, work *snapshot.Work) (usageOf, error) {
		return usageOf{}, sr.execRemote(ctx, c, files, work)
	}
	return &job{key: k.Key(), verb: "ADD", alone: c.Link, exec: exec, close: func() {}}, nil
}

func (sr *stageRun) execRemote(ctx context.Context, c *stages.Copy, files []httpRecord, work *snapshot.Work) error {
	if c.Checksum != "" {
		rec, err := sr.fetchURL(ctx, c.URLs[0], c.Checksum)
		if err != nil {
			return err
		}
		files = []httpRecord{rec}
	}
	dst, err := work.Root()
	if err != nil {
		return err
	}
	cp, err := newCopier(ctx, dst, c, sr.opt.SourceDateEpoch, sr.cfg.Now())
	if err != nil {
		return err
	}
	if err := cp.checkSeveral(&buildcontext.Selection{Sources: make([]buildcontext.Source, len(files))}); err != nil {
		return err
	}
	for _, rec := range files {
		if err := sr.addRemote(ctx, cp, rec); err != nil {
			return fmt.Errorf("add %s: %w", rec.URL, err)
		}
	}
	return cp.finish()
}

func (sr *stageRun) addRemote(ctx context.Context, cp *copier, rec httpRecord) error {
	f, err := sr.store.OpenVerified(ctx, rec.Digest)
	if err != nil {
		return err
	}
	defer f.Close()
	if cp.c.Unpack != nil && *cp.c.Unpack {
		if unpacked, err := cp.extract(ctx, f); unpacked || err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
	return cp.download(f, rec)
}

// download writes a fetched file as B56 says: readable by its owner alone, from when the server says it is.
func (cp *copier) download(f *os.File, rec httpRecord) error {
	mtime := unix.NsecToTimespec(rec.fileTime().UnixNano())
	target, err := cp.fileTarget(rec.Name, mtime)
	if err != nil {
		return err
	}
	fd, name, err := cp.parent(target)
	if err != nil {
		return err
	}
	if strings.HasPrefix(name, ".wh.") {
		return usage{errors.New("a name that starts with .wh. cannot be stored in a layer, where it would mean a deletion")}
	}
	uid, gid := 0, 0
	if cp.owner != nil {
		uid, gid = cp.owner.uid, cp.owner.gid
	}
	return cp.create(fd, name, func(out int) error {
		if err := pour(cp.ctx, out, int(f.Fd()), rec.Size, make([]byte, 256<<10)); err != nil {
			return err
		}
		if err := cp.dst.Owners().Set(out, uid, gid); err != nil {
			return err
		}
		if err := unix.Fchmod(out, cp.mode(0o600, false)); err != nil {
			return err
		}
		return futimens(out, mtime)
	})
}

// fetchURL brings the bytes of a URL into the store, and compares them with the lock file.
func (bd *build) fetchURL(ctx context.Context, url, checksum string) (httpRecord, error) {
	return bd.fetchAtMost(ctx, url, checksum, 0)
}

// fetchAtMost is fetchURL with a bound of its own on what is sent.
func (bd *build) fetchAtMost(ctx context.Context, url, checksum string, most int64) (httpRecord, error) {
	rec, err := bd.fetchAnew(ctx, url, checksum, most)
	if err != nil || checksum != "" {
		return rec, err
	}
	return rec, bd.lock.note(lockedURL(url), rec.Digest.String())
}

// fetchAnew asks nobody with a checksum that is there; otherwise the server is asked, each time, whether what is there is still
// right.
func (bd *build) fetchAnew(ctx context.Context, url, checksum string, most int64) (httpRecord, error) {
	key := httpKey(url, checksum)
	lock, err := bd.cache.Lock(ctx, key, bd.waiting("fetching "+remote.Redact(url)))
	if err != nil {
		return httpRecord{}, fmt.Errorf("wait for %s: %w", remote.Redact(url), err)
	}
	defer lock.Release()
	known, have := bd.knownURL(key)
	if !have && checksum != "" {
		known, have = bd.knownURL(httpKey(url, "")) // the same bytes may have come without a checksum
		have = have && known.Digest.String() == checksum
	}
	if have && checksum != "" {
		return known, nil
	}
	if have && bd.cfg.Offline {
		bd.notice(fmt.Sprintf("--offline: %s is taken as it was when it was fetched", remote.Redact(url)))
		return known, nil
	}
	if err := bd.reach("fetch " + remote.Redact(url)); err != nil {
		return httpRecord{}, err
	}
	in := &intake{store: bd.store, held: bd.holds.blobs, checksum: digest.Digest(checksum)}
	in.room = func(size int64) (func(), error) {
		if size < 0 {
			return bd.watchRoom(ctx), nil
		}
		return bd.reserve(ctx, size, "the file of "+remote.Redact(url))
	}
	defer in.abort()
	req := remote.Request{URL: url, Max: most, Open: in.open, Progress: bd.progressOf("fetch " + remote.Redact(url)), Waiting: func(why error, wait time.Duration) {
		bd.notice(fmt.Sprintf("%s could not be fetched (%v): trying again in %s", remote.Redact(url), why, wait.Round(time.Second)))
	}}
	if have {
		req.Known = remote.Validators{ETag: known.ETag, LastModified: known.Changed}
	}
	res, err := bd.remote.Fetch(ctx, req)
	if err != nil {
		return httpRecord{}, err
	}
	if res.NotModified {
		return known, nil
	}
	rec := httpRecord{URL: remote.Redact(url), Name: remote.Name(url), ETag: res.ETag, Changed: res.LastModified, Modified: res.Modified}
	if rec.Digest, rec.Size, err = in.commit(rec.URL); err != nil {
		return httpRecord{}, err
	}
	if err := bd.cache.Put(key, "http "+rec.URL, rec); err != nil {
		return httpRecord{}, fmt.Errorf("remember %s: %w", rec.URL, err)
	}
	return rec, nil
}

// knownURL finds what a URL gave before, if its bytes are still in the store.
func (bd *build) knownURL(key cache.Key) (rec httpRecord, ok bool) {
	_, found, err := bd.cache.Lookup(key, &rec)
	if err != nil || !found {
		return rec, false // a damaged record is a miss
	}
	size, ok, err := bd.hasBlob(rec.Digest)
	return rec, err == nil && ok && size == rec.Size
}

func (bd *build) progressOf(what string) func(done, total int64) {
	return func(done, total int64) {
		bd.em.emit(Event{Type: EventTransfer, Text: what, Bytes: done, Total: max(total, 0)})
	}
}

// intake takes one download into the store, whose blobs are named by sha256, and checks it against any checksum.
type intake struct {
	store    *store.Store
	held     *store.Pins
	checksum digest.Digest // "" none
	room     func(size int64) (release func(), err error)
	release  func() // of the room; nil before
	w        *store.Writer
	sum      digest.Digester
}

// open begins with what may have so many bytes, -1 for nobody knows.
func (in *intake) open(size int64) (_ io.Writer, err error) {
	in.abort()
	if in.release, err = in.room(size); err != nil {
		return nil, err
	}
	if in.w, err = in.store.Writer(); err != nil {
		return nil, err
	}
	if in.checksum == "" {
		return in.w, nil
	}
	in.sum = in.checksum.Algorithm().Digester()
	return io.MultiWriter(in.w, in.sum.Hash()), nil
}

func (in *intake) commit(shown string) (digest.Digest, int64, error) {
	if in.checksum != "" && in.sum.Digest() != in.checksum {
		return "", 0, &hinted{
			err:  fmt.Errorf("fetch %s: %w: it has %s, and --checksum wants %s", shown, store.ErrDigest, in.sum.Digest(), in.checksum),
			hint: "find out why it changed; if it is meant to be the new one, write --checksum=" + in.sum.Digest().String(),
		}
	}
	if _, _, err := in.held.Has(in.w.Digest()); err != nil {
		return "", 0, err
	}
	return in.w.CommitAny()
}

// abort drops what was not committed; a file that stays behind is swept.
func (in *intake) abort() {
	if in.release != nil {
		in.release()
	}
	if in.w != nil {
		_ = in.w.Abort()
	}
}
