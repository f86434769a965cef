package buildcontext

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"gobuild/internal/rescue"
)

// SelectionDigest stands for the content of a selection.
type SelectionDigest struct {
	Digest      digest.Digest
	Files       []FileDigest // sorted by path; for messages, the Digest covers all
	Truncated   bool         // Files has not all of them
	NewestMtime time.Time    // of all entries; zero when there are none

	stamp [sha256.Size]byte // of what stat said of each entry
}

// FileDigest is one entry of a selection. Paths are relative to the source;
// when the selection has several, they begin with the source's name.
// Directories end in "/" and have the digest of their own attributes.
type FileDigest struct {
	Path   string
	Digest digest.Digest // of attributes and content
	Mode   uint32
	Size   int64
}

// Digest computes what a step's key needs to know of a selection (I5, I6).
//
// In: type, mode with setuid, setgid and sticky, uid, gid, size of files, link
// target, device numbers, kept xattrs (security.capability and all outside
// "security." and "system."), content; names below the match; the match's Name
// and Parent and the attributes of the parent directories. Out: times, inode
// numbers, link counts, the name of a directory that is merged, the attributes
// of the root of the tree, whatever is ignored, excluded, or a socket.
//
// An entry whose stat is as remembered is not read.
func (t *Tree) Digest(ctx context.Context, s *Selection, excludes []string) (SelectionDigest, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d := &digester{t: t, many: countMatches(s) > 1, sum: sha256.New(), stamp: sha256.New(), work: make(chan *job)}
	d.start(cancel)
	err := rescue.Do(func() error { return d.selection(ctx, s, excludes) }) // the workers end in any case
	close(d.work)
	d.workers.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return SelectionDigest{}, cause
	}
	if err != nil {
		return SelectionDigest{}, err
	}
	return d.result(), nil
}

// Unchanged compares the tree with what stat said of it when d was computed,
// without reading content: ErrChanged when an entry differs, is new or gone.
// Called after a copy it proves that the copy and the key are about the same bytes.
func (t *Tree) Unchanged(ctx context.Context, s *Selection, excludes []string, d SelectionDigest) error {
	sum := sha256.New()
	for _, src := range s.Sources {
		for _, m := range src.Matches {
			visit := func(e Entry) error {
				stampEntry(sum, e)
				return nil
			}
			if err := t.WalkParents(m, visit); err != nil {
				return err
			}
			if err := t.Walk(ctx, m, excludes, visit); err != nil {
				return err
			}
		}
	}
	if [sha256.Size]byte(sum.Sum(nil)) != d.stamp {
		return fmt.Errorf("source: %w", ErrChanged)
	}
	return nil
}

// stampEntry adds what would change if the entry did. A directory's times change with names
// that are ignored too, so they do not count.
func stampEntry(h hash.Hash, e Entry) {
	i := e.Info
	if i.IsDir() {
		i.Mtime, i.ctime, i.Size = unix.Timespec{}, unix.Timespec{}, 0
	}
	f := fingerprintOf(&i)
	_, _ = h.Write(f[:])
	_, _ = io.WriteString(h, e.Rel)
	_, _ = h.Write([]byte{0})
}

func countMatches(s *Selection) int {
	n := 0
	for _, src := range s.Sources {
		n += len(src.Matches)
	}
	return n
}

// digester folds entries into one hash in the order of the walk, while some
// workers read files ahead. The queue between the two is bounded.
type digester struct {
	t       *Tree
	many    bool
	sum     hash.Hash // of the selection
	stamp   hash.Hash
	work    chan *job
	workers sync.WaitGroup

	match  Match
	queue  []*job // entries not folded yet, in order
	dirs   []level
	files  []FileDigest
	more   bool
	newest time.Time
}

// level is a directory whose children are being folded.
type level struct {
	name string
	sum  hash.Hash
}

// job is one entry on its way into the hash.
type job struct {
	rel    string
	depth  int // of the path below the match; 0 the match itself
	name   string
	info   Info
	print  fingerprint
	digest [sha256.Size]byte
	file   int   // open, to be read by a worker
	entry  Entry // with Dir and Xattrs invalid
	header []byte
	done   chan struct{} // nil: digest is known
	err    error
}

