package sandbox

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"gobuild/internal/ownthread"
	"gobuild/internal/rescue"
)

// process is a child as its Runner sees it, from its start to its end.
type process struct {
	kind    kind
	group   *group // where limits were known at the start
	stdout  *os.File
	stderr  *os.File
	outputs [2]*os.File // their other ends, until the init has them

	born     chan error      // one value: the init has started, or why not
	attached chan bool       // one value: the child may go on, or is not wanted
	steps    chan *childStep // at most one value
	outcome  chan childReply // one value, when the step is over
	over     chan struct{}   // closed when the thread has nothing more to do
	ended    chan struct{}   // closed when its network is gone, too

	stop sync.Once
	quit chan struct{} // closed when no step will come

	mu   sync.Mutex
	pid  int // of the init
	init int // pidfd of the same; -1 before it has started and when the process is closed
}

type spawnRequest struct {
	net   *stepNet
	ended func(error) // told how its network was removed
	prep  childPrep
}

// spawn starts a child, which builds all that does not depend on its step.
func spawn(exe *os.File, req *spawnRequest) (*process, error) {
	p := &process{
		born: make(chan error, 1), attached: make(chan bool, 1), steps: make(chan *childStep, 1), outcome: make(chan childReply, 1),
		over: make(chan struct{}), ended: make(chan struct{}), quit: make(chan struct{}), init: -1,
	}
	if err := p.open(); err != nil {
		p.closeFiles()
		return nil, setupError("start sandbox", "", err)
	}
	go func() {
		_ = ownthread.Do(func() error { // what fails is told by channels
			p.live(req, exe)
			return nil
		})
	}()
	err := <-p.born
	for i, f := range p.outputs {
		_ = f.Close()
		p.outputs[i] = nil
	}
	if err != nil {
		<-p.over
		p.closeFiles()
		return nil, err
	}
	go func() {
		defer close(p.ended)
		<-p.over
		if err := rescue.Do(func() error { req.net.release(req.ended); return nil }); err != nil {
			req.ended(err)
		}
	}()
	err = req.net.attach(p.pid)
	p.attached <- err == nil
	if err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// open makes the pipes of the command's output.
func (p *process) open() error {
	for i, end := range []**os.File{&p.stdout, &p.stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			return err
		}
		*end, p.outputs[i] = r, w
	}
	return nil
}

func (p *process) started(pid, pidfd int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.pid, p.init = pid, pidfd
}

// signal sends a signal to the init, which passes on what is for the command.
func (p *process) signal(s unix.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.init >= 0 {
		_ = unix.PidfdSendSignal(p.init, s, nil, 0)
	}
}

func (p *process) closeFiles() {
	for _, f := range []*os.File{p.outputs[0], p.outputs[1], p.stdout, p.stderr} {
		if f != nil {
			_ = f.Close()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.init >= 0 {
		_ = unix.Close(p.init)
		p.init = -1
	}
}

// kill ends the init and, with its pid namespace, every process of the step, and waits until all are gone.
func (p *process) kill() {
	p.signal(unix.SIGKILL)
	p.dismiss()
}

// dismiss lets a child go that waits for a step.
func (p *process) dismiss() {
	p.stop.Do(func() { close(p.quit) })
	<-p.ended
	p.closeFiles()
}
