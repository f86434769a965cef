package buildcontext

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"gobuild/internal/rootfs"
)

// Options say how a tree is read. The zero value reads all of it, as owned by 0:0, and remembers nothing.
type Options struct {
	IgnoreFile string           // path of the ignore file in use, for messages
	Ignore     *Ignore          // nil: nothing is ignored
	StatCache  string           // file that remembers digests between builds; "" none
	Owner      bool             // keep owners (COPY --from a stage); false: every entry reads as 0:0 (C7)
	Now        func() time.Time // for the rule on racy timestamps; nil: time.Now
	Notice     func(string)     // told about what was left out; nil: silent. Called by one goroutine at a time
}

// Tree is a directory tree that instructions read. Its methods may be called
// by several goroutines at once; Close comes after all of them.
type Tree struct {
	root  *rootfs.Root
	own   bool // Close closes root
	opt   Options
	stats *statCache // nil: none

	noticeMu sync.Mutex // one notice at a time
	noticed  map[string]bool

	hashed  atomic.Int64 // files whose content was read
	special atomic.Bool  // a walk has met a socket or a FIFO
}

// Open opens a host directory, which may be reached through a symbolic link.
// Close the tree to write what was learned about it.
func Open(dir string, opt Options) (*Tree, error) {
	root, err := rootfs.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open context: %w", err)
	}
	t := FromRoot(root, opt)
	t.own = true
	return t, nil
}

// FromRoot reads a tree that is open already, a stage's file system for
// example. The root stays the caller's to close, after the tree.
func FromRoot(root *rootfs.Root, opt Options) *Tree {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	t := &Tree{root: root, opt: opt}
	if opt.StatCache != "" {
		t.stats = newStatCache(opt.StatCache, opt.Now)
	}
	return t
}

// Close writes the stat cache if it changed, and closes a root that Open
// opened. An error means that digests were not remembered: the build itself is
// as good as without it.
func (t *Tree) Close() error {
	var err error
	if t.stats != nil {
		err = t.stats.save()
	}
	if t.own {
		if cerr := t.root.Close(); err == nil {
			err = cerr
		}
	}
	return err
}

// Root is the tree as it lies on disk, ignored files included.
func (t *Tree) Root() *rootfs.Root { return t.root }

// Filtered says whether the ignore file can hide anything, that is, whether
// the tree as read may differ from the tree on disk.
func (t *Tree) Filtered() bool { return t.opt.Ignore.active() }

// Special says whether a walk, of Digest for example, has met a socket or a FIFO. Whoever is shown the tree as it lies on disk reaches
// the process at its other end, also where nothing can be written.
func (t *Tree) Special() bool { return t.special.Load() }

// notice tells the caller something once, however often the tree is walked.
func (t *Tree) notice(format string, args ...any) {
	if t.opt.Notice == nil {
		return
	}
	text := fmt.Sprintf(format, args...)
	t.noticeMu.Lock()
	defer t.noticeMu.Unlock()
	if t.noticed[text] || len(t.noticed) >= maxNotices {
		return
	}
	if t.noticed == nil {
		t.noticed = map[string]bool{}
	}
	t.noticed[text] = true
	t.opt.Notice(text)
}
