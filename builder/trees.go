package builder

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	buildcontext "gobuild/context"
	"gobuild/stages"
)

// trees are the directory contexts of one build, opened when a step first names them.
type trees struct {
	bd     *build
	ignore *buildcontext.Ignore // of the main context; nil: nothing is ignored
	mu     sync.Mutex
	set    map[string]*buildcontext.Tree // by context name, "" the main one
}

func openTrees(bd *build) (*trees, error) {
	t := &trees{bd: bd, set: map[string]*buildcontext.Tree{}}
	info, err := os.Stat(bd.opt.Context)
	if err != nil {
		return nil, &hinted{err: fmt.Errorf("open build context %s: %w", bd.opt.Context, plainCause(err)), hint: "the context is a folder; give `.` for the working directory"}
	}
	if !info.IsDir() {
		return nil, &hinted{err: fmt.Errorf("build context %s is not a folder", bd.opt.Context), hint: "give the folder as CONTEXT and the Dockerfile with -f"}
	}
	tree, ignore, err := t.openMain()
	if err != nil {
		return nil, err
	}
	t.set[""], t.ignore = tree, ignore
	return t, nil
}

func (t *trees) open(dir, dockerfile, override string) (*buildcontext.Tree, *buildcontext.Ignore, error) {
	path, src, err := buildcontext.FindIgnore(dockerfile, dir, override)
	if err != nil {
		return nil, nil, err
	}
	opt := buildcontext.Options{IgnoreFile: path, Now: t.bd.cfg.Now, Notice: t.bd.notice}
	if path != "" {
		if opt.Ignore, err = buildcontext.ParseIgnore(path, src); err != nil {
			return nil, nil, err
		}
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return nil, nil, err
	}
	// A name from a hash: no part of the user's path becomes a file name in the state directory (HOSTILE R-04).
	sum := sha256.Sum256([]byte(abs))
	opt.StatCache = filepath.Join(t.bd.cfg.Root, "statcache", hex.EncodeToString(sum[:16]))
	tree, err := buildcontext.Open(dir, opt)
	return tree, opt.Ignore, err
}

// get opens the main context ("") or a named one that is a directory.
func (t *trees) get(name string) (*buildcontext.Tree, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tree, ok := t.set[name]; ok {
		return tree, nil
	}
	dir, ok := t.bd.opt.Contexts[name]
	if !ok || isAddress(dir) {
		return nil, fmt.Errorf("no build context named %q is a folder", name)
	}
	tree, _, err := t.open(dir, "", "")
	if err != nil {
		return nil, fmt.Errorf("build context %s: %w", name, err)
	}
	t.set[name] = tree
	return tree, nil
}

func (t *trees) ignorePatterns() []string {
	if t.ignore == nil {
		return nil
	}
	return t.ignore.Patterns()
}

// close keeps the digests that were computed; losing them costs time and nothing else.
func (t *trees) close(em *emitter) {
	for _, tree := range t.set {
		if err := tree.Close(); err != nil {
			em.emit(Event{Type: EventNotice, Text: fmt.Sprintf("file digests could not be kept for the next build: %v", err)})
		}
	}
}

// parseContextValue sorts the values of --build-context (FEATURES C12) into trees, images and stages.
func parseContextValue(value string) (stages.Context, error) {
	switch {
	case strings.HasPrefix(value, "docker-image://"), strings.HasPrefix(value, "oci-layout://"):
		return stages.Context{Image: value}, nil
	case strings.HasPrefix(value, "container-image://"):
		return stages.Context{Image: "docker-image://" + strings.TrimPrefix(value, "container-image://")}, nil
	case strings.HasPrefix(value, "target:"):
		return stages.Context{Target: strings.TrimPrefix(value, "target:")}, nil
	case isAddress(value):
		return stages.Context{Dir: true}, nil
	}
	info, err := os.Stat(value)
	if err != nil {
		return stages.Context{}, plainCause(err)
	}
	if !info.IsDir() {
		return stages.Context{}, errors.New("not a folder")
	}
	return stages.Context{Dir: true}, nil
}

// platformsOf gives the target platform and the one gobuild runs on.
func platformsOf(given string) (target, host ocispec.Platform, err error) {
	host = platforms.Normalize(platforms.DefaultSpec())
	host.OSVersion, host.OSFeatures = "", nil
	host.Variant = "" // an amd64 level of this machine's CPU must not enter keys or images
	if given == "" {
		return host, host, nil
	}
	if strings.Contains(given, ",") {
		return target, host, &hinted{err: fmt.Errorf("--platform %s: several platforms, and one is wanted here", given), hint: "give one"}
	}
	target, err = platforms.Parse(given)
	if err != nil {
		return target, host, fmt.Errorf("--platform %s: %w", given, err)
	}
	return platforms.Normalize(target), host, nil
}

// wantedPlatform is what selectPlatform takes: "" stays, anything else is normalised.
func wantedPlatform(given string) (string, error) {
	if given == "" {
		return "", nil
	}
	target, _, err := platformsOf(given)
	return platformText(target), err
}

// platformText is the normalised form in keys and messages.
func platformText(p ocispec.Platform) string { return platforms.Format(platforms.Normalize(p)) }
