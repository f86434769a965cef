package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// credential is what a registry is told; the zero value is nothing.
type credential struct {
	user, password string
	identity       string // identity token, an OAuth2 refresh token
	bearer         string // registry token, used as it is
	source         string // for messages: where it comes from, never what it is
}

func (c credential) empty() bool { return c.user == "" && c.identity == "" && c.bearer == "" }

// dockerConfig is the part of Docker's config.json that is about credentials.
type dockerConfig struct {
	Auths       map[string]dockerAuth `json:"auths"`
	CredHelpers map[string]string     `json:"credHelpers"`
	CredsStore  string                `json:"credsStore"`
}

type dockerAuth struct {
	Auth          string `json:"auth"`
	Username      string `json:"username"`
	Password      string `json:"password"`
	IdentityToken string `json:"identitytoken"`
	RegistryToken string `json:"registrytoken"`
}

// keychain finds credentials in a Docker configuration file. It reads the file once, when the
// first registry asks, and asks each helper once per registry.
type keychain struct {
	path string
	env  []string // of helpers; nil is the process's own

	load   sync.Once
	conf   dockerConfig
	err    error
	mu     sync.Mutex
	helped map[string]*helped
	fixed  map[string]credential // by host; they come before the file
}

// identityUser is the user name with which helpers mark an identity token.
const identityUser = "<token>"

// fix makes a credential the one for a host.
func (k *keychain) fix(host string, c credential) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fixed == nil {
		k.fixed = map[string]credential{}
	}
	k.fixed[host] = c
}

type helped struct {
	once sync.Once
	cred credential
	err  error
}

// lookup finds the credential for a repository of a host: a helper for the host, then the
// helper for all, then the entry with the longest matching prefix.
func (k *keychain) lookup(ctx context.Context, host, path string) (credential, error) {
	k.mu.Lock()
	c, ok := k.fixed[host]
	k.mu.Unlock()
	if ok || k.path == "" {
		return c, nil
	}
	k.load.Do(func() { k.conf, k.err = readDockerConfig(k.path) })
	if k.err != nil {
		return credential{}, k.err
	}
	for _, name := range []string{k.helperFor(host), k.conf.CredsStore} {
		if name == "" {
			continue
		}
		c, err := k.help(ctx, name, host)
		if err != nil || !c.empty() {
			return c, err
		}
	}
	key, ok := longestMatch(k.conf.Auths, host, path)
	if !ok {
		return credential{}, nil
	}
	c, err := k.conf.Auths[key].credential()
	if err != nil {
		return credential{}, fmt.Errorf("read %s: entry %q: %w", k.path, key, err)
	}
	c.source = k.path
	return c, nil
}

// helperFor finds the helper that is configured for one host.
func (k *keychain) helperFor(host string) string {
	for _, key := range sortedKeys(k.conf.CredHelpers) {
		if normalKey(key) == host {
			return k.conf.CredHelpers[key]
		}
	}
	return ""
}

