package main

import (
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"gobuild/builder"
	"gobuild/internal/rescue"
	"gobuild/ui"
)

// suspendable has ^Z stop the steps too, and the shell's fg let them go on: they are in sessions of their own, which a terminal's
// signals do not reach. The returned function ends that. Where ^Z is ignored it stays so.
func suspendable(b *builder.Builder, printer *ui.Printer) (end func()) {
	if signal.Ignored(syscall.SIGTSTP) {
		return func() {}
	}
	signals, done := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGTSTP)
	go func() {
		defer close(done)
		for range signals {
			resume := printer.Pause() // the terminal is the shell's meanwhile
			err := rescue.Do(func() error { return b.Suspend(stopSelf) })
			resume()
			if err != nil {
				printer.Notice(err.Error())
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		<-done
	}
}

// stopSelf stops this process, and returns when it goes on. It is SIGSTOP, since Go's runtime keeps its handler of SIGTSTP, which
// would swallow it.
func stopSelf() {
	runtime.LockOSThread() // so that the signal arrives before the call returns
	defer runtime.UnlockOSThread()
	_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGSTOP)
}
