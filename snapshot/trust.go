package snapshot

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"gobuild/internal/atomicfile"
	"gobuild/internal/filelock"
	"gobuild/internal/retried"

	"golang.org/x/sys/unix"
)

// This file answers one question: are all bytes of a committed layer certain to be there?
//
// Within the boot that wrote them they are: what is not on the disk yet is in the page cache, and a
// killed process loses nothing. After a power cut they are only if a syncfs that began after the
// layer's last byte has succeeded. So each layer's meta file says in which boot and at which moment of
// it (CLOCK_BOOTTIME: steady, common to all processes, blind to changes of the date) it was
// committed, and the store's "synced" file says for each boot up to which moment everything is
// on the disk. No step of a build waits for the disk.

const (
	metaHeader   = "gobuild layer 1\n"
	syncedHeader = "gobuild synced 1\n"
	syncedName   = "synced"
	syncLockName = "synced.lock"
)

var errBadMeta = errors.New("damaged meta file")

// moment is a point in time within one boot.
type moment struct {
	boot   string
	at     int64 // nanoseconds of CLOCK_BOOTTIME
	marked bool  // of a layer: its directory bears the mark (mark.go)
}

// trust is what one Store knows about it. boot and synced are set by open and constant after.
type trust struct {
	boot   string
	synced map[string]int64 // boots other than this one: all committed up to then is on the disk
	sure   sync.Map         // ID -> true: found whole by this Store. No later event but a reboot changes that.
}

func (t *trust) open(dir, bootID string) error {
	if bootID == "" {
		bootID = kernelBootID()
	}
	if len(bootID) > maxBootID || strings.ContainsAny(bootID, " \n") {
		return fmt.Errorf("boot id %q: longer than %d bytes, or with blanks", bootID, maxBootID)
	}
	t.boot = bootID
	synced, err := readSynced(filepath.Join(dir, syncedName))
	if err != nil {
		return err
	}
	t.synced = make(map[string]int64, len(synced))
	for _, m := range synced {
		t.synced[m.boot] = max(m.at, t.synced[m.boot])
	}
	return nil
}

// kernelBootID names the running boot and, because CLOCK_BOOTTIME is shifted by one, the time namespace. Where
// /proc does not tell, this process stands for the boot: then others' layers count only when synced.
func kernelBootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil || len(strings.TrimSpace(string(id))) == 0 {
		return "process-" + randomName()
	}
	boot := strings.TrimSpace(string(id))
	if ns, err := os.Readlink("/proc/self/ns/time"); err == nil {
		boot += "/" + ns
	}
	return boot
}

// covers decides whether a layer committed then has all its bytes.
func (t *trust) covers(m moment) bool {
	if m.boot == t.boot {
		return true
	}
	upTo, ok := t.synced[m.boot]
	return ok && m.at <= upTo
}

func now() (int64, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, fmt.Errorf("read clock: %w", err)
	}
	return ts.Nano(), nil
}

// writeMeta writes the meta file of a layer whose bytes are all written.
func (t *trust) writeMeta(path string, marked bool) error {
	at, err := now()
	if err != nil {
		return err
	}
	body := fmt.Sprintf("%sboot %s\ntime %d\n", metaHeader, t.boot, at)
	if marked {
		body += markedLine
	}
	// The home directory is ours alone and not yet published, so the file can be written in place. A
	// second attempt to commit replaces the first one's.
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(withSum(body))
	return errors.Join(err, f.Close())
}

func readMeta(path string) (moment, error) {
	body, err := readSummed(path, maxMeta)
	if err != nil {
		return moment{}, err
	}
	rest, ok := strings.CutPrefix(body, metaHeader+"boot ")
	rest, marked := strings.CutSuffix(rest, markedLine)
	boot, rest, ok2 := strings.Cut(rest, "\ntime ")
	at, err := strconv.ParseInt(strings.TrimSuffix(rest, "\n"), 10, 64)
	if !ok || !ok2 || err != nil {
		return moment{}, errBadMeta
	}
	return moment{boot, at, marked}, nil
}

// sync brings everything committed so far to the disk and then says so.
func (t *trust) sync(ctx context.Context, dir string) error {
	lock, err := filelock.Lock(ctx, filepath.Join(dir, syncLockName), filelock.Exclusive, nil)
	if err != nil {
		return err
	}
	at, err := now() // before the syncfs: what is committed during it may not be covered
	if err == nil {
		err = syncfs(dir)
	}
	if err == nil {
		err = appendSynced(filepath.Join(dir, syncedName), moment{boot: t.boot, at: at})
	}
	return errors.Join(err, lock.Release())
}

func syncfs(dir string) error {
	d, err := openDir(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := retried.Call(func() error { return unix.Syncfs(int(d.Fd())) }); err != nil {
		return &fs.PathError{Op: "syncfs", Path: dir, Err: err}
	}
	return nil
}

func appendSynced(path string, m moment) error {
	list, err := readSynced(path)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(o moment) bool { return o.boot == m.boot })
	list = append(list, m)
	list = list[max(0, len(list)-maxBoots):]
	var b strings.Builder
	b.WriteString(syncedHeader)
	for _, m := range list {
		fmt.Fprintf(&b, "%s %d\n", m.boot, m.at)
	}
	return atomicfile.Write(path, []byte(withSum(b.String())), atomicfile.Options{Durable: true})
}

// readSynced lists the boots, oldest first. A missing or damaged file vouches for nothing.
func readSynced(path string) ([]moment, error) {
	body, err := readSummed(path, maxSynced)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errBadMeta) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	body, ok := strings.CutPrefix(body, syncedHeader)
	if !ok {
		return nil, nil
	}
	var list []moment
	for line := range strings.Lines(body) {
		boot, at, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		n, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			return nil, nil // as documented: damaged, vouches for nothing
		}
		list = append(list, moment{boot: boot, at: n})
	}
	return list, nil
}

// withSum appends a line with the checksum of what is before it: a torn or empty file has none.
func withSum(body string) string {
	return fmt.Sprintf("%ssum sha256:%x\n", body, sha256.Sum256([]byte(body)))
}

// readSummed is the inverse; errBadMeta for anything else.
func readSummed(path string, limit int64) (string, error) {
	fd, err := retried.Open(path, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENXIO) {
		return "", errBadMeta
	}
	if err != nil {
		return "", &fs.PathError{Op: "open", Path: path, Err: err}
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if errors.Is(err, unix.EISDIR) {
		return "", errBadMeta
	}
	if err != nil {
		return "", err
	}
	text := string(data)
	i := strings.LastIndex(text, "sum sha256:")
	if i < 0 || withSum(text[:i]) != text {
		return "", errBadMeta
	}
	return text[:i], nil
}
