package builder

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"

	"gobuild/remote"
)

// LockOptions say where what the names of a build mean is written down (FEATURES P8).
type LockOptions struct {
	File    string // "" none
	Enforce bool   // what the file says must be so, and the file stays as it is
}

const (
	lockTitle = "# gobuild lock file, version 1: what each name means. --lock writes it, --locked wants it to be so."
	// maxLockFile bounds what is read: a line has some 200 bytes, and no build has thousands of names.
	maxLockFile = 1 << 20
)

// lockName is a thing whose name may come to mean something else.
type lockName struct {
	kind string // image, layout, url or git
	name string
	of   string // platform of an image; of a URL that is not shown whole, its hash; else -
}

func (n lockName) words() string {
	return lockWord(n.kind) + " " + lockWord(n.name) + " " + lockWord(n.of)
}

func (n lockName) String() string {
	if n.kind == "image" || n.kind == "layout" {
		return fmt.Sprintf("%s %s (%s)", n.kind, n.name, n.of)
	}
	return n.kind + " " + n.name
}

func compareLockNames(a, b lockName) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name), cmp.Compare(a.of, b.of))
}

// lockWord quotes what would not be read as one word.
func lockWord(s string) string {
	if quoted := strconv.Quote(s); s == "" || strings.ContainsAny(s, " ") || quoted != `"`+s+`"` {
		return quoted
	}
	return s
}

// lockFile compares and collects what names mean, while a build finds it out. Nil does nothing.
type lockFile struct {
	opt  LockOptions
	pins *pins // of a build that makes an image again; nil for others
	mu   sync.Mutex
	read map[lockName]string // in the file
	now  map[lockName]string // in this build
}

// openLock reads the file; without one what names mean is only collected. There must be one to enforce; another is not overwritten unless it is a lock file.
func openLock(opt LockOptions) (*lockFile, error) {
	l := &lockFile{opt: opt, now: map[lockName]string{}}
	if opt.File == "" {
		return l, nil
	}
	f, err := openHostRegular(opt.File)
	if errors.Is(err, fs.ErrNotExist) && !opt.Enforce {
		return l, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usage{&hinted{err: fmt.Errorf("read lock file %s: there is none", opt.File), hint: "build with --lock " + opt.File + " first, without --locked"}}
	}
	if err != nil {
		return nil, fmt.Errorf("read lock file %s: %w", opt.File, plainCause(err))
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxLockFile+1))
	if err == nil && len(text) > maxLockFile {
		err = usage{fmt.Errorf("larger than %d KiB", maxLockFile>>10)}
	}
	if err == nil {
		l.read, err = parseLock(string(text))
	}
	if err != nil {
		return nil, fmt.Errorf("read lock file %s: %w", opt.File, err)
	}
	return l, nil
}

func parseLock(text string) (map[lockName]string, error) {
	lines := strings.Split(text, "\n")
	if strings.TrimRight(lines[0], "\r") != lockTitle {
		return nil, usage{errors.New("it is not a lock file of this version: its first line is another")}
	}
	found := map[lockName]string{}
	for i, line := range lines[1:] {
		if line = strings.TrimSpace(line); line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		words, err := lockWords(line)
		if err != nil || len(words) != 4 {
			return nil, usage{fmt.Errorf("line %d: want KIND NAME FOR DIGEST", i+2)}
		}
		n := lockName{words[0], words[1], words[2]}
		if _, twice := found[n]; twice {
			return nil, usage{fmt.Errorf("line %d: %s is there twice", i+2, n)}
		}
		found[n] = words[3]
	}
	return found, nil
}

func lockWords(line string) ([]string, error) {
	var words []string
	for line = strings.TrimLeft(line, " \t"); line != ""; line = strings.TrimLeft(line, " \t") {
		if line[0] != '"' {
			end := strings.IndexAny(line, " \t")
			if end < 0 {
				end = len(line)
			}
			words, line = append(words, line[:end]), line[end:]
			continue
		}
		quoted, err := strconv.QuotedPrefix(line)
		if err != nil {
			return nil, err
		}
		word, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, err
		}
		words, line = append(words, word), line[len(quoted):]
	}
	return words, nil
}

// note is told what a name means. With Enforce it is an error if the file says otherwise, or nothing.
func (l *lockFile) note(n lockName, value string) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.now[n] = value
	if l.pins != nil {
		return l.pins.check(n, value)
	}
	if !l.opt.Enforce {
		return nil
	}
	was, ok := l.read[n]
	file := filepath.Base(l.opt.File)
	switch {
	case !ok:
		return usage{&hinted{
			err:  fmt.Errorf("%s is %s, and %s has nothing about it", n, value, file),
			hint: "build with --lock " + l.opt.File + " and without --locked to add it",
		}}
	case was != value:
		hint := "build with --lock " + l.opt.File + " and without --locked to accept it"
		if n.kind == "image" {
			hint += "; if the copy in the store is the old one, build with --pull"
		}
		return usage{&hinted{err: fmt.Errorf("%s is %s, and %s has %s", n, value, file, was), hint: hint}}
	}
	return nil
}

// lockEntry is a name and what it meant.
type lockEntry struct {
	lockName
	value string
}

// found is what names meant in this build, in order.
func (l *lockFile) found() []lockEntry {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []lockEntry
	for _, n := range slices.SortedFunc(maps.Keys(l.now), compareLockNames) {
		list = append(list, lockEntry{n, l.now[n]})
	}
	return list
}

// save writes what was found over what the file says of it. What this build did not need, other targets and platforms may.
func (l *lockFile) save() error {
	if l == nil || l.opt.File == "" || l.opt.Enforce {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	all := maps.Clone(l.read)
	if all == nil {
		all = map[lockName]string{}
	}
	maps.Copy(all, l.now)
	if maps.Equal(all, l.read) && l.read != nil {
		return nil
	}
	lines := []string{lockTitle}
	for _, n := range slices.SortedFunc(maps.Keys(all), compareLockNames) {
		lines = append(lines, n.words()+" "+lockWord(all[n]))
	}
	err := writeOutput(Output{Dest: l.opt.File}, func(w io.Writer) error {
		_, err := io.WriteString(w, strings.Join(lines, "\n")+"\n")
		return err
	})
	if err != nil {
		return fmt.Errorf("write lock file %s: %w", l.opt.File, err)
	}
	return nil
}

// lockedURL is a URL without what may be a secret in it; a hash tells those apart that look the same then.
func lockedURL(url string) lockName {
	n := lockName{kind: "url", name: remote.Redact(url), of: "-"}
	if n.name != url {
		n.of = digest.FromString(url).Encoded()[:16]
	}
	return n
}

func lockedGit(g remote.Git) lockName {
	return lockName{kind: "git", name: g.Remote + "#" + cmp.Or(g.Ref, g.Commit, "HEAD"), of: "-"}
}
