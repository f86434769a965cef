package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gobuild/cache"
	buildcontext "gobuild/context"
	"gobuild/internal/atomicfile"
	"gobuild/internal/filelock"
	"gobuild/internal/rootfs"
	"gobuild/sandbox"
	"gobuild/stages"
)

// mountSet is what the --mount flags of one RUN need, from the key to the end of the step (FEATURES B21-B26, I4).
type mountSet struct {
	sr      *stageRun
	mounts  []openMount
	cleanup []func()
	kinds   map[int]stages.MountType // of the mounts that prepare has added, by place
}

type openMount struct {
	stages.Mount
	src *sourceTree // of bind, and of a cache's first content; nil otherwise
}

func (sr *stageRun) openMounts(ctx context.Context, r *stages.Run) (*mountSet, error) {
	set := &mountSet{sr: sr}
	for _, m := range r.Mounts {
		om := openMount{Mount: m}
		if m.Type == stages.MountBind || m.Type == stages.MountCache && m.From.Kind != "" {
			src, err := sr.openSource(ctx, m.From)
			if err != nil {
				set.close()
				return nil, err
			}
			om.src = src
			set.cleanup = append(set.cleanup, src.close)
		}
		set.mounts = append(set.mounts, om)
	}
	return set, nil
}

func (set *mountSet) close() {
	for i := len(set.cleanup) - 1; i >= 0; i-- {
		set.cleanup[i]()
	}
	set.cleanup = nil
}

func (m *openMount) query() buildcontext.Query {
	return buildcontext.Query{Paths: []string{m.Path}, FollowNamed: true}
}

// addTo writes a line for each mount: what the step can see of it, never what a cache or secret holds.
func (set *mountSet) addTo(ctx context.Context, k *cache.KeyBuilder) error {
	for _, m := range set.mounts {
		words := []string{string(m.Type), strconv.FormatBool(m.ReadOnly)}
		switch m.Type {
		case stages.MountBind, stages.MountCache:
			if m.src != nil {
				found, err := m.src.contents(ctx, m.query())
				if err != nil {
					return fmt.Errorf("mount %s: %w", m.Target, err)
				}
				words = append(words, found.Digest.String())
			}
		case stages.MountTmpfs:
			words = append(words, strconv.FormatInt(m.Size, 10))
		case stages.MountSecret, stages.MountSSH:
			words = append(words, m.ID, strconv.FormatBool(m.Required), number(m.Mode), number(m.UID), number(m.GID), m.Env)
		}
		k.Add("mount:"+m.Target, words...)
	}
	return nil
}

// unchanged checks, after the step, that the folders it saw are what its key says.
func (set *mountSet) unchanged(ctx context.Context) error {
	for _, m := range set.mounts {
		if m.src == nil {
			continue
		}
		if err := m.src.unchanged(ctx, nil); err != nil {
			return fmt.Errorf("mount %s: %w", m.Target, err)
		}
	}
	return nil
}

func number(n *uint32) string {
	if n == nil {
		return ""
	}
	return strconv.FormatUint(uint64(*n), 10)
}

// prepare turns the mounts into what the sandbox takes.
func (set *mountSet) prepare(ctx context.Context, spec *sandbox.Spec) error {
	set.kinds = map[int]stages.MountType{}
	for i := range set.mounts {
		m, before := &set.mounts[i], len(spec.Mounts)
		var err error
		switch m.Type {
		case stages.MountBind:
			err = set.bind(ctx, m, spec)
		case stages.MountCache:
			err = set.cacheMount(ctx, m, spec)
		case stages.MountTmpfs:
			spec.Mounts = append(spec.Mounts, sandbox.Mount{Type: "tmpfs", Target: m.Target, Size: m.Size, ReadOnly: m.ReadOnly})
		case stages.MountSecret:
			err = set.secret(m, spec)
		case stages.MountSSH:
			err = set.ssh(ctx, m, spec)
		}
		if err != nil {
			return fmt.Errorf("--mount=type=%s,target=%s: %w", m.Type, m.Target, err)
		}
		for ; before < len(spec.Mounts); before++ {
			set.kinds[before] = m.Type
		}
	}
	return nil
}

