package snapshot

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"sync"

	"gobuild/internal/filelock"
	"gobuild/internal/rescue"
)

// This file makes and removes what a layer in the making needs beside its own files, where nobody waits for it: a file system without
// a journal looks at everything that was removed lately whenever it makes a file, so that removing a few files with each layer costs
// more than to make it.

// begun is a layer in the making of which nothing is known yet.
type begun struct {
	home string   // host path of work/<random>, with an empty tree
	lock *os.File // the home directory, held by flock while this process lives
	work string   // host path of an unused overlay work directory
}

// begin makes one.
func (s *Store) begin() (*begun, error) {
	home, lock, err := s.scratch()
	if err != nil {
		return nil, err
	}
	b := &begun{home: home, lock: lock}
	if err = b.fill(s); err != nil {
		return nil, errors.Join(err, b.discard())
	}
	return b, nil
}

func (b *begun) fill(s *Store) (err error) {
	if err := os.Mkdir(filepath.Join(b.home, fsName), 0o755); err != nil {
		return err
	}
	// Empty until the layer is committed, and as such denied by everybody.
	meta, err := os.OpenFile(filepath.Join(b.home, metaName), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if err := meta.Close(); err != nil {
		return err
	}
	b.work, err = s.used.make(s)
	return err
}

func (b *begun) discard() error { return errors.Join(removeTree(b.home), b.lock.Close()) }

// spares keeps the next layer ready.
type spares struct {
	making sync.WaitGroup

	mu     sync.Mutex
	wanted bool   // one is being made, or there
	ready  *begun // nil: none
}

// Prepare has what New needs made in the background, when another layer will soon be begun. Close waits for it.
func (s *Store) Prepare() {
	p := &s.spares
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.wanted {
		return
	}
	p.wanted = true
	p.making.Go(func() {
		var b *begun
		// An error comes again when New makes its own.
		_ = rescue.Do(func() (err error) {
			b, err = s.begin()
			return err
		})
		p.mu.Lock()
		defer p.mu.Unlock()
		p.ready, p.wanted = b, b != nil
	})
}

// take gives the one that is ready, or makes one.
func (p *spares) take(s *Store) (*begun, error) {
	p.mu.Lock()
	b := p.ready
	if b != nil {
		p.ready, p.wanted = nil, false
	}
	p.mu.Unlock()
	if b != nil {
		return b, nil
	}
	return s.begin()
}

func (p *spares) close() error {
	p.making.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	b := p.ready
	if b == nil {
		return nil
	}
	p.ready, p.wanted = nil, false
	return b.discard()
}

// workDirs are the work directories of overlays, together in one directory of this Store. They are in no layer.
type workDirs struct {
	mu   sync.Mutex
	home string   // "": not made yet
	lock *os.File // as of a layer in the making: while it is held, no Sweep takes them
	next int
	done []string // of layers that are committed or discarded
}

// make makes one. Each overlay gets its own: a volatile mount leaves a mark in it and refuses
// the directory a second time (overlayfs.rst, "Volatile mount").
func (d *workDirs) make(s *Store) (string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	dir, err := d.makeNext()
	if errors.Is(err, fs.ErrNotExist) { // there is no home yet, or somebody has removed it
		if err := d.begin(s); err != nil {
			return "", err
		}
		dir, err = d.makeNext()
	}
	if err != nil {
		return "", err
	}
	return dir, os.Chmod(dir, 0o700)
}

func (d *workDirs) makeNext() (string, error) {
	if d.home == "" {
		return "", fs.ErrNotExist
	}
	d.next++
	dir := filepath.Join(d.home, strconv.Itoa(d.next))
	return dir, os.Mkdir(dir, 0o700)
}

func (d *workDirs) begin(s *Store) error {
	home, lock, err := s.scratch()
	if err != nil {
		return err
	}
	if d.lock != nil {
		_ = d.lock.Close() // of a directory that has no name any more
	}
	d.home, d.lock = home, lock
	return nil
}

// over takes note of those that nobody needs any more. They go with close, or when there are many.
func (d *workDirs) over(dirs []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.done = append(d.done, dirs...)
	if len(d.done) < maxDone {
		return
	}
	for _, dir := range d.done {
		_ = removeTree(dir) // close finds what could not be removed, and says why
	}
	d.done = nil
}

func (d *workDirs) close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.home == "" {
		return nil
	}
	err := errors.Join(removeTree(d.home), d.lock.Close())
	d.home, d.lock, d.done = "", nil, nil
	return err
}

// Close removes what was kept for layers in the making, of which there must be none any more. The Store may be used again.
func (s *Store) Close() error {
	if err := errors.Join(s.spares.close(), s.used.close()); err != nil {
		return fmt.Errorf("close snapshots: %w", err)
	}
	return nil
}

// scratch makes a directory in the work directory and locks it, so that no Sweep takes it.
func (s *Store) scratch() (string, *os.File, error) {
	for range maxNames {
		home := filepath.Join(s.workDir(), randomName())
		err := os.Mkdir(home, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", nil, err
		}
		if err := os.Chmod(home, 0o700); err != nil && !errors.Is(err, fs.ErrNotExist) { // whatever the umask
			return "", nil, err
		}
		lock, err := openDir(home)
		if errors.Is(err, fs.ErrNotExist) {
			continue // swept before we had the lock
		}
		if err != nil {
			return "", nil, err
		}
		mine, err := filelock.Try(lock, filelock.Exclusive)
		if err == nil && mine && sameFile(lock, home) {
			return home, lock, nil
		}
		_ = lock.Close()
		if err != nil {
			return "", nil, err
		}
	}
	return "", nil, fmt.Errorf("no free name in %s: %w", s.workDir(), fs.ErrExist)
}
