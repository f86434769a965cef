package builder

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	buildcontext "gobuild/context"
	"gobuild/internal/rootfs"
)

// maxLargest is how many of the largest files ContextInfo lists.
const maxLargest = 10

// Amount counts what is not a directory, and the bytes of files.
type Amount struct {
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
}

func (a *Amount) add(info buildcontext.Info) {
	if info.IsDir() {
		return
	}
	a.Files++
	if info.IsRegular() {
		a.Bytes += info.Size
	}
}

// ContextInfo is what a build context holds after its ignore file.
type ContextInfo struct {
	Context    string       `json:"context"`
	IgnoreFile string       `json:"ignoreFile,omitempty"`
	In         Amount       `json:"in"`
	Ignored    Amount       `json:"ignored"`
	Rules      []RuleUse    `json:"rules"`   // of the ignore file, in order
	Folders    []FolderUse  `json:"folders"` // at the top, the largest first; "." is what lies beside them
	Largest    []FileSize   `json:"largest"` // files that are in, the largest first
	Unreadable []string     `json:"unreadable,omitempty"`
	Paths      []PathAnswer `json:"paths,omitempty"` // in place of all but Context and IgnoreFile, when paths were asked about
}

// RuleUse is one pattern with what it decides: the last that matches a path does.
type RuleUse struct {
	Pattern string `json:"pattern"`
	Line    int    `json:"line"`
	Keeps   bool   `json:"keeps,omitempty"` // it begins with "!"
	Matched bool   `json:"matched"`         // a path matches it, though another pattern may decide
	Amount
}

// FolderUse is one folder at the top of the context.
type FolderUse struct {
	Name    string `json:"name"`
	In      Amount `json:"in"`
	Ignored Amount `json:"ignored"`
}

// FileSize is one file.
type FileSize struct {
	Path  string `json:"path"`
	Bytes int64  `json:"bytes"`
}

// The answers about a path.
const (
	PathIn      = "in"
	PathIgnored = "ignored"
	PathMissing = "missing"
)

// PathAnswer says whether a path is in the context, and why.
type PathAnswer struct {
	Path    string      `json:"path"`              // as asked, cleaned
	Real    string      `json:"real,omitempty"`    // where links in it lead, when that is another path: it decides
	State   string      `json:"state"`             // PathIn, PathIgnored or PathMissing
	Ignored bool        `json:"ignored"`           // also of a missing one
	Pattern string      `json:"pattern,omitempty"` // that decides; "" when none matches
	Line    int         `json:"line,omitempty"`
	Below   *BelowCount `json:"below,omitempty"` // of a directory
}

// BelowCount is what a directory holds.
type BelowCount struct {
	In      Amount `json:"in"`
	Ignored Amount `json:"ignored"`
}

// DescribeContext reads the context that opt names, of which it takes Context, Dockerfile, DockerfileText and IgnoreFile. It
// reads no content but the ignore file's. With paths, which are relative to the context, it answers about these alone.
func DescribeContext(ctx context.Context, opt Options, paths []string) (*ContextInfo, error) {
	info, err := describeContext(ctx, opt, paths)
	if err != nil {
		return nil, classify(fmt.Errorf("read build context %s: %w", opt.Context, err), CategoryEnvironment)
	}
	return info, nil
}

func describeContext(ctx context.Context, opt Options, paths []string) (*ContextInfo, error) {
	file, err := dockerfilePath(opt)
	if err != nil {
		return nil, err
	}
	name, src, err := buildcontext.FindIgnore(file, opt.Context, opt.IgnoreFile)
	if err != nil {
		return nil, err
	}
	treeOpt := buildcontext.Options{IgnoreFile: name}
	if name != "" {
		if treeOpt.Ignore, err = buildcontext.ParseIgnore(name, src); err != nil {
			return nil, err
		}
	}
	tree, err := buildcontext.Open(opt.Context, treeOpt)
	if err != nil {
		return nil, err
	}
	defer tree.Close() //nolint:errcheck // nothing is remembered
	info := &ContextInfo{Context: opt.Context, IgnoreFile: name, Rules: []RuleUse{}, Folders: []FolderUse{}, Largest: []FileSize{}}
	if len(paths) > 0 {
		return info, info.answer(ctx, tree, treeOpt.Ignore, paths)
	}
	return info, info.summarize(ctx, tree)
}

// dockerfilePath is where the Dockerfile is, which decides on the name of the ignore file; "" when there is none.
func dockerfilePath(opt Options) (string, error) {
	if opt.DockerfileText != nil || opt.Dockerfile != "" {
		return opt.Dockerfile, nil
	}
	root, err := rootfs.Open(opt.Context)
	if err != nil {
		return "", err
	}
	defer root.Close()
	for _, name := range defaultNames {
		if st, err := root.Stat(name); err == nil && st.Mode&unix.S_IFMT == unix.S_IFREG {
			return filepath.Join(opt.Context, name), nil
		}
	}
	return "", nil
}

