package main

import (
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/tonistiigi/go-csvvalue"

	"gobuild/builder"
)

// fillSecrets checks every --secret before the build: that it can be read, and its size (FEATURES M8).
func (a *app) fillSecrets(opt *builder.Options, f flags) error {
	opt.Secrets = map[string]builder.SecretSource{}
	for _, s := range f.list("secret") {
		id, source, err := a.secret(s)
		if err != nil {
			return err
		}
		if _, twice := opt.Secrets[id]; twice {
			return usagef("--secret: id %s is given twice", id)
		}
		opt.Secrets[id] = source
	}
	opt.DenySecretLeak = f.is("deny-secret-leak")
	return nil
}

// secret parses id=x[,src=f][,env=V][,type=file|env]. The error never holds a value, only names.
func (a *app) secret(s string) (string, builder.SecretSource, error) {
	var none builder.SecretSource
	keys, err := csvKeys(s, map[string]string{"id": "id", "src": "src", "source": "src", "env": "env", "type": "type"})
	if err != nil {
		return "", none, fmt.Errorf("--secret: %w", err)
	}
	id, src, env, typ := keys["id"], keys["src"], keys["env"], keys["type"]
	if id == "" {
		return "", none, hint(usagef("--secret: id is missing"), "--secret id=NAME,src=FILE")
	}
	if typ != "" && typ != "file" && typ != "env" {
		return "", none, usagef("--secret id=%s: type=%s: want file or env", id, typ)
	}
	if src != "" && env != "" {
		return "", none, usagef("--secret id=%s: src and env exclude each other", id)
	}
	if typ == "env" && src != "" { // BuildKit's spelling: the name of the variable as src
		src, env = "", src
	}
	if typ == "file" && env != "" {
		return "", none, usagef("--secret id=%s: type=file takes src, not env", id)
	}
	if src == "" && env == "" {
		_, inEnv := a.env.lookup(id)
		if typ == "env" || typ == "" && inEnv {
			env = id
		} else {
			src = id
		}
	}
	source, err := a.secretSource(id, src, env)
	return id, source, err
}

func (a *app) secretSource(id, src, env string) (builder.SecretSource, error) {
	if env != "" {
		value, ok := a.env.lookup(env)
		if !ok {
			return builder.SecretSource{}, usagef("--secret id=%s: variable %s is not set", id, env)
		}
		if len(value) > maxSecret {
			return builder.SecretSource{}, usagef("--secret id=%s: longer than %d bytes", id, maxSecret)
		}
		return builder.SecretSource{Data: []byte(value)}, nil
	}
	path, err := existingFile("secret id="+id, src)
	if err != nil {
		return builder.SecretSource{}, err
	}
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return builder.SecretSource{}, usagef("--secret id=%s: %w", id, err)
	case st.IsDir():
		return builder.SecretSource{}, usagef("--secret id=%s: %s is a directory", id, src)
	case st.Size() > maxSecret:
		return builder.SecretSource{}, usagef("--secret id=%s: %s is longer than %d bytes", id, src, maxSecret)
	case st.Mode().IsRegular():
		return builder.SecretSource{File: path}, nil
	}
	// A pipe, as from a shell's <(...): it can be read once only, so it is read now.
	data, err := readBounded(path, maxSecret)
	if err != nil {
		return builder.SecretSource{}, usagef("--secret id=%s: %w", id, err)
	}
	return builder.SecretSource{Data: data}, nil
}

// csvKeys parses key=value,... with the known keys, each mapped to its main spelling.
func csvKeys(s string, known map[string]string) (map[string]string, error) {
	if s == "" {
		return nil, usagef("want key=value,...")
	}
	fields, err := csvvalue.Fields(s, nil)
	if err != nil {
		return nil, usagef("%q: %w", s, err)
	}
	out := map[string]string{}
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		main, isKnown := known[strings.ToLower(key)]
		switch {
		case !isKnown:
			e := usagef("unknown key %q", key)
			if near := nearest(key, sortedKeys(known)); near != "" {
				return nil, hint(e, "did you mean "+near+"?")
			}
			return nil, e
		case !ok || value == "":
			return nil, usagef("key %s has no value", key)
		}
		if _, twice := out[main]; twice {
			return nil, usagef("key %s is given twice", main)
		}
		out[main] = value
	}
	return out, nil
}

// fillSSH finds the agent sockets of --ssh. Keys as files would need an agent of our own.
func (a *app) fillSSH(opt *builder.Options, f flags) error {
	opt.SSH = map[string]string{}
	for _, s := range f.list("ssh") {
		id, path, given := strings.Cut(s, "=")
		if id == "" {
			return usagef("--ssh=%s: want ID or ID=SOCKET", s)
		}
		if !given {
			if path = a.env["SSH_AUTH_SOCK"]; path == "" {
				return hint(usagef("--ssh=%s: SSH_AUTH_SOCK is not set", s), "start an agent, or give --ssh "+id+"=SOCKET")
			}
		}
		path, err := existingFile("ssh", path)
		if err != nil {
			return err
		}
		st, err := os.Stat(path)
		if err != nil {
			return usagef("--ssh=%s: %w", s, err)
		}
		if st.Mode()&fs.ModeSocket == 0 {
			return hint(usagef("--ssh=%s: keys as files are not supported yet", s), "load the key into an agent with ssh-add")
		}
		if _, twice := opt.SSH[id]; twice {
			return usagef("--ssh: id %s is given twice", id)
		}
		opt.SSH[id] = path
	}
	return nil
}
