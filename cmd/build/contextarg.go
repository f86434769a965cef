package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"gobuild/builder"
	"gobuild/internal/lazyre"
)

// fillContext settles the context argument and the Dockerfile (FEATURES C1, C2,
// C8). The function it returns removes what was made for the build.
func (a *app) fillContext(opt *builder.Options, f flags, args []string) (cleanup func() error, err error) {
	cleanup = func() error { return nil }
	file := f.str("file")
	arg, err := contextArg(file, args)
	if err != nil {
		return cleanup, err
	}
	switch {
	case hasAnyPrefix(file, "http://", "https://"):
		opt.DockerfileURL, file = file, ""
	case isRemote(file):
		return cleanup, hint(usagef("-f %s: a Dockerfile is fetched by http or https alone", file), "give the repository as the context")
	}
	switch {
	case arg == "-" && file == "-":
		return cleanup, usagef("the context and the Dockerfile cannot both come from standard input")
	case arg == "-":
		return a.stdinContext(opt, file, opt.DockerfileURL)
	case isRemote(arg):
		opt.ContextURL = arg
	default:
		opt.Context, err = contextDirectory(arg)
	}
	if err != nil {
		return cleanup, err
	}
	switch {
	case file == "":
	case file == "-":
		opt.DockerfileText, err = a.stdinDockerfile()
	case opt.ContextURL != "":
		opt.Dockerfile = file // inside the context
	default:
		opt.Dockerfile, err = existingFile("file", file)
	}
	return cleanup, err
}

// contextArg is the context as given, or "." where that is clearly meant.
func contextArg(file string, args []string) (string, error) {
	if len(args) > 1 {
		return "", usagef("one context is wanted, but there are %d arguments: %q", len(args), args)
	}
	if len(args) == 1 {
		return args[0], nil
	}
	if file != "" {
		return ".", nil
	}
	for _, name := range []string{"Dockerfile", "dockerfile", "Containerfile"} {
		if _, err := os.Stat(name); err == nil {
			return ".", nil
		}
	}
	return "", hint(usagef("no context is given, and there is no Dockerfile here"), "gobuild DIRECTORY, or gobuild help")
}

// scpForm is user@host:path, which git takes for an ssh address.
var scpForm = lazyre.New(`^[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:`)

// isRemote says that a context or file is an address rather than a path.
func isRemote(s string) bool {
	if hasAnyPrefix(s, "http://", "https://", "git://", "ssh://") || scpForm.MatchString(s) {
		return true
	}
	if !hasAnyPrefix(s, "github.com/") {
		return false
	}
	_, err := os.Stat(s)
	return err != nil
}

// contextDirectory checks the context argument.
func contextDirectory(arg string) (string, error) {
	switch {
	case hasAnyPrefix(arg, "s3://", "gs://"):
		return "", hint(usagef("context %s: buckets are not supported", arg), "fetch it first, and give its directory")
	case hasAnyPrefix(arg, "tar://", "dir://"):
		return "", hint(usagef("context %s is not supported yet", arg), "give a directory")
	case arg == "":
		return "", usagef("the context is empty")
	}
	dir, err := directory(arg)
	if err != nil && isWord(arg) && errors.Is(err, fs.ErrNotExist) {
		if near := nearest(arg, commandNames()); near != "" {
			return "", hint(usagef("%q is neither a command nor a directory", arg), "did you mean gobuild "+near+"?")
		}
	}
	if err != nil {
		return "", fmt.Errorf("context: %w", err)
	}
	return dir, nil
}

// isWord says that an argument looks like the name of a command.
func isWord(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && r != '-' {
			return false
		}
	}
	return s != ""
}

// directory is the absolute path of an existing directory.
func directory(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", environmentf("%s: %w", path, err)
	}
	st, err := os.Stat(abs)
	if errors.Is(err, fs.ErrPermission) {
		return "", environmentf("%w", err)
	}
	if err != nil {
		return "", usagef("%w", err)
	}
	if !st.IsDir() {
		return "", hint(usagef("%s is not a directory", path), "gobuild -f "+path+" DIRECTORY builds with that Dockerfile")
	}
	return abs, nil
}

// stdinContext is the context "-": an archive, or a Dockerfile with an empty context (FEATURES C8).
func (a *app) stdinContext(opt *builder.Options, file, url string) (func() error, error) {
	none := func() error { return nil }
	if err := a.checkStdin(); err != nil {
		return none, err
	}
	in := bufio.NewReader(a.stdin)
	head, err := in.Peek(tarBlock)
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		return none, environmentf("read standard input: %w", err)
	case isArchive(head):
		opt.ContextTar, opt.Dockerfile = in, file
		return none, nil
	case file != "" || url != "":
		return none, usagef("-f %s%s: standard input is not an archive, so it is the Dockerfile itself", file, url)
	}
	text, err := readDockerfile(in)
	if err != nil {
		return none, err
	}
	opt.DockerfileText = text
	dir, err := os.MkdirTemp(a.env.tempDir(), "gobuild-context-")
	if err != nil {
		return none, environmentf("make empty context: %w", err)
	}
	opt.Context = dir
	return func() error { return os.Remove(dir) }, nil
}

// stdinDockerfile reads a Dockerfile from standard input. It is never nil.
func (a *app) stdinDockerfile() ([]byte, error) {
	if err := a.checkStdin(); err != nil {
		return nil, err
	}
	data, err := readDockerfile(a.stdin)
	if err == nil && isArchive(data) {
		return nil, hint(usagef("standard input is an archive, and -f - wants a Dockerfile"), "give the context - for an archive")
	}
	return data, err
}

func (a *app) checkStdin() error {
	if isTerminal(a.stdin) {
		return hint(usagef("standard input is a terminal"), "gobuild - < Dockerfile")
	}
	return nil
}

// readDockerfile reads all of r within the bound. It is never nil without an error.
func readDockerfile(r io.Reader) ([]byte, error) {
	data, err := readAtMost(r, "standard input", maxDockerfile)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if data == nil {
		data = []byte{}
	}
	return data, nil
}

// tarBlock is the unit of a tar archive, and the size of its first header.
const tarBlock = 512

// isArchive says that data starts like a tar archive, plain or compressed in one of the usual forms.
func isArchive(data []byte) bool {
	for _, magic := range []string{"\x1f\x8b", "BZh", "\xfd7zXZ\x00", "\x28\xb5\x2f\xfd"} {
		if bytes.HasPrefix(data, []byte(magic)) {
			return true
		}
	}
	if len(data) < tarBlock {
		return false
	}
	// By the header's checksum, which no text has: archives of before POSIX have no magic number. A first header that
	// only describes the next one ends in the middle of something.
	_, err := tar.NewReader(bytes.NewReader(data[:tarBlock])).Next()
	return err == nil || errors.Is(err, tar.ErrInsecurePath) || errors.Is(err, io.ErrUnexpectedEOF)
}
