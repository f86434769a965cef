package main

import (
	"path/filepath"
	"strings"
)

// environ is the environment of the process. Only this package reads it; what
// other packages need reaches them as options.
type environ map[string]string

func newEnviron(list []string) environ {
	env := make(environ, len(list))
	for _, kv := range list {
		if k, v, ok := strings.Cut(kv, "="); ok && k != "" {
			env[k] = v
		}
	}
	return env
}

func (e environ) lookup(name string) (string, bool) {
	v, ok := e[name]
	return v, ok
}

// stateDir is the default of --root.
func (e environ) stateDir(uid int) (string, error) {
	if uid == 0 {
		return "/var/lib/gobuild", nil
	}
	if dir := e["XDG_DATA_HOME"]; filepath.IsAbs(dir) { // the XDG specification says to ignore relative ones
		return filepath.Join(dir, "gobuild"), nil
	}
	if home := e["HOME"]; filepath.IsAbs(home) {
		return filepath.Join(home, ".local", "share", "gobuild"), nil
	}
	return "", hint(environmentf("no place for the state directory: neither XDG_DATA_HOME nor HOME is set"), "give --root DIR")
}

// tempDir is where short-lived files go.
func (e environ) tempDir() string {
	if dir := e["TMPDIR"]; dir != "" {
		return dir
	}
	return "/tmp"
}

// proxyNames are the variables that RUN gets in both cases (FEATURES B9).
func proxyNames() []string {
	return []string{"HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY"}
}