func readDockerConfig(p string) (dockerConfig, error) {
	var c dockerConfig
	f, err := os.OpenFile(p, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read credentials: %w", err)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxDockerConfig+1))
	if err == nil && len(b) > maxDockerConfig {
		err = fmt.Errorf("more than %d bytes", maxDockerConfig)
	}
	if err == nil && len(bytes.TrimSpace(b)) > 0 {
		err = json.Unmarshal(b, &c)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return dockerConfig{}, fmt.Errorf("read credentials from %s: %w", p, err)
	}
	return c, nil
}

func (a dockerAuth) credential() (credential, error) {
	c := credential{user: a.Username, password: a.Password, identity: a.IdentityToken, bearer: a.RegistryToken}
	if a.Auth != "" {
		b, err := base64.StdEncoding.DecodeString(strings.TrimRight(a.Auth, "\x00"))
		if err != nil {
			return credential{}, errors.New("auth is not base64") // the text itself is a secret
		}
		user, password, ok := strings.Cut(string(b), ":")
		if !ok {
			return credential{}, errors.New("auth is not user:password")
		}
		c.user, c.password = user, strings.TrimRight(password, "\x00")
	}
	return c, nil
}

// normalKey strips what tools have put around a registry's name in a configuration
// file over the years, and gives the Hub one name.
func normalKey(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	key = strings.TrimSuffix(key, "/")
	for _, s := range []string{"/v1", "/v2"} {
		key = strings.TrimSuffix(key, s)
	}
	host, path, _ := strings.Cut(key, "/")
	host = strings.ToLower(host)
	if host == "index.docker.io" || host == hubDNS {
		host = hubHost
	}
	if path == "" {
		return host
	}
	return host + "/" + path
}

// longestMatch finds the key that names the most of host/path, whole path elements only.
func longestMatch(auths map[string]dockerAuth, host, path string) (string, bool) {
	want := host + "/" + path + "/"
	best, bestLen := "", -1
	for _, key := range sortedKeys(auths) { // of two spellings of one name the first, on every machine
		n := normalKey(key)
		if len(n) > bestLen && strings.HasPrefix(want, n+"/") {
			best, bestLen = key, len(n)
		}
	}
	return best, bestLen >= 0
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// help asks a helper once per host.
func (k *keychain) help(ctx context.Context, name, host string) (credential, error) {
	k.mu.Lock()
	if k.helped == nil {
		k.helped = map[string]*helped{}
	}
	h, ok := k.helped[name+" "+host]
	if !ok {
		h = &helped{}
		k.helped[name+" "+host] = h
	}
	k.mu.Unlock()
	h.once.Do(func() { h.cred, h.err = runHelper(ctx, name, host, k.env) })
	if h.err != nil && ctx.Err() == nil && errors.Is(h.err, context.Canceled) {
		return runHelper(ctx, name, host, k.env) // the first asker gave up, this one has not
	}
	return h.cred, h.err
}

// isHelperName says what may follow docker-credential-: never a path.
func isHelperName(s string) bool {
	odd := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, odd)
}

// runHelper asks docker-credential-NAME for a registry's credential. An empty one
// means that the helper has none.
func runHelper(ctx context.Context, name, host string, env []string) (credential, error) {
	out, err := callHelper(ctx, name, "get", []byte(serverKey(host)), env)
	if errors.Is(err, errNotKept) {
		return credential{}, nil
	}
	if err != nil {
		return credential{}, err
	}
	prog := "docker-credential-" + name
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal(out, &answer); err != nil {
		return credential{}, fmt.Errorf("%s: its answer is not JSON", prog)
	}
	if answer.Username == identityUser {
		return credential{identity: answer.Secret, source: prog}, nil
	}
	return credential{user: answer.Username, password: answer.Secret, source: prog}, nil
}

// errNotKept says that a helper has no credential for the host.
var errNotKept = errors.New("no credentials are kept for this registry")

// callHelper runs docker-credential-NAME with a verb: get, store or erase.
func callHelper(ctx context.Context, name, verb string, input []byte, env []string) ([]byte, error) {
	if !isHelperName(name) {
		return nil, fmt.Errorf("credential helper %q: not a name of lower-case letters, digits and dashes", name)
	}
	prog := "docker-credential-" + name
	path, err := lookPath(prog, env)
	if err != nil {
		return nil, fmt.Errorf("credential helper: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, helperTime, fmt.Errorf("no answer in %s", helperTime))
	defer cancel()
	out := &boundedBuffer{limit: maxHelperOutput}
	cmd := exec.CommandContext(ctx, path, verb)
	cmd.Env, cmd.Stdin, cmd.Stdout = env, bytes.NewReader(input), out
	// The helper may start others, and they may hold our pipe: end the whole group, and wait no longer.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = helperTime / 10
	err = cmd.Run()
	switch {
	case out.full:
		return nil, fmt.Errorf("%s: prints more than %d bytes", prog, maxHelperOutput)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("%s: %w", prog, errors.Join(context.Cause(ctx)))
	case err != nil && strings.Contains(out.buf.String(), "credentials not found"):
		return nil, errNotKept
	case err != nil:
		return nil, fmt.Errorf("%s: %w", prog, err) // its output may hold secrets
	}
	return out.buf.Bytes(), nil
}

// lookPath finds a program in the PATH of env, or of the process, never in a relative directory.
func lookPath(prog string, env []string) (string, error) {
	if env == nil {
		return exec.LookPath(prog) // refuses a hit in the working directory (exec.ErrDot)
	}
	for _, v := range env {
		path, ok := strings.CutPrefix(v, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(path) {
			if !filepath.IsAbs(dir) {
				continue
			}
			p := filepath.Join(dir, prog)
			if fi, err := os.Stat(p); err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
				return p, nil
			}
		}
	}
	return "", fmt.Errorf("%s: %w", prog, exec.ErrNotFound)
}

// boundedBuffer fails the writer that writes too much.
type boundedBuffer struct {
	buf   bytes.Buffer
	limit int
	full  bool
}

func (b *boundedBuffer) Write(p []byte) (int, error) {
	if b.buf.Len()+len(p) > b.limit {
		b.full = true
		return 0, errors.New("too much output")
	}
	return b.buf.Write(p)
}
