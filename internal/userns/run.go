package userns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"gobuild/internal/rescue"
)

// Mark is the variable of the environment by which the second process knows what it is.
const Mark = "_GOBUILD_USER_NAMESPACE"

// The files that give users ids.
const (
	SubUIDs = "/etc/subuid"
	SubGIDs = "/etc/subgid"
)

// Config says who is to be root in the namespace, and of what.
type Config struct {
	UID, GID int
	User     string   // the name of UID, "" unknown
	Path     []string // directories that newuidmap and newgidmap are looked for in
	Args     []string // with the name of the program
	Env      []string
	Signals  <-chan syscall.Signal // passed on to the second process
	OneID    bool                  // the user's own id alone is mapped, which needs no range and no program
}

// Run starts this program again in a new namespace, waits for it, and gives its exit status, 128+n when signal n has ended it.
// With an error the second process has done nothing.
func Run(cfg Config) (int, error) {
	m := &mapping{one: cfg.OneID, uid: cfg.UID, gid: cfg.GID}
	if !cfg.OneID {
		if err := cfg.findRanges(m); err != nil {
			return 0, err
		}
	}
	// The second process is killed when the thread that started it ends (prctl(2), PR_SET_PDEATHSIG).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	p, orders, err := cfg.start()
	if err != nil {
		return 0, err
	}
	defer orders.Close()
	if err := m.apply(p.Pid); err != nil {
		_ = orders.Close() // it ends
		_, _ = p.Wait()
		return 0, err
	}
	if _, err := orders.Write([]byte{0}); err != nil && !errors.Is(err, unix.EPIPE) {
		_, _ = p.Kill(), orders.Close()
		_, _ = p.Wait()
		return 0, fmt.Errorf("start in user namespace: %w", err)
	}
	return cfg.wait(p, orders)
}

// wait passes signals on until the second process has ended.
func (cfg *Config) wait(p *os.Process, orders *os.File) (int, error) {
	done := make(chan struct{})
	defer close(done)
	go func() {
		for {
			select {
			case s := <-cfg.Signals:
				_, _ = orders.Write([]byte{byte(s)})
			case <-done:
				return
			}
		}
	}()
	state, err := p.Wait()
	if err != nil {
		return 0, fmt.Errorf("wait for the process in the user namespace: %w", err)
	}
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal()), nil
	}
	return state.ExitCode(), nil
}

// start makes the namespace with the second process in it, which waits for the first byte of orders.
func (cfg *Config) start() (*os.Process, *os.File, error) {
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("start in user namespace: %w", err)
	}
	defer unix.Close(pipe[0])
	orders := os.NewFile(uintptr(pipe[1]), "orders")
	// It keeps its number, so that it takes the place of no other descriptor that was inherited.
	if _, err := unix.FcntlInt(uintptr(pipe[0]), unix.F_SETFD, 0); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("start in user namespace: %w", err), orders.Close())
	}
	p, err := os.StartProcess("/proc/self/exe", cfg.Args, &os.ProcAttr{
		Env:   append(without(cfg.Env, Mark), fmt.Sprintf("%s=%d:%d%s", Mark, cfg.UID, pipe[0], oneIDMark(cfg.OneID))),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL,
			// No id is mapped yet when it executes the program, which therefore is not root's and would have no capabilities
			// (capabilities(7), "Transformation of capabilities during execve()").
			AmbientCaps: allCaps(),
		},
	})
	if err != nil {
		return nil, nil, errors.Join(readSettings().refused("make user namespace", err), orders.Close())
	}
	return p, orders, nil
}

func without(env []string, name string) []string {
	var kept []string
	for _, kv := range env {
		if !strings.HasPrefix(kv, name+"=") {
			kept = append(kept, kv)
		}
	}
	return kept
}

// allCaps are the capabilities that this kernel has.
func allCaps() []uintptr {
	last, err := strconv.Atoi(setting("kernel/cap_last_cap"))
	if err != nil || last < 0 || last > 63 {
		last = unix.CAP_LAST_CAP
	}
	var list []uintptr
	for c := range last + 1 {
		list = append(list, uintptr(c))
	}
	return list
}

// oneIDMark ends the mark where one id is mapped.
func oneIDMark(one bool) string {
	if one {
		return ":one"
	}
	return ""
}

// mapping is what newuidmap and newgidmap are to do, or with one what is written.
type mapping struct {
	uidmap, gidmap []string // command lines without the process
	one            bool
	uid, gid       int
}

// Missing says why a user has no range of ids that can be mapped, as far as that is seen without doing it.
func Missing(cfg Config) error { return cfg.findRanges(&mapping{}) }