// bind shows a file or folder of a tree. Writes, where allowed, are thrown away.
func (set *mountSet) bind(ctx context.Context, m *openMount, spec *sandbox.Spec) error {
	tree, err := m.src.open(ctx)
	if err != nil {
		return err
	}
	sel, err := tree.Select(ctx, m.query())
	if err != nil {
		return err
	}
	if len(sel.Sources) == 0 || len(sel.Sources[0].Matches) == 0 {
		return usage{fmt.Errorf("source %s: nothing there", m.Path)}
	}
	match := sel.Sources[0].Matches[0]
	if match.Info.Mode&unix.S_IFMT == unix.S_IFSOCK {
		return usage{fmt.Errorf("source %s: a socket cannot be bound", m.Path)}
	}
	mount := sandbox.Mount{Type: "bind", Target: m.Target, ReadOnly: m.ReadOnly, Overlay: !m.ReadOnly}
	if stack := m.src.st.stack(); len(stack) > 0 {
		mount.LayersPath = match.Path
		mount.Layers, err = set.sr.snapshots.Dirs(stack)
		spec.Mounts = append(spec.Mounts, mount)
		return err
	}
	root, at := tree.Root(), match.Path
	if tree.Filtered() || tree.Special() {
		// What .dockerignore hides must not show, and processes of the machine must not be reached (HOSTILE H-20): the step gets a
		// copy without what is ignored and sockets, and with FIFOs of its own.
		if root, at, err = set.filtered(ctx, tree, match); err != nil {
			return err
		}
	}
	f, err := root.Open(at, unix.O_PATH)
	if err != nil {
		return err
	}
	set.cleanup = append(set.cleanup, func() { _ = f.Close() }) // a path descriptor
	mount.SourceFile = f
	spec.Mounts = append(spec.Mounts, mount)
	return nil
}

func (set *mountSet) filtered(ctx context.Context, tree *buildcontext.Tree, match buildcontext.Match) (*rootfs.Root, string, error) {
	work, err := set.sr.snapshots.New(nil)
	if err != nil {
		return nil, "", err
	}
	set.cleanup = append(set.cleanup, func() { _ = work.Discard() }) // swept by the next process if it fails
	root, err := work.Root()
	if err != nil {
		return nil, "", err
	}
	if err := tree.CopyTo(ctx, match, root); err != nil {
		return nil, "", err
	}
	if match.Info.IsDir() {
		return root, "/", nil
	}
	return root, "/" + match.Name, nil
}

// cacheMount finds or makes the directory of a cache; what is in it outlives the build.
func (set *mountSet) cacheMount(ctx context.Context, m *openMount, spec *sandbox.Spec) error {
	dir, err := set.cacheDir(ctx, m)
	if err != nil {
		return err
	}
	source, err := set.lockCache(ctx, m, dir)
	if err != nil {
		return err
	}
	if err := set.initCache(ctx, m, filepath.Base(dir), source); err != nil {
		return err
	}
	spec.Mounts = append(spec.Mounts, sandbox.Mount{Type: "bind", Source: filepath.Join(source, "data"), Target: m.Target, ReadOnly: m.ReadOnly})
	return nil
}

// cacheDir finds out which cache a step wants.
func (set *mountSet) cacheDir(ctx context.Context, m *openMount) (string, error) {
	identity, err := set.identity(ctx, m)
	if err != nil {
		return "", err
	}
	return set.sr.makeMount(identity)
}

func (set *mountSet) identity(ctx context.Context, m *openMount) (mountIdentity, error) {
	seed := ""
	if m.src != nil {
		found, err := m.src.contents(ctx, m.query())
		if err != nil {
			return mountIdentity{}, err
		}
		seed = found.Digest.String()
	}
	return mountIdentity{Namespace: m.Namespace, ID: m.ID, Seed: seed, Mode: m.Mode, UID: m.UID, GID: m.GID}, nil
}

