package builder

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"gobuild/cache"
	"gobuild/history"
	"gobuild/internal/atomicfile"
	"gobuild/registry"
	"gobuild/registry/hostconf"
	"gobuild/remote"
	"gobuild/sandbox"
	"gobuild/snapshot"
	"gobuild/store"
)

// stateVersion is the form of the state directory; docs/state.md describes it.
const stateVersion = "1\n"

// Config locates what a Builder needs on this machine; nothing below cmd/build reads the environment.
type Config struct {
	Root               string           // state directory, absolute
	InsecureRegistries []string         // hosts spoken to over plain HTTP or unverified TLS
	InsecureAll        bool             // every registry that the user names is one
	PushChunk          int64            // larger blobs are uploaded in chunks of this many bytes; 0 chooses
	RegistryHosts      hostconf.Config  // mirrors and certificates
	Logins             []registry.Login // credentials from the command line, which come first
	Tries              int              // of one request to a registry; 0 chooses
	RetryDelay         time.Duration    // before the second of them; 0 chooses
	DockerConfig       string           // path of the Docker configuration file for credentials; "" none
	CAFile             string
	LeaveImmutable     bool                                  // a tag that a registry lets nobody move is no error of a push
	AllowPrivate       bool                                  // a registry may send us to private addresses (HOSTILE R-20)
	TokenHosts         []string                              // hosts besides the registry's own that may see its credentials
	Proxy              func(*http.Request) (*url.URL, error) // nil: none
	Offline            bool                                  // nothing is asked of other machines
	CDIDirs            []string                              // where vendors describe devices; nil: /etc/cdi and /var/run/cdi
	Path               []string                              // where programs are looked for that RUN's networks may need
	OwnFiles           bool                                  // files that are written for the user are the user's, not those of the image's users
	RecordOwners       bool                                  // the namespace has one id: owners of files are recorded (internal/owners)
	AnyOwners          bool                                  // the command touches no files of layers
	Executable         string                                // path of this binary, executed again by Doctor
	GC                 GCOptions                             // limits for what commands other than Build write, which has its own
	Now                func() time.Time                      // nil: time.Now
}

// Builder owns the state directory for the time of one command.
type Builder struct {
	cfg       Config
	store     *store.Store
	cache     *cache.Store
	snapshots *snapshot.Store
	registry  *registry.Client
	remote    *remote.Client
	builds    *history.Store
	holds     holds
	ceiling   *ceiling
	clocks    stepClocks

	mu      sync.Mutex
	runner  *sandbox.Runner // started by the first RUN that misses
	notices func(string)    // of the build under way
}

// Open creates or checks the state directory (owner, mode, version) and opens its parts, none of which is read in bulk.
func Open(cfg Config) (*Builder, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	b := &Builder{cfg: cfg}
	if err := b.open(); err != nil {
		return nil, classify(fmt.Errorf("open state directory %s: %w", cfg.Root, err), CategoryEnvironment)
	}
	return b, nil
}

func (b *Builder) open() error {
	root := b.cfg.Root
	if !filepath.IsAbs(root) {
		return errors.New("not an absolute path")
	}
	if err := checkRoot(root); err != nil {
		return err
	}
	if err := b.cfg.checkOwners(); err != nil {
		return err
	}
	var err error
	if b.store, err = store.Open(filepath.Join(root, "oci")); err != nil {
		return err
	}
	b.store.NamesLost = func(path string) {
		b.notice("the list of the images' names was damaged and begins anew: what names there were is in " + path + "; images are there again once they are built, or pulled")
	}
	if b.cache, err = cache.Open(filepath.Join(root, "cache"), b.cfg.Now); err != nil {
		return err
	}
	if b.snapshots, err = snapshot.OpenConfig(filepath.Join(root, "snapshots"), snapshot.Config{UserXattr: sandbox.InUserNamespace(), Owners: b.cfg.keeper()}); err != nil {
		return err
	}
	b.openHolds()
	b.limitTo(b.cfg.GC)
	b.builds = history.Open(filepath.Join(root, "history"), b.cfg.Now)
	b.registry, err = registry.New(b.cfg.registryConfig(b.notice))
	if err != nil {
		return err
	}
	b.remote, err = remote.New(remote.Config{CAFile: b.cfg.CAFile, AllowPrivate: b.cfg.AllowPrivate, Proxy: b.cfg.proxy()})
	return err
}

