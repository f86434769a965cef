package layer

import (
	"context"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"gobuild/internal/rootfs"
)

const (
	// Goroutines that open and read small files ahead of the pipeline. More
	// than two were not faster on two cores nor on more: hashing is next.
	readers = 2
	// A batch ends at a chunk of content, or earlier at these: entries bound
	// the time until the pipeline gets something, directories the descriptors
	// that batches hold.
	batchEntries = 256
	batchDirs    = 8
	// Batches between the walk and the pipeline.
	batchQueue = 4
	// The file is streamed, not read into a batch.
	largeFile = chunkSize / 2
	// A tar ends in two blocks of zeros.
	tarEnd = 2 * blockSize
)

// Pack writes the layer of upper to w in one pass: tar, both digests and
// compression. With lower, upper is an overlay upper directory (character
// devices 0:0 and opaque marks are deletions) and lower the merged tree below
// it; without, upper is a plain tree that is stored whole. Neither tree may
// change meanwhile: what is seen to change is ErrChanged. Errors name the path;
// the caller says which layer it is of.
func Pack(ctx context.Context, w io.Writer, upper, lower *rootfs.Root, opt PackOptions) (Packed, error) {
	return pack(ctx, w, upper, lower, opt, false)
}

// Export writes a whole tree as a plain tar. Unlike in a layer, names that
// start with .wh. are names like any other. Epoch clamps times as in
// PackOptions.
func Export(ctx context.Context, w io.Writer, root *rootfs.Root, epoch *time.Time) error {
	opt := PackOptions{Compression: None, Epoch: epoch}
	if _, err := pack(ctx, w, root, nil, opt, true); err != nil {
		return fmt.Errorf("export tree: %w", err)
	}
	return nil
}

// Recompress reads a layer of any compression and writes it in another. What is
// in the layer is not looked at, so Entries stays 0.
func Recompress(ctx context.Context, w io.Writer, r io.Reader, opt PackOptions) (Packed, error) {
	opt, err := opt.checked()
	if err != nil {
		return Packed{}, err
	}
	group, ctx := errgroup.WithContext(ctx)
	b := newBlob(ctx, group, w, opt)
	group.Go(guard(func() error {
		defer b.end()
		return b.copyAll(r)
	}))
	if err := group.Wait(); err != nil {
		return Packed{}, err
	}
	return b.result(), nil
}

