package main

import (
	"os"
	"path/filepath"
	"strings"

	"gobuild/registry"
	"gobuild/registry/hostconf"
)

// registryHosts says where mirrors and certificates of registries are configured (FEATURES J6, J7).
func (a *app) registryHosts(f flags) (hostconf.Config, error) {
	c := hostconf.Config{Files: a.registryFiles(), Dirs: []string{"/etc/containerd/certs.d", "/etc/docker/certs.d", "/etc/containers/certs.d"}, Mirrors: map[string][]string{}}
	if f.given("registry-config") {
		c.Files, c.Dirs = nil, nil
	}
	for _, path := range f.list("registry-config") {
		abs, err := existingFile("registry-config", path)
		if err != nil {
			return c, err
		}
		if info, err := os.Stat(abs); err == nil && info.IsDir() {
			c.Dirs = append(c.Dirs, abs)
		} else {
			c.Files = append(c.Files, abs)
		}
	}
	for _, m := range f.list("registry-mirror") {
		host, mirror, ok := strings.Cut(m, "=")
		if !ok {
			host, mirror = "docker.io", m
		}
		name, err := registry.ParseHost(host)
		if err != nil {
			return c, usagef("--registry-mirror=%s: %w", m, err)
		}
		c.Mirrors[name] = append(c.Mirrors[name], mirror)
		if _, err := (hostconf.Config{Mirrors: c.Mirrors}).Lookup(name); err != nil {
			return c, usagef("--registry-mirror=%s: %w", m, err)
		}
	}
	var err error
	if c.CertDir, err = existingFile("cert-dir", f.str("cert-dir")); err != nil {
		return c, err
	}
	if info, err := os.Stat(c.CertDir); c.CertDir != "" && (err != nil || !info.IsDir()) {
		return c, usagef("--cert-dir=%s is no folder", f.str("cert-dir"))
	}
	return c, nil
}

// registryFiles are the places of registries.toml: the user's comes before the system's.
func (a *app) registryFiles() []string {
	const name = "gobuild/registries.toml"
	var files []string
	if dir := a.env["XDG_CONFIG_HOME"]; filepath.IsAbs(dir) {
		files = append(files, filepath.Join(dir, name))
	} else if home := a.env["HOME"]; filepath.IsAbs(home) {
		files = append(files, filepath.Join(home, ".config", name))
	}
	return append(files, filepath.Join("/etc", name))
}