// errForeign refuses a state directory that another user can reach: setuid
// files of unpacked images lie in it (HOSTILE R-05, H-81).
var errForeign = errors.New("refused as unsafe")

func checkRoot(root string) error {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return err
	}
	info, err := ownDirectory(root)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		if err := os.Chmod(root, 0o700); err != nil {
			return err
		}
	}
	return checkVersion(root)
}

// ownDirectory describes a state directory that nobody else owns or writes to, and refuses any other.
func ownDirectory(root string) (os.FileInfo, error) {
	info, err := os.Lstat(root)
	if err != nil {
		return nil, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !info.IsDir():
		return nil, fmt.Errorf("%w: it is not a directory but a %s", errForeign, info.Mode().Type())
	case ok && int(st.Uid) != os.Geteuid():
		return nil, fmt.Errorf("%w: it belongs to user %d, not to you (%d)", errForeign, st.Uid, os.Geteuid())
	case info.Mode().Perm()&0o022 != 0:
		return nil, fmt.Errorf("%w: others may write to it (mode %04o)", errForeign, info.Mode().Perm())
	}
	return info, nil
}

func checkVersion(root string) error {
	name := filepath.Join(root, "version")
	got, err := os.ReadFile(name)
	if errors.Is(err, os.ErrNotExist) {
		// Durable: what is found after a power cut must not be an empty file, which no gobuild would touch.
		return atomicfile.Write(name, []byte(stateVersion), atomicfile.Options{Mode: 0o600, Durable: true})
	}
	if err != nil {
		return err
	}
	if string(got) != stateVersion {
		return fmt.Errorf("its form is %q and this gobuild knows %q: use another --root, or the gobuild that made it", got, stateVersion)
	}
	return nil
}

// Close ends helper processes. It leaves no mount, process or cgroup behind.
func (b *Builder) Close() error {
	b.mu.Lock()
	runner := b.runner
	b.runner = nil
	b.mu.Unlock()
	b.registry.Close()
	b.remote.Close()
	defer b.holds.close()
	var err error
	if runner != nil {
		err = runner.Close()
	}
	return errors.Join(err, b.snapshots.Close()) // after the runner, which may still unmount
}

// sandboxRunner starts the sandbox when the first step needs it: a build that is cached never does.
func (b *Builder) sandboxRunner(opt RunOptions) (*sandbox.Runner, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.runner != nil {
		return b.runner, nil
	}
	stubs := filepath.Join(b.cfg.Root, "stubs")
	if err := atomicfile.Mkdir(stubs); err != nil {
		return nil, err
	}
	r, err := sandbox.New(sandbox.Config{CgroupParent: opt.CgroupParent, BestEffort: opt.BestEffort, Notice: b.notice, StubDir: stubs, Path: b.cfg.Path, Owners: b.cfg.keeper()})
	if err != nil {
		return nil, err
	}
	b.runner = r
	return r, nil
}

func (b *Builder) notice(text string) {
	b.mu.Lock()
	f := b.notices
	b.mu.Unlock()
	if f != nil {
		f(text)
	}
}

// during gives notices of the parts to one command's progress function.
func (b *Builder) during(em *emitter) func() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.notices = func(text string) { em.emit(Event{Type: EventNotice, Text: text}) }
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.notices = nil
	}
}

// emitter hands events on one at a time and never says a notice twice.
type emitter struct {
	mu   sync.Mutex
	fn   func(Event)
	now  func() time.Time
	said map[string]bool
	keep func(Event) // of what steps print, for the build's record; may be nil
}

func newEmitter(fn func(Event), now func() time.Time) *emitter {
	return &emitter{fn: fn, now: now, said: map[string]bool{}}
}

func (e *emitter) emit(ev Event) {
	if e.fn == nil && e.keep == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if ev.Type == EventOutput && e.keep != nil {
		e.keep(ev)
	}
	if e.fn == nil {
		return
	}
	if ev.Type == EventNotice {
		if e.said[ev.Text] {
			return
		}
		e.said[ev.Text] = true
	}
	ev.Time = e.now()
	e.fn(ev)
}
