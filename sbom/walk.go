package sbom

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gobuild/internal/rescue"
	"gobuild/internal/retried"
)

// tell is what reads a file: name is its absolute path.
type tell func(s *scan, name string, f *os.File, size int64) error

// walk visits every folder, and hands over the files that tell of packages. The order is that of the names, so that what a bound cuts
// off is the same each time.
func (s *scan) walk() error {
	for folders := []string{"/"}; len(folders) > 0; {
		dir := folders[len(folders)-1]
		folders = folders[:len(folders)-1]
		children, err := s.folder(dir)
		if err != nil {
			return err
		}
		slices.Reverse(children) // the first comes off the stack first
		folders = append(folders, children...)
		if err := s.ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// folder reads what one folder has, and returns the folders in it in order.
func (s *scan) folder(dir string) ([]string, error) {
	if len(dir) > maxPath {
		s.note(dir[:64]+"...", errors.New("the path is longer than is followed"))
		return nil, nil
	}
	d, err := s.root.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	if isPassing(err) && dir != "/" {
		s.note(dir, errors.Unwrap(err))
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer d.Close()
	var children []string
	files := map[string]tell{}
	count := 0
	for {
		list, err := d.ReadDir(1024)
		if count += len(list); count > maxFolderNames {
			s.note(dir, fmt.Errorf("more than %d names", maxFolderNames))
			break
		}
		for _, e := range list {
			full := path.Join(dir, e.Name())
			if e.IsDir() {
				children = append(children, full)
			} else if e.Type().IsRegular() {
				if t := s.teller(int(d.Fd()), full, e.Name()); t != nil && (s.ignored == nil || !s.ignored(full)) {
					files[e.Name()] = t
				}
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read folder %s: %w", dir, err)
		}
		if err := s.ctx.Err(); err != nil {
			return nil, err
		}
	}
	slices.Sort(children)
	return children, s.files(d, dir, files)
}

// isPassing tells a folder that this user may not read, or that is being changed, from a tree that cannot be read.
func isPassing(err error) bool {
	for _, e := range []error{fs.ErrPermission, fs.ErrNotExist, unix.ENAMETOOLONG, unix.ENOTDIR, unix.ELOOP} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

func (s *scan) files(d *os.File, dir string, files map[string]tell) error {
	names := make([]string, 0, len(files))
	for name := range files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := s.file(d, path.Join(dir, name), name, files[name]); err != nil {
			return err
		}
	}
	return nil
}

// file hands a file to what reads it. What is wrong with the file is a note.
func (s *scan) file(d *os.File, full, name string, t tell) (err error) {
	fd, err := retried.Openat(int(d.Fd()), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		s.note(full, err) // of a tree that is being changed, or that this user may not read
		return nil
	}
	f := os.NewFile(uintptr(fd), full)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: full, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return nil
	}
	// A panic of a parser is that file's: one file must not end a build.
	err = rescue.Do(func() error { return t(s, full, f, st.Size) })
	switch {
	case err == nil:
	case s.ctx.Err() != nil:
		return s.ctx.Err()
	case errors.Is(err, errTooMany):
		return err
	default:
		s.note(full, err)
	}
	return nil
}

// teller finds what reads a file by its name, or because it is a program.
func (s *scan) teller(dir int, full, name string) tell {
	if t := byPath(full); t != nil {
		return t
	}
	if t := byName(full, name); t != nil {
		return t
	}
	var st unix.Stat_t
	if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil || st.Mode&0o111 == 0 || st.Size < minProgram {
		return nil
	}
	if st.Nlink > 1 { // busybox has 300 names
		id := [2]uint64{st.Dev, st.Ino}
		if s.seen[id] {
			return nil
		}
		s.seen[id] = true
	}
	return (*scan).program
}

// byPath knows the places that package managers of distributions use. Some trees have them below /usr alone.
func byPath(full string) tell {
	switch strings.TrimPrefix(full, "/usr") {
	case "/var/lib/dpkg/status":
		return (*scan).dpkg
	case "/lib/apk/db/installed":
		return (*scan).apk
	}
	if isRPM(strings.TrimPrefix(full, "/usr")) {
		return (*scan).rpm
	}
	if path.Dir(full) == "/var/lib/dpkg/status.d" && !strings.HasSuffix(full, ".md5sums") {
		return (*scan).dpkgOne
	}
	return nil
}

// byName knows the files that tools of languages leave anywhere.
func byName(full, name string) tell {
	switch name {
	case "package-lock.json", ".package-lock.json", "npm-shrinkwrap.json":
		return (*scan).npmLock
	case "package.json":
		if isModule(path.Dir(full)) {
			return (*scan).npmPackage
		}
	case "yarn.lock":
		return (*scan).yarnLock
	case "pnpm-lock.yaml":
		return (*scan).pnpmLock
	case "go.mod":
		if !strings.Contains(full, "/pkg/mod/") { // what is downloaded there has its own, of versions that nobody uses
			return (*scan).goMod
		}
	case "Cargo.lock":
		return tomlLock("cargo")
	case "poetry.lock", "uv.lock", "pdm.lock":
		return tomlLock("pypi")
	case "Pipfile.lock":
		return (*scan).pipfileLock
	case "composer.lock", "installed.json":
		return (*scan).composerLock
	case "Gemfile.lock":
		return (*scan).gemfileLock
	case "gradle.lockfile":
		return (*scan).gradleLock
	case "METADATA":
		if strings.HasSuffix(path.Dir(full), ".dist-info") {
			return (*scan).pythonMetadata
		}
	case "PKG-INFO":
		if strings.HasSuffix(path.Dir(full), ".egg-info") {
			return (*scan).pythonMetadata
		}
	}
	switch {
	case strings.HasSuffix(name, ".deps.json"):
		return (*scan).dotnetDeps
	case strings.HasSuffix(name, ".jar"), strings.HasSuffix(name, ".war"), strings.HasSuffix(name, ".ear"):
		return (*scan).javaArchive
	}
	return nil
}

// whole reads a file that is not larger than limit.
func whole(f *os.File, size, limit int64) ([]byte, error) {
	if size > limit {
		return nil, fmt.Errorf("%w: %d bytes, the bound is %d", errTooLarge, size, limit)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%w: the bound is %d bytes", errTooLarge, limit)
	}
	return data, err
}