func (d *digester) start(cancel context.CancelCauseFunc) {
	for range hashWorkers {
		d.workers.Go(func() {
			buf := make([]byte, 128<<10)
			for j := range d.work {
				if j.err = rescue.Do(func() error { return d.hashFile(j, buf) }); j.err != nil {
					cancel(j.err)
				}
				close(j.done)
			}
		})
	}
}

func (d *digester) selection(ctx context.Context, s *Selection, excludes []string) error {
	d.text("selection", len(s.Sources))
	for _, src := range s.Sources {
		d.text("source", len(src.Matches))
		for _, m := range src.Matches {
			if err := d.oneMatch(ctx, m, excludes); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *digester) text(word string, n int) { fmt.Fprintf(d.sum, "%s %d\n", word, n) }

func (d *digester) oneMatch(ctx context.Context, m Match, excludes []string) error {
	d.match = m
	name := m.Name
	if m.Info.IsDir() && m.base == "" {
		name = "" // only its contents are copied
	}
	writeField(d.sum, []byte(m.Parent))
	writeField(d.sum, []byte(name))
	err := d.t.WalkParents(m, func(e Entry) error {
		j, err := d.job(e)
		if err != nil {
			return err
		}
		stampEntry(d.stamp, e)
		_, _ = d.sum.Write(j.digest[:])
		return nil
	})
	if err != nil {
		return err
	}
	err = d.t.Walk(ctx, m, excludes, func(e Entry) error {
		j, err := d.job(e)
		if err != nil {
			return err
		}
		stampEntry(d.stamp, e)
		return d.push(j)
	})
	if err != nil {
		return err
	}
	if err := d.drain(0); err != nil {
		return err
	}
	d.closeLevels(0)
	return nil
}

// job looks the entry up, and starts reading it when it is not known.
func (d *digester) job(e Entry) (*job, error) {
	j := &job{rel: e.Rel, name: e.Name, info: e.Info, print: fingerprintOf(&e.Info)}
	if e.Rel != "" {
		j.depth = 1 + strings.Count(e.Rel, "/")
	}
	if d.t.stats != nil {
		if sum, ok := d.t.stats.lookup(j.print); ok {
			j.digest = sum
			return j, nil
		}
	}
	began := d.t.opt.Now()
	xattrs, err := e.Xattrs()
	if err != nil {
		return nil, err
	}
	j.header = header(e, xattrs)
	if !e.Info.IsRegular() {
		j.digest = sha256.Sum256(j.header)
		d.remember(j, began)
		return j, nil
	}
	j.file, err = e.OpenFD()
	if err != nil {
		return nil, err
	}
	j.entry = Entry{Path: e.Path, Info: e.Info}
	j.done = make(chan struct{})
	d.work <- j
	return j, nil
}

func (d *digester) remember(j *job, began time.Time) {
	if d.t.stats != nil {
		d.t.stats.remember(&j.info, j.print, j.digest, began)
	}
}

// hashFile reads a file to its end. It closes the file.
func (d *digester) hashFile(j *job, buf []byte) error {
	defer unix.Close(j.file)
	began := d.t.opt.Now()
	d.t.hashed.Add(1)
	content := sha256.New()
	// One byte more than the size shows a file that grew; one that grows without end is not read on.
	n, err := io.CopyBuffer(struct{ io.Writer }{content}, io.LimitReader(fdReader(j.file), j.info.Size+1), buf)
	if err != nil {
		return &fs.PathError{Op: "read", Path: j.entry.Path, Err: err}
	}
	if n != j.info.Size {
		return fmt.Errorf("%s: %w", j.entry.Path, ErrChanged)
	}
	if err := j.entry.CheckUnchangedFD(j.file); err != nil {
		return err
	}
	h := sha256.New()
	_, _ = h.Write(j.header)
	_, _ = h.Write(content.Sum(nil))
	j.digest = [sha256.Size]byte(h.Sum(nil))
	d.remember(j, began)
	return nil
}

// fdReader reads a descriptor.
type fdReader int

func (r fdReader) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(int(r), p)
		switch {
		case err == unix.EINTR: //nolint:errorlint // raw errno on the hot path
			continue
		case err != nil:
			return 0, err
		case n == 0 && len(p) > 0:
			return 0, io.EOF
		}
		return n, nil
	}
}

