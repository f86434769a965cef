package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"gobuild/builder"
	"gobuild/internal/userns"
)

// rights is what a command needs beyond the user's own.
type rights int

const (
	rightsOwn    rights = iota // none: what it touches is the user's
	rightsLayers               // over the files of layers, if there are any; without them it does what it can
	rightsSteps                // to make files of other users, or to run steps
)

// always is for a command that needs the same whatever its flags are.
func always(r rights) func(flags) rights { return func(flags) rights { return r } }

// invoker is who runs gobuild.
type invoker struct {
	uid    int            // of the user, outside of a namespace that gobuild made
	inside *userns.Inside // gobuild is in a user namespace that it made
	err    error          // it is in one that is of no use
}

// signals are those that this process gets by the one that started it; none come by nil.
func (w *invoker) signals() <-chan syscall.Signal {
	if w.inside == nil {
		return nil
	}
	return w.inside.Signals
}

// enterNamespace finds out whether this process was started by another gobuild, to be root of a user namespace, and waits until it is.
func enterNamespace() (invoker, bool) {
	mark := os.Getenv(userns.Mark)
	if mark == "" {
		return invoker{uid: os.Geteuid()}, true
	}
	_ = os.Unsetenv(userns.Mark) // not for our children
	inside, err := userns.Enter(mark, os.Getenv("HOME"))
	switch {
	case errors.Is(err, userns.ErrGone):
		return invoker{}, false
	case err != nil:
		return invoker{uid: os.Geteuid(), err: &environmentError{err}}, true
	}
	return invoker{uid: inside.UID, inside: inside}, true
}

// intoNamespace runs a command of a user who is not root again, in a user namespace that it makes. It says whether that was done.
func (a *app) intoNamespace(ctx context.Context, need rights) (done bool, err error) {
	if a.who.err != nil {
		return false, a.who.err
	}
	if need == rightsOwn || a.who.inside != nil || a.who.uid == 0 {
		return false, nil
	}
	signals := make(chan syscall.Signal, 1)
	stop := context.AfterFunc(ctx, func() {
		var sig *signalError
		if errors.As(context.Cause(ctx), &sig) {
			signals <- sig.sig // the second one ends both
		}
	})
	defer stop()
	cfg := a.namespaceConfig()
	cfg.Args, cfg.Env, cfg.Signals = append([]string{"gobuild"}, a.args...), os.Environ(), signals
	code, err := userns.Run(cfg)
	var missing *userns.Error
	if errors.As(err, &missing) {
		code, err = a.withOneID(cfg, need, missing)
	}
	if err == nil {
		a.finished = &statusError{code}
		return true, a.finished
	}
	if need == rightsLayers {
		a.noNamespace = err
		return false, nil
	}
	return false, &environmentError{err}
}

// files says whose files of layers are, and what is written for the user.
func (w *invoker) files(cfg builder.Config) builder.Config {
	cfg.RecordOwners = w.inside != nil && w.inside.OneID
	cfg.AnyOwners = w.inside == nil && w.uid != 0
	cfg.OwnFiles = w.inside != nil // others would have ids of the user's range, which only a namespace can touch
	return cfg
}

// namespaceConfig says who is to be root of a namespace.
func (a *app) namespaceConfig() userns.Config {
	return userns.Config{UID: a.who.uid, GID: os.Getegid(), User: userName(a.who.uid), Path: a.helperPath()}
}

// withOneID runs the command in a namespace with the user's own id alone, for want of a range.
func (a *app) withOneID(cfg userns.Config, need rights, missing *userns.Error) (int, error) {
	if need == rightsSteps {
		a.printer.Notice(fmt.Sprintf("the build has one user id, and records who owns what: %v (%s)", missing, missing.Remedy()))
	}
	cfg.OneID = true
	return userns.Run(cfg)
}

func userName(uid int) string {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return ""
	}
	return u.Username
}

// withoutNamespace adds to what was refused to a user why it was not done as root of a namespace.
func (a *app) withoutNamespace(err error) error {
	var e *userns.Error
	if a.noNamespace == nil || !errors.Is(err, fs.ErrPermission) || !errors.As(a.noNamespace, &e) {
		return err
	}
	return hint(err, e.Remedy()+" ("+e.Error()+")")
}