func (b *blob) copyAll(r io.Reader) error {
	in, err := openSource(b.ctx, r, b.opt.Limits, false)
	if err != nil {
		return err
	}
	defer in.Close()
	for {
		c, err := take(b.ctx, b.stream)
		if err != nil {
			return err
		}
		n, err := io.ReadFull(in, c.data[:chunkSize])
		c.data = c.data[:n]
		if n > 0 {
			b.put(c)
		}
		if err == io.EOF || err == io.ErrUnexpectedEOF { //nolint:errorlint // ReadFull's own two
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func pack(ctx context.Context, w io.Writer, upper, lower *rootfs.Root, opt PackOptions, export bool) (Packed, error) {
	opt, err := opt.checked()
	if err != nil {
		return Packed{}, err
	}
	group, ctx := errgroup.WithContext(ctx)
	b := newBlob(ctx, group, w, opt)
	bt := newBatcher(ctx)
	wk := newWalker(ctx, opt, bt.add)
	wk.plain = export
	group.Go(guard(func() error {
		defer bt.end()
		if err := wk.walk(upper, lower); err != nil {
			return err
		}
		return bt.flush()
	}))
	for range readers {
		group.Go(guard(func() error { return bt.read(opt) }))
	}
	group.Go(guard(func() error {
		defer b.end()
		return bt.deliver(b, opt)
	}))
	err = group.Wait()
	bt.discard()
	if err != nil {
		return Packed{}, err
	}
	p := b.result()
	p.Entries = wk.count
	return p, nil
}

// batch is a run of entries whose tar bytes a reader makes at once.
type batch struct {
	entries []*entry
	dirs    []*dirRef
	bytes   int64
	out     *chunk
	large   *entry // the last entry's content is streamed after the batch
	done    chan struct{}
	err     error
}

// batcher collects entries into batches. They reach the readers and, in order,
// the pipeline.
type batcher struct {
	ctx   context.Context //nolint:containedctx // of the one call that it is made for
	pool  chan *chunk
	work  chan *batch
	order chan *batch
	open  *batch // being filled with entries
	now   *batch // being delivered
}

func newBatcher(ctx context.Context) *batcher {
	return &batcher{
		ctx:   ctx,
		pool:  newPool(batchChunks),
		work:  make(chan *batch, batchQueue),
		order: make(chan *batch, batchQueue),
	}
}

func (bt *batcher) add(e *entry) error {
	if bt.open == nil {
		out, err := take(bt.ctx, bt.pool)
		if err != nil {
			return err
		}
		bt.open = &batch{out: out, done: make(chan struct{})}
	}
	b := bt.open
	b.entries = append(b.entries, e)
	b.bytes += blockSize
	if e.dir != nil {
		b.hold(e.dir)
		if e.size > largeFile {
			b.large = e
			return bt.flush()
		}
		b.bytes += e.size + blockSize
	}
	if b.bytes >= chunkSize-largeFile || len(b.entries) >= batchEntries || len(b.dirs) >= batchDirs {
		return bt.flush()
	}
	return nil
}

// hold keeps the directory open until the batch is read.
func (b *batch) hold(d *dirRef) {
	if n := len(b.dirs); n == 0 || b.dirs[n-1] != d {
		b.dirs = append(b.dirs, d.hold())
	}
}

func (b *batch) release() {
	for _, d := range b.dirs {
		d.drop()
	}
	b.dirs = nil
}

func (bt *batcher) flush() error {
	b := bt.open
	if b == nil {
		return nil
	}
	// To the pipeline first: a batch that a reader has must be waited for.
	if err := bt.send(bt.order, b); err != nil {
		return err
	}
	bt.open = nil
	return bt.send(bt.work, b)
}

func (bt *batcher) send(queue chan *batch, b *batch) error {
	select {
	case queue <- b:
		return nil
	case <-bt.ctx.Done():
		return context.Cause(bt.ctx)
	}
}

func (bt *batcher) end() {
	close(bt.work)
	close(bt.order)
}

// read is a reader's loop.
func (bt *batcher) read(opt PackOptions) error {
	for {
		select {
		case b, ok := <-bt.work:
			if !ok {
				return nil
			}
			b.err = b.fill(opt)
			close(b.done)
		case <-bt.ctx.Done():
			return context.Cause(bt.ctx)
		}
	}
}

// deliver passes finished batches on in order, and streams large files.
func (bt *batcher) deliver(b *blob, opt PackOptions) error {
	for {
		select {
		case next, ok := <-bt.order:
			if !ok {
				return bt.deliverEnd(b)
			}
			bt.now = next
			if err := bt.deliverOne(b, opt); err != nil {
				return err
			}
		case <-bt.ctx.Done():
			return context.Cause(bt.ctx)
		}
	}
}

func (bt *batcher) deliverOne(b *blob, opt PackOptions) error {
	next := bt.now
	select {
	case <-next.done:
	case <-bt.ctx.Done():
		return context.Cause(bt.ctx)
	}
	if next.err != nil {
		return next.err
	}
	if next.large != nil {
		if err := b.streamFile(next, opt); err != nil {
			return fmt.Errorf("%s: %w", next.large.name, err)
		}
	} else {
		b.put(next.out)
	}
	next.release()
	bt.now = nil
	return nil
}

// deliverEnd writes the two zero blocks that end a tar.
func (bt *batcher) deliverEnd(b *blob) error {
	c, err := take(bt.ctx, b.stream)
	if err != nil {
		return err
	}
	c.data = append(c.data, make([]byte, tarEnd)...)
	b.put(c)
	return nil
}

// discard closes what batches of a failed layer still hold open. All goroutines
// have ended: a reader may use a batch's directories until then.
func (bt *batcher) discard() {
	for _, b := range []*batch{bt.open, bt.now} {
		if b != nil {
			b.release()
		}
	}
	for b := range bt.order {
		b.release()
	}
}

// fill makes the tar bytes of a batch, but for the content of a large file.
func (b *batch) fill(opt PackOptions) error {
	for _, e := range b.entries {
		var err error
		switch {
		case e == b.large:
			continue
		case e.dir != nil:
			err = b.fillFile(e, opt)
		default:
			b.out.data, err = appendHeader(b.out.data, e)
		}
		opt.watchName(e)
		if err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
	}
	return nil
}

func (b *batch) fillFile(e *entry, opt PackOptions) error {
	fd, err := openContent(e, opt)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	buf, err := appendHeader(b.out.data, e)
	if err != nil {
		return err
	}
	start := len(buf)
	end := start + int(e.size)
	buf = grow(buf, int(e.size)+padding(e.size))
	n, err := readFull(fd, buf[start:end])
	if err != nil {
		return err
	}
	if err := checkSame(fd, e, int64(n)); err != nil {
		return err
	}
	opt.watch(e, buf[start:start+n])
	clear(buf[end:])
	b.out.data = buf
	return nil
}

// grow lengthens buf by n bytes of any value.
func grow(buf []byte, n int) []byte {
	if len(buf)+n <= cap(buf) {
		return buf[:len(buf)+n]
	}
	return append(buf, make([]byte, n)...)
}

// openContent opens a regular file as the walk saw it, and reads the attributes
// that its header needs.
func openContent(e *entry, opt PackOptions) (int, error) {
	fd, err := openat(e.dir.fd, e.base, unix.O_RDONLY, 0)
	if err != nil {
		return -1, err
	}
	e.pax, err = storedXattrs(fd, true, opt.UserXattrs)
	if err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// checkSame tells a file that was rewritten, replaced, cut or lengthened since
// the walk looked at it.
func checkSame(fd int, e *entry, got int64) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	if got != e.size || idOf(&st) != e.seen {
		return ErrChanged
	}
	return nil
}
