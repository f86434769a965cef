package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gobuild/builder"
)

// config is what the builder needs to know of this machine.
func (a *app) config(f flags) (builder.Config, error) {
	auth, err := a.authFile(f)
	if err != nil {
		return builder.Config{}, err
	}
	return a.configWith(f, auth)
}

// configWith is config with this file of credentials.
func (a *app) configWith(f flags, auth string) (builder.Config, error) {
	root := f.str("root")
	if root == "" {
		dir, err := a.env.stateDir(a.who.uid)
		if err != nil {
			return builder.Config{}, err
		}
		root = dir
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return builder.Config{}, environmentf("state directory: %w", err)
	}
	exe, err := os.Executable()
	if err != nil {
		return builder.Config{}, environmentf("find own executable: %w", err)
	}
	ca, err := existingFile("ca", f.str("ca"))
	if err != nil {
		return builder.Config{}, err
	}
	for _, flag := range []string{"insecure-registry", "registry-token-host"} {
		for _, host := range f.list(flag) {
			if host == "" || strings.ContainsAny(host, "/ \t@") {
				return builder.Config{}, hint(usagef("--%s=%s: want a host", flag, host), "e.g. --"+flag+" localhost:5000")
			}
		}
	}
	chunk := int64(0)
	if f.given("push-chunk") {
		var ok bool
		if chunk, ok = parseSize(f.str("push-chunk"), minPushChunk); !ok || chunk > maxPushChunk {
			return builder.Config{}, usagef("--push-chunk=%s: want a size from 1m to 256m", f.str("push-chunk"))
		}
	}
	hosts, err := a.registryHosts(f)
	if err != nil {
		return builder.Config{}, err
	}
	logins, err := a.logins(f)
	if err != nil {
		return builder.Config{}, err
	}
	tries, delay, err := retries(f)
	if err != nil {
		return builder.Config{}, err
	}
	gc, err := gcOptions(f)
	if err != nil {
		return builder.Config{}, err
	}
	return a.who.files(builder.Config{
		GC:                 gc,
		Logins:             logins,
		Path:               a.helperPath(),
		Tries:              tries,
		RetryDelay:         delay,
		Root:               root,
		RegistryHosts:      hosts,
		PushChunk:          chunk,
		InsecureAll:        f.given("tls-verify") && !f.is("tls-verify"),
		InsecureRegistries: append(f.list("insecure-registry"), insecureCaches(f)...),
		LeaveImmutable:     f.is("push-ignore-immutable-tag-errors"),
		AllowPrivate:       f.is("allow-private"),
		Offline:            f.is("offline"),
		TokenHosts:         f.list("registry-token-host"),
		DockerConfig:       auth,
		CAFile:             ca,
		Executable:         exe,
	}), nil
}

// existingFile is the absolute path of a file that a flag names; "" stays "".
func existingFile(flag, path string) (string, error) {
	if path == "" {
		return "", nil
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", environmentf("--%s=%s: %w", flag, path, err)
	}
	if _, err := os.Stat(abs); err != nil {
		return "", usagef("--%s: %w", flag, err)
	}
	return abs, nil
}

// authFile is the first credentials file that there is (FEATURES J4); one that a flag names must exist.
func (a *app) authFile(f flags) (string, error) {
	if path := f.str("authfile"); path != "" {
		return existingFile("authfile", path)
	}
	for _, path := range a.authCandidates() {
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", nil
}

func (a *app) authCandidates() []string {
	var paths []string
	if p := a.env["REGISTRY_AUTH_FILE"]; p != "" {
		paths = append(paths, p)
	}
	paths = append(paths, a.dockerConfigs()...)
	if dir := a.env["XDG_RUNTIME_DIR"]; dir != "" {
		paths = append(paths, filepath.Join(dir, "containers", "auth.json"))
	}
	return paths
}

// dockerConfigs are the places of Docker's configuration file.
func (a *app) dockerConfigs() []string {
	if dir := a.env["DOCKER_CONFIG"]; dir != "" {
		return []string{filepath.Join(dir, "config.json")}
	}
	if home := a.env["HOME"]; home != "" {
		return []string{filepath.Join(home, ".docker", "config.json")}
	}
	return nil
}

// dockerProxies are the default proxies of Docker's configuration file (FEATURES B9).
func (a *app) dockerProxies() (map[string]string, error) {
	for _, path := range a.dockerConfigs() {
		data, err := readBounded(path, maxDockerConfig)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, environmentf("read Docker configuration: %w", err)
		}
		var file struct {
			Proxies map[string]struct {
				HTTPProxy, HTTPSProxy, FTPProxy, NoProxy, AllProxy string
			} `json:"proxies"`
		}
		if err := json.Unmarshal(data, &file); err != nil {
			return nil, environmentf("read Docker configuration %s: %w", path, err)
		}
		p := file.Proxies["default"]
		return map[string]string{
			"HTTP_PROXY": p.HTTPProxy, "HTTPS_PROXY": p.HTTPSProxy, "FTP_PROXY": p.FTPProxy,
			"NO_PROXY": p.NoProxy, "ALL_PROXY": p.AllProxy,
		}, nil
	}
	return nil, nil
}

// readBounded reads a whole regular file that must not be longer than limit.
func readBounded(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readAtMost(f, path, limit)
}

// readAtMost reads to the end of r, which is called name.
func readAtMost(r io.Reader, name string, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, usagef("%s is longer than %d bytes", name, limit)
	}
	return data, nil
}