// header spells the attributes of an entry; a file's content digest follows it.
func header(e Entry, xattrs map[string][]byte) []byte {
	i := &e.Info
	b := make([]byte, 0, 128)
	b = append(b, "entry 1\n"...)
	b = binary.LittleEndian.AppendUint32(b, i.Mode)
	b = binary.LittleEndian.AppendUint32(b, i.UID)
	b = binary.LittleEndian.AppendUint32(b, i.GID)
	switch i.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		b = binary.LittleEndian.AppendUint64(b, uint64(i.Size))
	case unix.S_IFLNK:
		b = appendField(b, []byte(e.Link))
	case unix.S_IFCHR, unix.S_IFBLK:
		b = binary.LittleEndian.AppendUint64(b, i.Rdev)
	}
	names := make([]string, 0, len(xattrs))
	for name := range xattrs {
		names = append(names, name)
	}
	slices.Sort(names)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(names)))
	for _, name := range names {
		b = appendField(appendField(b, []byte(name)), xattrs[name])
	}
	return b
}

// appendField writes the length first, so that no two lists of fields are spelled alike.
func appendField(b, field []byte) []byte {
	return append(binary.LittleEndian.AppendUint64(b, uint64(len(field))), field...)
}

func writeField(w io.Writer, field []byte) { _, _ = w.Write(appendField(nil, field)) }

// push queues an entry and folds those at the front that are ready.
func (d *digester) push(j *job) error {
	if j.done == nil && len(d.queue) == 0 {
		d.fold(j)
		return nil
	}
	d.queue = append(d.queue, j)
	return d.drain(maxPending)
}

// drain folds from the front: all that is ready, and waits as long as more than limit are left.
func (d *digester) drain(limit int) error {
	n := 0
	defer func() {
		d.queue = append(d.queue[:0], d.queue[n:]...)
	}()
	for ; n < len(d.queue); n++ {
		j := d.queue[n]
		if j.done != nil {
			if len(d.queue)-n > limit {
				<-j.done
			} else {
				select {
				case <-j.done:
				default:
					return nil
				}
			}
			if j.err != nil {
				return j.err
			}
		}
		d.fold(j)
	}
	return nil
}

// fold adds an entry to its directory. A directory's digest is that of its
// header, then the names and digests of its entries in order.
func (d *digester) fold(j *job) {
	d.closeLevels(j.depth)
	d.list(j)
	if t := asTime(j.info.Mtime); t.After(d.newest) {
		d.newest = t
	}
	if !j.info.IsDir() {
		d.addChild(j.name, 'f', j.digest[:])
		return
	}
	h := sha256.New()
	if j.depth > 0 || d.match.Path != "/" { // the root's own attributes are not part of a context
		_, _ = h.Write(j.digest[:])
	}
	d.dirs = append(d.dirs, level{name: j.name, sum: h})
}

// closeLevels ends the directories at and below a depth.
func (d *digester) closeLevels(depth int) {
	for len(d.dirs) > depth {
		n := len(d.dirs) - 1
		l := d.dirs[n]
		d.dirs = d.dirs[:n]
		d.addChild(l.name, 'd', l.sum.Sum(nil))
	}
}

func (d *digester) addChild(name string, kind byte, sum []byte) {
	to := d.sum
	if n := len(d.dirs); n > 0 {
		to = d.dirs[n-1].sum
		writeField(to, []byte(name))
	}
	_, _ = to.Write([]byte{kind})
	_, _ = to.Write(sum)
}

// list keeps an entry's digest for messages.
func (d *digester) list(j *job) {
	if len(d.files) >= maxFileDigests {
		d.more = true
		return
	}
	name := j.rel
	prefix := d.match.Name
	if d.match.Parent != "" {
		prefix = d.match.Parent + "/" + prefix
	}
	if d.many || !d.match.Info.IsDir() || d.match.base != "" {
		name = strings.TrimSuffix(prefix+"/"+name, "/")
	}
	if j.info.IsDir() {
		name += "/"
	}
	d.files = append(d.files, FileDigest{
		Path: name, Digest: digest.NewDigestFromBytes(digest.SHA256, j.digest[:]), Mode: j.info.Mode, Size: j.info.Size,
	})
}

func (d *digester) result() SelectionDigest {
	slices.SortStableFunc(d.files, func(a, b FileDigest) int { return strings.Compare(a.Path, b.Path) })
	return SelectionDigest{
		Digest: digest.NewDigest(digest.SHA256, d.sum), Files: d.files, Truncated: d.more, NewestMtime: d.newest,
		stamp: [sha256.Size]byte(d.stamp.Sum(nil)),
	}
}