// findRanges finds out what can be mapped, and with what.
func (cfg *Config) findRanges(m *mapping) error {
	if cfg.User == "" {
		return &Error{
			Op: "map ids into a user namespace", Why: fmt.Sprintf("user %d has no name in /etc/passwd, which newuidmap asks for", cfg.UID),
			remedy: fmt.Sprintf("sudo useradd -u %d NAME, and a range for NAME in %s and %s", cfg.UID, SubUIDs, SubGIDs),
		}
	}
	for _, one := range []struct {
		file, program string
		id            int
		into          *[]string
	}{{SubUIDs, "newuidmap", cfg.UID, &m.uidmap}, {SubGIDs, "newgidmap", cfg.GID, &m.gidmap}} {
		ranges, err := Ranges(one.file, cfg.UID, cfg.User)
		if err != nil {
			return &Error{Op: "read " + one.file, Why: err.Error(), remedy: "sudo chmod 644 " + one.file}
		}
		if len(ranges) == 0 {
			return cfg.noRange(one.file)
		}
		program := find(one.program, cfg.Path)
		if program == "" {
			return &Error{
				Op: "map ids into a user namespace", Why: one.program + " is not installed, which gives a user the ids of " + one.file,
				remedy: "sudo apt-get install uidmap (package shadow-utils of Fedora, shadow-uidmap of Alpine)",
			}
		}
		line := []string{program, "0", strconv.Itoa(one.id), "1"}
		inside := uint64(1)
		for _, r := range ranges {
			line = append(line, strconv.FormatUint(inside, 10), strconv.FormatUint(uint64(r.First), 10), strconv.FormatUint(uint64(r.Count), 10))
			inside += uint64(r.Count)
		}
		*one.into = line
	}
	return nil
}

func (cfg *Config) noRange(file string) *Error {
	name := cfg.User
	if name == "" {
		name = strconv.Itoa(cfg.UID)
	}
	first := unused(SubUIDs, SubGIDs)
	last := first + 1<<16 - 1
	return &Error{
		Op:     "map ids into a user namespace",
		Why:    fmt.Sprintf("%s gives user %s none, and an image's files belong to several users", file, name),
		remedy: fmt.Sprintf("sudo usermod --add-subuids %d-%d --add-subgids %d-%d %s", first, last, first, last, name),
	}
}

// find finds an executable file in directories.
func find(name string, dirs []string) string {
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		if st, err := os.Stat(path); filepath.IsAbs(dir) && err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o111 != 0 {
			return path
		}
	}
	return ""
}

// apply maps both kinds of ids of a process at once.
func (m *mapping) apply(pid int) error {
	if m.one {
		return m.mapOne(pid)
	}
	var both errgroup.Group
	for _, line := range [][]string{m.uidmap, m.gidmap} {
		both.Go(func() error { return rescue.Do(func() error { return mapIDs(line, pid) }) })
	}
	return both.Wait()
}

// mapOne maps the user's own ids, which the kernel lets everybody do who gives up setgroups(2) (user_namespaces(7)).
func (m *mapping) mapOne(pid int) error {
	for _, f := range [][2]string{{"uid_map", fmt.Sprintf("0 %d 1\n", m.uid)}, {"setgroups", "deny"}, {"gid_map", fmt.Sprintf("0 %d 1\n", m.gid)}} {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, f[0]), []byte(f[1]), 0); err != nil {
			return readSettings().refused("map the user's own id into a user namespace", err)
		}
	}
	return nil
}

func mapIDs(line []string, pid int) error {
	cmd := exec.CommandContext(context.Background(), line[0], append([]string{strconv.Itoa(pid)}, line[1:]...)...) //nolint:gosec // the helper's path and numbers
	cmd.Env = []string{}
	said := &head{}
	cmd.Stderr, cmd.Stdout = said, said
	err := cmd.Run()
	if err == nil {
		return nil
	}
	why := strings.TrimPrefix(said.text(), filepath.Base(line[0])+": ")
	if why == "" {
		why = err.Error()
	}
	e := &Error{Op: "map ids into a user namespace with " + line[0], Why: why}
	st, statErr := os.Stat(line[0])
	s := readSettings()
	switch {
	case s.noNewPrivs:
		e.Why += " (no_new_privs is set: the program cannot get the rights that it needs)"
		e.remedy = "start the container around gobuild without --security-opt no-new-privileges; for Kubernetes, allowPrivilegeEscalation: true"
	case statErr == nil && st.Mode()&os.ModeSetuid == 0 && !hasFileCaps(line[0]):
		e.Why += " (the program is not setuid root)"
		e.remedy = "sudo chmod u+s " + line[0]
	case s.appArmor == "1":
		return s.refused(e.Op, errors.New(e.Why))
	default:
		e.remedy = "see that the ranges of this user in " + SubUIDs + " and " + SubGIDs + " are the user's alone"
	}
	return e
}

func hasFileCaps(path string) bool {
	n, err := unix.Lgetxattr(path, "security.capability", nil)
	return err == nil && n > 0
}

// head keeps the beginning of what a program says.
type head struct{ buf bytes.Buffer }

func (h *head) Write(p []byte) (int, error) {
	h.buf.Write(p[:min(len(p), maxSaid-h.buf.Len())])
	return len(p), nil
}

func (h *head) text() string { return strings.Join(strings.Fields(h.buf.String()), " ") }