// mountIdentity is what tells a cache from others (FEATURES B23).
type mountIdentity struct {
	Namespace string  `json:"namespace,omitempty"`
	ID        string  `json:"id"`
	Seed      string  `json:"seed,omitempty"` // digest of its first content
	Mode      *uint32 `json:"mode,omitempty"`
	UID       *uint32 `json:"uid,omitempty"`
	GID       *uint32 `json:"gid,omitempty"`
}

// name is that of the cache's directory; what comes from outside is hashed, so that no id is a path (HOSTILE H-66).
func (i mountIdentity) name() string {
	text := strings.Join([]string{strconv.Quote(i.Namespace), strconv.Quote(i.ID), i.Seed, number(i.Mode), number(i.UID), number(i.GID)}, " ")
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:16])
}

// makeMount holds a cache's directory, and makes it where it is not there.
func (b *Builder) makeMount(identity mountIdentity) (string, error) {
	name := identity.name()
	dir := b.mountPath(name)
	if err := b.holds.mounts.Hold(name); err != nil {
		return "", fmt.Errorf("hold the cache: %w", err)
	}
	if err := atomicfile.Mkdir(dir); err != nil {
		return "", err
	}
	about := filepath.Join(dir, "about")
	if _, err := os.Lstat(about); err == nil {
		// Its time is that of the last use. A hint for the clean-up: without it the cache is collected earlier.
		_ = os.Chtimes(about, time.Time{}, b.cfg.Now())
		return dir, nil
	}
	text, err := json.Marshal(identity)
	if err != nil {
		return "", err
	}
	if err := atomicfile.Write(filepath.Join(dir, "identity"), text, atomicfile.Options{}); err != nil {
		return "", err
	}
	return dir, atomicfile.Write(about, []byte(identity.ID+"\n"), atomicfile.Options{})
}

// maxPrivate bounds the copies of a private cache: as many as steps could run at once on a large machine.
const maxPrivate = 256

// lockCache takes a cache for one step, in the way its sharing says, across processes.
func (set *mountSet) lockCache(ctx context.Context, m *openMount, dir string) (string, error) {
	kind := filelock.Shared
	if m.Sharing == "locked" {
		kind = filelock.Exclusive
	}
	if m.Sharing == "private" {
		return set.privateCache(dir)
	}
	lock, err := filelock.Lock(ctx, filepath.Join(dir, "lock"), kind, set.sr.waiting("using the cache "+m.ID))
	if err != nil {
		return "", err
	}
	set.cleanup = append(set.cleanup, func() { _ = lock.Release() }) // the kernel drops it anyway
	return dir, nil
}

func (set *mountSet) privateCache(dir string) (string, error) {
	for n := range maxPrivate {
		own := filepath.Join(dir, fmt.Sprintf("private-%d", n))
		if err := atomicfile.Mkdir(own); err != nil {
			return "", err
		}
		lock, err := filelock.TryLock(filepath.Join(own, "lock"), filelock.Exclusive)
		if errors.Is(err, filelock.ErrHeld) {
			continue
		}
		if err != nil {
			return "", err
		}
		set.cleanup = append(set.cleanup, func() { _ = lock.Release() })
		return own, nil
	}
	return "", fmt.Errorf("%d private copies of this cache are in use", maxPrivate)
}

// initCache makes the data directory with its first content, under a temporary name until it is whole.
func (set *mountSet) initCache(ctx context.Context, m *openMount, name, dir string) error {
	data := filepath.Join(dir, "data")
	if _, err := os.Lstat(data); err == nil {
		return nil
	}
	lock, err := filelock.Lock(ctx, filepath.Join(dir, "init"), filelock.Exclusive, nil)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Release() }() // the kernel drops it anyway
	if _, err := os.Lstat(data); err == nil {
		return nil
	}
	fresh := filepath.Join(dir, "fresh")
	if err := os.RemoveAll(fresh); err != nil { // of a process that was killed here
		return err
	}
	if err := os.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	filled, err := set.sr.fillShared(ctx, name, fresh)
	if err == nil && !filled {
		err = set.fillCache(ctx, m, fresh)
	}
	if err != nil {
		return err
	}
	return os.Rename(fresh, data)
}

