package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// process is a child from its start to its end.
type process struct {
	proc    *os.Process
	kind    kind
	group   *group // where limits were known at the start
	control *os.File
	stdout  *os.File
	stderr  *os.File
	ended   chan struct{} // closed when it has been waited for
}

// spawner starts children. It does so on one thread that lives until all of them have ended: a child gets SIGKILL when the
// thread that started it ends (prctl(2), PR_SET_PDEATHSIG), which is to happen only when the whole of gobuild does.
type spawner struct {
	exe      *os.File
	requests chan spawnRequest
	done     chan struct{}
}

type spawnRequest struct {
	net   *stepNet
	ended func(error) // told how its network was removed
	prep  prepFrame
	reply chan spawnReply
}

type spawnReply struct {
	p   *process
	err error
}

func newSpawner(executable string) (*spawner, error) {
	exe, err := openExecutable(executable)
	if err != nil {
		return nil, err
	}
	s := &spawner{exe: exe, requests: make(chan spawnRequest), done: make(chan struct{})}
	go s.loop()
	return s, nil
}

// openExecutable opens the binary through a read-only mount of its own, so that not even root in a step could write to what
// /proc/1/exe names (CVE-2019-5736).
func openExecutable(path string) (*os.File, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, setupError("find executable", path, err)
	}
	fd, err := cloneMount(unix.AT_FDCWD, path, 0, unix.MOUNT_ATTR_RDONLY|attrNoDev|unix.MOUNT_ATTR_NOSUID, 0)
	if err != nil {
		return nil, setupError("open executable", path, err)
	}
	return os.NewFile(uintptr(fd), path), nil
}

func (s *spawner) loop() {
	runtime.LockOSThread() // never unlocked: the thread ends here
	for req := range s.requests {
		p, err := s.start(req)
		req.reply <- spawnReply{p, err}
	}
	close(s.done)
}

// spawn starts a child, which builds all that does not depend on its step.
func (s *spawner) spawn(net *stepNet, ended func(error), prep prepFrame) (*process, error) {
	reply := make(chan spawnReply, 1)
	s.requests <- spawnRequest{net, ended, prep, reply}
	r := <-reply
	return r.p, r.err
}

// close ends the thread. All children must have ended.
func (s *spawner) close() error {
	close(s.requests)
	<-s.done
	return s.exe.Close()
}

func (s *spawner) start(req spawnRequest) (*process, error) {
	p := &process{ended: make(chan struct{})}
	files, err := p.open()
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	if err != nil {
		p.closeFiles()
		return nil, setupError("start sandbox", "", err)
	}
	flags := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP)
	err = req.net.start(flags, func(flags uintptr) (err error) {
		p.proc, err = os.StartProcess("/proc/self/fd/"+strconv.Itoa(exeFD), []string{childName}, &os.ProcAttr{
			Dir: "/",
			Env: childEnv(),
			// The executable is laid out with the others: what has another number may be overwritten while they are.
			Files: append(slices.Clip(files), s.exe),
			Sys:   &syscall.SysProcAttr{Cloneflags: flags, Pdeathsig: syscall.SIGKILL, Setsid: true},
		})
		return err
	})
	if err != nil {
		p.closeFiles()
		return nil, startError(err)
	}
	go func() {
		_, _ = p.proc.Wait()
		req.net.release(req.ended)
		close(p.ended)
	}()
	if err := req.net.attach(p.proc.Pid); err != nil {
		p.kill()
		return nil, err
	}
	if err := writeFrame(p.control, req.prep); err != nil && !errors.Is(err, unix.EPIPE) {
		p.kill()
		return nil, setupError("start sandbox", "", err)
	}
	return p, nil
}

// childEnv keeps the Go runtime of a child small and quick to start: one processor, no collection of the little it allocates,
// and no look at cgroup files.
func childEnv() []string {
	return []string{"GOMAXPROCS=1", "GOGC=off", "GODEBUG=containermaxprocs=0,updatemaxprocs=0"}
}

func startError(err error) error {
	e := setupError("create namespaces", "", err)
	if errors.Is(err, unix.EPERM) {
		e.Detail = "root with CAP_SYS_ADMIN is needed to run steps"
	}
	return e
}

// open makes the child's descriptors 0 to 3 and ours for the other ends.
func (p *process) open() (files []*os.File, err error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	files = append(files, null)
	for _, end := range []**os.File{&p.stdout, &p.stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			return files, err
		}
		*end = r
		files = append(files, w)
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return files, fmt.Errorf("socketpair: %w", err)
	}
	if err := unix.SetNonblock(pair[0], true); err != nil {
		return files, err
	}
	p.control = os.NewFile(uintptr(pair[0]), "control")
	return append(files, os.NewFile(uintptr(pair[1]), "control")), nil
}

func (p *process) closeFiles() {
	for _, f := range []*os.File{p.control, p.stdout, p.stderr} {
		if f != nil {
			_ = f.Close()
		}
	}
}

// kill ends the child and, with its pid namespace, every process of the step, and waits until all are gone.
func (p *process) kill() {
	_ = p.proc.Kill()
	<-p.ended
	p.closeFiles()
}

// dismiss lets a child go that waits for a step: the end of its socket is the order.
func (p *process) dismiss() {
	_ = p.control.Close()
	<-p.ended
	p.closeFiles()
}
