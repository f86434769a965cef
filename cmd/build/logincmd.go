package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"gobuild/builder"
	"gobuild/internal/rescue"
	"gobuild/registry"
)

func loginCommand() command {
	return command{
		name: "login", group: "Registries", args: "[HOST]", short: "Log in to a registry",
		long: "Check a user name and a password with a registry (default docker.io) and keep them in Docker's configuration file, or with the credential helper that it names.",
		flags: func() []flagSpec {
			return []flagSpec{
				{name: "username", short: "u", kind: kindString, arg: "NAME", text: "user name (default: ask)"},
				{name: "password-stdin", kind: kindBool, text: "read the password from standard input"},
				{name: "password", short: "p", kind: kindString, arg: "PASSWORD", text: "password; other users of this machine can see it there"},
			}
		},
		run: (*app).login,
	}
}

func logoutCommand() command {
	return command{
		name: "logout", group: "Registries", args: "[HOST]", short: "Forget the login to a registry",
		run: (*app).logout,
	}
}

func (a *app) login(ctx context.Context, args []string) error {
	l, err := a.loginOf("login", args)
	if err != nil {
		return err
	}
	if err := a.askLogin(ctx, &l); err != nil {
		return err
	}
	cfg, err := a.configWith(a.flags, "")
	if err != nil {
		return err
	}
	b, err := builder.Open(cfg)
	if err != nil {
		return err
	}
	where, err := b.Login(ctx, l, a.printer.Event)
	if err = errors.Join(err, b.Close()); err != nil {
		return err
	}
	if where == l.File {
		a.printer.Notice("the password is in " + where + ", readable by you alone but not encrypted; a credential helper (credsStore there) would encrypt it")
	}
	return a.print("Logged in to " + l.Host + " as " + l.User)
}

func (a *app) logout(ctx context.Context, args []string) error {
	l, err := a.loginOf("logout", args)
	if err != nil {
		return err
	}
	found, err := l.Erase(ctx)
	if err != nil {
		return environmentf("%w", err)
	}
	if !found {
		return a.print("There was no login to " + l.Host)
	}
	return a.print("Forgot the login to " + l.Host)
}

// loginOf is the registry that is meant, and the file that the login is kept in: the first that would be read.
func (a *app) loginOf(name string, args []string) (registry.Login, error) {
	arg, err := hostArgument(name, args)
	if err != nil {
		return registry.Login{}, err
	}
	host, err := registry.ParseHost(arg)
	if err != nil {
		return registry.Login{}, usagef("%w", err)
	}
	l := registry.Login{Host: host, File: a.flags.str("authfile")}
	if l.File == "" {
		if l.File, err = a.authFile(a.flags); err != nil {
			return l, err
		}
	}
	if candidates := a.authCandidates(); l.File == "" && len(candidates) > 0 {
		l.File = candidates[0]
	}
	if l.File == "" {
		return l, hint(environmentf("no place to keep the login: HOME is not set"), "give --authfile FILE")
	}
	return l, nil
}

// askLogin fills in the user and the password, from flags, standard input or the terminal.
func (a *app) askLogin(ctx context.Context, l *registry.Login) error {
	f := a.flags
	l.User, l.Password = f.str("username"), f.str("password")
	terminal, _ := a.stdin.(*os.File)
	if terminal != nil && !term.IsTerminal(int(terminal.Fd())) {
		terminal = nil
	}
	switch {
	case f.is("password-stdin") && f.given("password"):
		return usagef("--password and --password-stdin exclude each other")
	case f.is("password-stdin") && l.User == "":
		return hint(usagef("--password-stdin needs --username"), "gobuild login --username NAME --password-stdin HOST")
	case f.is("password-stdin"):
		data, err := readAtMost(a.stdin, "the password on standard input", maxPassword)
		l.Password = strings.TrimRight(string(data), "\r\n")
		return err
	case f.given("password"):
		a.printer.Notice("a password on the command line can be seen by other users of this machine; --password-stdin is safer")
	case terminal == nil:
		return hint(usagef("no password is given, and standard input is no terminal to ask at"), "gobuild login --username NAME --password-stdin HOST < FILE")
	}
	if terminal == nil {
		return nil // what is missing is said by the check
	}
	return a.whileAsking(ctx, terminal, func() error { return a.askTerminal(l, terminal) })
}

// whileAsking leaves the terminal as it was when a signal ends the question: the echo is off then.
func (a *app) whileAsking(ctx context.Context, terminal *os.File, ask func() error) error {
	before, err := term.GetState(int(terminal.Fd()))
	if err != nil {
		return environmentf("read the terminal's state: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- rescue.Do(ask) }() // ends with the process if nobody types
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return errors.Join(context.Cause(ctx), term.Restore(int(terminal.Fd()), before))
	}
}

func (a *app) askTerminal(l *registry.Login, terminal *os.File) error {
	a.printer.Sync()
	if l.User == "" {
		fmt.Fprintf(a.stderr, "User name for %s: ", l.Host)
		line, err := bufio.NewReader(io.LimitReader(terminal, maxPassword)).ReadString('\n')
		if err != nil {
			return environmentf("read the user name: %w", err)
		}
		l.User = strings.TrimSpace(line)
	}
	if l.Password == "" {
		fmt.Fprintf(a.stderr, "Password for %s: ", l.User)
		secret, err := term.ReadPassword(int(terminal.Fd()))
		fmt.Fprintln(a.stderr)
		if err != nil {
			return environmentf("read the password: %w", err)
		}
		l.Password = string(secret)
	}
	return nil
}