func (set *mountSet) fillCache(ctx context.Context, m *openMount, fresh string) error {
	root, err := set.sr.openTree(fresh)
	if err != nil {
		return err
	}
	defer root.Close()
	if m.src != nil {
		return set.seedCache(ctx, m, root)
	}
	fd := int(root.File().Fd())
	if err := root.Owners().Set(fd, int(value(m.UID, 0)), int(value(m.GID, 0))); err != nil {
		return err
	}
	return unix.Fchmod(fd, value(m.Mode, 0o755)&0o777) // the reference gives the folder no sticky or setgid bit
}

func (set *mountSet) seedCache(ctx context.Context, m *openMount, root *rootfs.Root) error {
	tree, err := m.src.open(ctx)
	if err != nil {
		return err
	}
	sel, err := tree.Select(ctx, m.query())
	if err != nil {
		return err
	}
	match := sel.Sources[0].Matches[0]
	if !match.Info.IsDir() {
		return usage{fmt.Errorf("source %s of a cache is not a folder", m.Path)}
	}
	if err := tree.CopyTo(ctx, match, root); err != nil {
		return err
	}
	fd := int(root.File().Fd())
	if err := root.Owners().Set(fd, int(match.Info.UID), int(match.Info.GID)); err != nil {
		return err
	}
	return unix.Fchmod(fd, match.Info.Mode&0o7777)
}

func value(p *uint32, otherwise uint32) uint32 {
	if p == nil {
		return otherwise
	}
	return *p
}

// maxSecret is FEATURES B25.
const maxSecret = 500 << 10

// secret gives a step one secret, as a file on tmpfs, as a variable, or both.
func (set *mountSet) secret(m *openMount, spec *sandbox.Spec) error {
	src, ok := set.sr.opt.Secrets[m.ID]
	if !ok {
		if m.Required {
			return usage{&hinted{err: fmt.Errorf("secret %q was not given", m.ID), hint: fmt.Sprintf("add --secret id=%s,src=FILE", m.ID)}}
		}
		if m.Env != "" {
			spec.SecretEnv = append(spec.SecretEnv, m.Env+"=")
		}
		return nil
	}
	data, err := readSecret(src)
	if err != nil {
		return usage{fmt.Errorf("read secret %q: %w", m.ID, err)}
	}
	set.sr.rec.hide(data)
	if m.Env != "" {
		spec.SecretEnv = append(spec.SecretEnv, m.Env+"="+string(data))
	}
	if m.Target != "" {
		mode := value(m.Mode, 0o400)
		spec.Mounts = append(spec.Mounts, sandbox.Mount{
			Type: "file", Target: path.Clean(m.Target), Data: data, Mode: mode, UID: int(value(m.UID, 0)), GID: int(value(m.GID, 0)),
			ReadOnly: true, NoExec: mode&0o111 == 0,
		})
	}
	return nil
}

func readSecret(src SecretSource) ([]byte, error) {
	data := src.Data
	if src.File != "" {
		f, err := openHostRegular(src.File)
		if err != nil {
			return nil, plainCause(err)
		}
		defer f.Close()
		data = make([]byte, maxSecret+1)
		n, err := readFull(f, data)
		if err != nil {
			return nil, plainCause(err)
		}
		data = data[:n]
	}
	if len(data) > maxSecret {
		return nil, fmt.Errorf("larger than %d KiB", maxSecret>>10)
	}
	return data, nil
}

// readFull reads until the buffer is full or the file ends.
func readFull(f *os.File, buf []byte) (int, error) {
	n, err := io.ReadFull(f, buf)
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}
