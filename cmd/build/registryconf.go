package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gobuild/registry"
	"gobuild/registry/hostconf"
)

// registryHosts says where mirrors and certificates of registries are configured (FEATURES J6, J7).
func (a *app) registryHosts(f flags) (hostconf.Config, error) {
	c := hostconf.Config{Files: a.registryFiles(), Containers: a.containersFiles(), Dirs: []string{"/etc/containerd/certs.d", "/etc/docker/certs.d", "/etc/containers/certs.d"}, Mirrors: map[string][]string{}}
	if f.given("registry-config") {
		c.Files, c.Containers, c.Dirs = nil, nil, nil
	}
	for _, path := range f.list("registry-config") {
		abs, err := existingFile("registry-config", path)
		if err != nil {
			return c, err
		}
		if info, err := os.Stat(abs); err == nil && info.IsDir() {
			c.Dirs = append(c.Dirs, abs)
		} else if filepath.Ext(abs) == ".conf" {
			c.Containers = append(c.Containers, abs)
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
		if _, err := (hostconf.Config{Mirrors: c.Mirrors}).Lookup(name, ""); err != nil {
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

// containersFiles are the places of registries.conf (containers-registries.conf(5)): fragments, of which the later in their order
// count, the user's before the system's, and one file, the system's only where the user has none.
func (a *app) containersFiles() []string {
	if file := a.env["CONTAINERS_REGISTRIES_CONF"]; file != "" {
		return []string{file}
	}
	const name = "containers/registries.conf"
	user := ""
	if dir := a.env["XDG_CONFIG_HOME"]; filepath.IsAbs(dir) {
		user = filepath.Join(dir, name)
	} else if home := a.env["HOME"]; filepath.IsAbs(home) {
		user = filepath.Join(home, ".config", name)
	}
	system := filepath.Join("/etc", name)
	var files []string
	for _, file := range []string{user, system} {
		if file == "" {
			continue
		}
		entries, _ := os.ReadDir(file + ".d") // most machines have none; they are in order
		for _, e := range slices.Backward(entries) {
			if filepath.Ext(e.Name()) == ".conf" {
				files = append(files, filepath.Join(file+".d", e.Name()))
			}
		}
	}
	if _, err := os.Stat(user); user != "" && err == nil {
		return append(files, user)
	}
	return append(files, system)
}
