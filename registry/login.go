package registry

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"gobuild/internal/atomicfile"
	"gobuild/internal/filelock"
)

const opLogin = "log in to"

// Login is a name and a password for a registry, and where they are kept.
type Login struct {
	Host     string // as ParseHost gives it
	User     string // "<token>" for an identity token
	Password string
	File     string   // Docker configuration file
	Env      []string // environment of the credential helper; nil for the process's
}

// CheckLogin asks the registry's /v2/ with this login, and nothing else. Nothing is kept.
func (c *Client) CheckLogin(ctx context.Context, l Login) error {
	c.keys.fix(l.Host, l.credential("the login"))
	cl, err := c.ping(ctx, opLogin, l.Host)
	if err != nil {
		return err
	}
	cl.end()
	return nil
}

func (l Login) credential(source string) credential {
	if l.User == identityUser {
		return credential{identity: l.Password, source: source}
	}
	return credential{user: l.User, password: l.Password, source: source}
}

// Save keeps the login with the credential helper that the file names for the host or for all, else in the file itself. It
// says where.
func (l Login) Save(ctx context.Context) (where string, err error) {
	err = l.edit(ctx, func(conf *configFile) error {
		helper := conf.helper(l.Host)
		if helper == "" {
			where = l.File
			return conf.put(l)
		}
		where = "docker-credential-" + helper
		secret, err := json.Marshal(map[string]string{"ServerURL": serverKey(l.Host), "Username": l.User, "Secret": l.Password})
		if err != nil {
			return err
		}
		if _, err := callHelper(ctx, helper, "store", secret, l.Env); err != nil {
			return err
		}
		return conf.note(l.Host) // docker lists the hosts of a helper by empty entries
	})
	if err != nil {
		return "", fmt.Errorf("keep the login to %s: %w", l.Host, err)
	}
	return where, nil
}

// Erase forgets the login to a host, wherever it is kept. It says whether there was one.
func (l Login) Erase(ctx context.Context) (found bool, err error) {
	err = l.edit(ctx, func(conf *configFile) (err error) {
		found = conf.remove(l.Host)
		helper := conf.helper(l.Host)
		if helper == "" {
			return nil
		}
		if cred, err := runHelper(ctx, helper, l.Host, l.Env); err == nil && !cred.empty() {
			found = true
		}
		_, err = callHelper(ctx, helper, "erase", []byte(serverKey(l.Host)), l.Env)
		if errors.Is(err, errNotKept) {
			return nil
		}
		return err
	})
	if err != nil {
		return false, fmt.Errorf("forget the login to %s: %w", l.Host, err)
	}
	return found, nil
}

// serverKey is the name of a registry in Docker's configuration: the Hub has its old address.
func serverKey(host string) string {
	if host == hubHost {
		return hubLogin
	}
	return host
}

// configFile is Docker's configuration with everything in it that is not ours.
type configFile struct {
	all   map[string]json.RawMessage
	auths map[string]json.RawMessage
	creds dockerConfig
}

// edit changes the file under a lock and replaces it as a whole. Only its owner may read the new one. A link is
// followed: people keep this file elsewhere and link to it.
func (l Login) edit(ctx context.Context, change func(*configFile) error) (err error) {
	path := l.File
	if to, err := os.Readlink(path); err == nil {
		if path = to; !filepath.IsAbs(to) {
			path = filepath.Join(filepath.Dir(l.File), to)
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	lock, err := filelock.Lock(ctx, path+".lock", filelock.Exclusive, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Remove()) }()
	conf, before, err := readConfigFile(path)
	if err != nil {
		return err
	}
	if err := change(conf); err != nil {
		return err
	}
	after, err := conf.bytes()
	if err != nil || bytes.Equal(before, after) {
		return err
	}
	return atomicfile.Write(path, after, atomicfile.Options{Mode: 0o600, Durable: true})
}

func readConfigFile(path string) (*configFile, []byte, error) {
	conf := &configFile{all: map[string]json.RawMessage{}, auths: map[string]json.RawMessage{}}
	creds, err := readDockerConfig(path) // bounded; says what is wrong with it
	if err != nil {
		return nil, nil, err
	}
	conf.creds = creds
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(bytes.TrimSpace(b)) == 0 {
		return conf, b, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &conf.all)
	}
	if auths, ok := conf.all["auths"]; ok && err == nil {
		err = json.Unmarshal(auths, &conf.auths)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read credentials from %s: %w", path, err)
	}
	if conf.all == nil || conf.auths == nil { // null
		return nil, nil, fmt.Errorf("read credentials from %s: not a configuration", path)
	}
	return conf, b, nil
}

func (c *configFile) bytes() ([]byte, error) {
	auths, err := json.Marshal(c.auths)
	if err != nil {
		return nil, err
	}
	if len(c.auths) > 0 || c.all["auths"] != nil {
		c.all["auths"] = auths
	}
	b, err := json.MarshalIndent(c.all, "", "\t")
	return append(b, '\n'), err
}

// helper is the credential helper for a host, "" for none.
func (c *configFile) helper(host string) string {
	if h := (&keychain{conf: c.creds}).helperFor(host); h != "" {
		return h
	}
	return c.creds.CredsStore
}

func (c *configFile) put(l Login) error {
	entry := map[string]string{"auth": base64.StdEncoding.EncodeToString([]byte(l.User + ":" + l.Password))}
	if l.User == identityUser {
		entry = map[string]string{"identitytoken": l.Password}
	}
	return c.set(l.Host, entry)
}

func (c *configFile) note(host string) error { return c.set(host, map[string]string{}) }

// set leaves one entry for the host, whatever spellings there were.
func (c *configFile) set(host string, entry map[string]string) error {
	c.remove(host)
	b, err := json.Marshal(entry)
	c.auths[serverKey(host)] = b
	return err
}

// remove drops the entries of the host. Those of single repositories stay: they were not made by a login to the host.
func (c *configFile) remove(host string) (found bool) {
	for key := range c.auths {
		if normalKey(key) == host {
			delete(c.auths, key)
			found = true
		}
	}
	return found
}

// Check says what is wrong with a login before anybody is asked.
func (l Login) Check() error {
	switch {
	case l.User == "" || l.Password == "":
		return errors.New("a user and a password are needed")
	case strings.Contains(l.User, ":"):
		return errors.New("a user name cannot have a colon in it")
	case strings.ContainsAny(l.User+l.Password, "\x00\r\n"):
		return errors.New("user and password are one line each")
	}
	return nil
}
