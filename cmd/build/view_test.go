package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/ui"
)

// openTTY is a terminal of a size, and what reads it.
func openTTY(t *testing.T, columns, rows uint16) (tty, master *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tty.Close() })
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
		t.Fatal(err)
	}
	return tty, master
}

func TestO2_WhichView(t *testing.T) {
	t.Parallel()
	wide, _ := openTTY(t, 80, 24)
	narrow, _ := openTTY(t, 39, 24)
	low, _ := openTTY(t, 80, 9)
	with := func(pairs ...string) environ { return newEnviron(append(pairs, "HOME=/")) }
	for _, tt := range []struct {
		env    environ
		stderr io.Writer
		args   string
		want   ui.Mode
		err    string
	}{
		{env: with("TERM=xterm"), stderr: wide, want: ui.TTY},
		{env: with("TERM=xterm"), stderr: narrow, want: ui.Plain},
		{env: with("TERM=xterm"), stderr: low, want: ui.Plain},
		{env: with("TERM=xterm"), stderr: io.Discard, want: ui.Plain},
		{env: with("TERM=dumb"), stderr: wide, want: ui.Plain},
		{env: with(), stderr: wide, want: ui.Plain},
		{env: with("TERM=xterm", "CI=true"), stderr: wide, want: ui.Plain},
		{env: with("TERM=xterm", "BUILDKIT_PROGRESS=plain"), stderr: wide, want: ui.Plain},
		{env: with("TERM=dumb", "BUILDKIT_PROGRESS=tty"), stderr: narrow, want: ui.TTY},
		{env: with("BUILDKIT_PROGRESS=tty"), stderr: io.Discard, want: ui.Plain},
		{env: with("GOBUILD_PROGRESS=tty"), stderr: io.Discard, want: ui.Plain},
		{env: with("TERM=xterm"), stderr: wide, args: "--progress=auto", want: ui.TTY},
		{env: with("TERM=xterm"), stderr: wide, args: "--progress=plain-buildkit", want: ui.Classic},
		{env: with(), stderr: io.Discard, args: "--progress=tty", err: "standard error is no terminal"},
		{env: with("TERM=xterm", "BUILDKIT_TTY_LOG_LINES=x"), stderr: wide, want: ui.TTY, err: "BUILDKIT_TTY_LOG_LINES=x: want a number"},
	} {
		a := newApp(t, tt.env)
		a.stderr = tt.stderr
		f, _, err := judgeArgs(t, a.env, strings.Fields(tt.args)...)
		if err != nil {
			t.Fatal(err)
		}
		opt, err := a.uiOptions(f)
		if tt.err != "" {
			wantUsage(t, err, tt.err)
		} else if err != nil {
			t.Errorf("%v %s: %v", tt.env, tt.args, err)
		}
		if tt.want != "" && opt.Mode != tt.want {
			t.Errorf("%v %s: mode %q, want %q", tt.env, tt.args, opt.Mode, tt.want)
		}
	}
}

func TestO4_TerminalAndLocale(t *testing.T) {
	t.Parallel()
	tty, _ := openTTY(t, 132, 43)
	a := newApp(t, newEnviron([]string{"TERM=xterm", "LC_ALL=", "LANG=de_DE.UTF-8", "BUILDKIT_TTY_LOG_LINES=3"}))
	a.stderr = tty
	f, _, err := judgeArgs(t, a.env)
	if err != nil {
		t.Fatal(err)
	}
	opt, err := a.uiOptions(f)
	if err != nil {
		t.Fatal(err)
	}
	if columns, rows := opt.Size(); columns != 132 || rows != 43 || opt.ASCII || opt.LogLines != 3 {
		t.Errorf("%d by %d, ASCII %v, %d lines", columns, rows, opt.ASCII, opt.LogLines)
	}
	for env, want := range map[string]bool{"LANG=C": false, "LANG=en_US.utf8": true, "LC_ALL=POSIX": false, "X=": false} {
		if got := newEnviron([]string{env}).utf8(); got != want {
			t.Errorf("%s: UTF-8 %v", env, got)
		}
	}
}

// TestO4_ABuildOnATerminal leaves on the terminal what stays, and the cursor at the beginning of a line.
func TestO4_ABuildOnATerminal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY Dockerfile /\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tty, master := openTTY(t, 80, 24)
	var got bytes.Buffer
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(&got, master) // EIO when the other side is closed
	}()
	env := []string{"TERM=xterm", "NO_COLOR=1", "HOME=" + dir, "LANG=C.UTF-8"}
	if code := run(t.Context(), []string{"--root", filepath.Join(dir, "root"), "-t", "x", dir}, env, strings.NewReader(""), io.Discard, tty); code != 0 {
		t.Errorf("exit status %d", code)
	}
	_ = tty.Close()
	<-read
	text := got.String()
	if !strings.Contains(text, "✔ [1/1] COPY Dockerfile /") || !strings.Contains(text, "Successfully tagged docker.io/library/x:latest") ||
		!strings.HasSuffix(text, "\n\x1b[J") || strings.Contains(text, "\x1b[?") {
		t.Errorf("%q", text)
	}
}