// summarize walks the whole context.
func (i *ContextInfo) summarize(ctx context.Context, tree *buildcontext.Tree) error {
	folders := map[string]*FolderUse{}
	decided := map[int]*Amount{}
	visit := func(e buildcontext.Surveyed) error {
		name := strings.TrimPrefix(e.Path, "/")
		folder := topFolder(folders, name, e.Info.IsDir())
		if e.Ignored {
			i.Ignored.add(e.Info)
			folder.Ignored.add(e.Info)
		} else {
			i.In.add(e.Info)
			folder.In.add(e.Info)
			i.remember(name, e.Info)
		}
		if e.Rule >= 0 {
			if decided[e.Rule] == nil {
				decided[e.Rule] = &Amount{}
			}
			decided[e.Rule].add(e.Info)
		}
		return nil
	}
	rules, err := tree.Survey(ctx, visit, i.unreadable)
	if err != nil {
		return err
	}
	for n, r := range rules {
		use := RuleUse{Pattern: r.Pattern, Line: r.Line, Keeps: r.Keeps, Matched: r.Matched || decided[n] != nil}
		if decided[n] != nil {
			use.Amount = *decided[n]
		}
		i.Rules = append(i.Rules, use)
	}
	for _, f := range folders {
		i.Folders = append(i.Folders, *f)
	}
	slices.SortFunc(i.Folders, func(a, b FolderUse) int {
		return cmp.Or(cmp.Compare(b.In.Bytes, a.In.Bytes), cmp.Compare(b.Ignored.Bytes, a.Ignored.Bytes), cmp.Compare(a.Name, b.Name))
	})
	return nil
}

func (i *ContextInfo) unreadable(name string) {
	i.Unreadable = append(i.Unreadable, cmp.Or(strings.TrimPrefix(name, "/"), "."))
}

// topFolder is the row that a path counts in.
func topFolder(folders map[string]*FolderUse, name string, dir bool) *FolderUse {
	top, _, below := strings.Cut(name, "/")
	if !below && !dir || name == "" {
		top = "."
	}
	f := folders[top]
	if f == nil {
		f = &FolderUse{Name: top}
		folders[top] = f
	}
	return f
}

// remember keeps the largest files, of equal ones those that come first.
func (i *ContextInfo) remember(name string, info buildcontext.Info) {
	if !info.IsRegular() {
		return
	}
	at, _ := slices.BinarySearchFunc(i.Largest, info.Size, func(f FileSize, size int64) int {
		if f.Bytes >= size {
			return -1
		}
		return 1
	})
	if at < maxLargest {
		i.Largest = slices.Insert(i.Largest, at, FileSize{Path: name, Bytes: info.Size})
		i.Largest = i.Largest[:min(len(i.Largest), maxLargest)]
	}
}

// answer says of each path whether it is in.
func (i *ContextInfo) answer(ctx context.Context, tree *buildcontext.Tree, ignore *buildcontext.Ignore, paths []string) error {
	below := map[string]*BelowCount{} // by the path of a directory
	for _, p := range paths {
		a, dir, err := answerPath(tree.Root(), ignore, i.Context, p)
		if err != nil {
			return err
		}
		if dir {
			key := cmp.Or(a.Real, a.Path)
			if below[key] == nil {
				below[key] = &BelowCount{}
			}
			a.Below = below[key]
		}
		i.Paths = append(i.Paths, a)
	}
	if len(below) == 0 {
		return nil
	}
	_, err := tree.Survey(ctx, func(e buildcontext.Surveyed) error {
		for dir := path.Dir(e.Path); ; dir = path.Dir(dir) {
			if c := below[cmp.Or(strings.TrimPrefix(dir, "/"), ".")]; c != nil && e.Path != "/" {
				if e.Ignored {
					c.Ignored.add(e.Info)
				} else {
					c.In.add(e.Info)
				}
			}
			if dir == "/" {
				return nil
			}
		}
	}, i.unreadable)
	return err
}

func answerPath(root *rootfs.Root, ignore *buildcontext.Ignore, contextDir, asked string) (a PathAnswer, dir bool, err error) {
	name, err := insideContext(contextDir, asked)
	if err != nil {
		return a, false, err
	}
	a = PathAnswer{Path: name, State: PathIn}
	parent, err := root.Resolve(path.Dir("/" + name))
	if err != nil {
		return a, false, err
	}
	real := path.Join(parent, path.Base("/"+name))
	if real = cmp.Or(strings.TrimPrefix(real, "/"), "."); real != name {
		a.Real = real
	}
	a.Ignored, _ = ignore.Match(real)
	a.Pattern, a.Line = ignore.Explain(real)
	st, err := root.Lstat(real)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENOTDIR):
		a.State = PathMissing
		return a, false, nil
	case err != nil:
		return a, false, err
	case a.Ignored:
		a.State = PathIgnored
	}
	return a, st.Mode&unix.S_IFMT == unix.S_IFDIR, nil
}

// insideContext is a path relative to the context. An absolute one is taken as the host's when it is in the context, else as COPY does.
func insideContext(contextDir, asked string) (string, error) {
	name := asked
	if filepath.IsAbs(asked) {
		name = strings.TrimLeft(asked, "/")
		if rel, err := filepath.Rel(contextDir, asked); err == nil && filepath.IsLocal(rel) {
			name = rel
		}
	}
	name = path.Clean(cmp.Or(name, "."))
	if !filepath.IsLocal(name) {
		return "", usage{&hinted{err: fmt.Errorf("%s is outside of the context", asked), hint: "paths are relative to the context"}}
	}
	return name, nil
}
