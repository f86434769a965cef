package main

import (
	"context"
	"crypto/ecdsa"
	"fmt"
	"os"

	"golang.org/x/term"

	"gobuild/internal/cosign"
)

// signFlag is also a flag of builds.
func signFlag() flagSpec {
	return flagSpec{name: "sign", kind: kindString, arg: "KEYFILE", text: "sign what is pushed with this private key, as cosign does; the password of an encrypted one is $COSIGN_PASSWORD, or asked for"}
}

// signKey reads the key of --sign; nil without the flag.
func (a *app) signKey(ctx context.Context) (*ecdsa.PrivateKey, error) {
	path := a.flags.str("sign")
	if path == "" {
		return nil, nil //nolint:nilnil // nobody signs
	}
	text, err := readKeyFile(path)
	if err != nil {
		return nil, usagef("--sign: %w", err)
	}
	key, err := cosign.ReadPrivate(text, func() ([]byte, error) { return a.keyPassword(ctx, path) })
	if err != nil {
		return nil, usagef("--sign=%s: %w", path, err)
	}
	return key, nil
}

// publicKey reads the key of --key.
func (a *app) publicKey() (*ecdsa.PublicKey, error) {
	path := a.flags.str("key")
	text, err := readKeyFile(path)
	if err != nil {
		return nil, usagef("--key: %w", err)
	}
	key, err := cosign.ReadPublic(text)
	if err != nil {
		return nil, usagef("--key=%s: %w", path, err)
	}
	return key, nil
}

// readKeyFile takes regular files alone: a FIFO would hang, and a key in a pipe has passed a command line.
func readKeyFile(path string) ([]byte, error) {
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	return readBounded(path, cosign.MaxKey)
}

// keyPassword is cosign's variable, or what is typed.
func (a *app) keyPassword(ctx context.Context, path string) (secret []byte, err error) {
	if text, ok := a.env["COSIGN_PASSWORD"]; ok {
		return []byte(text), nil
	}
	terminal, _ := a.stdin.(*os.File)
	if terminal == nil || !term.IsTerminal(int(terminal.Fd())) {
		return nil, hint(usagef("the key is encrypted, and standard input is no terminal to ask for its password at"), "set COSIGN_PASSWORD")
	}
	err = a.whileAsking(ctx, terminal, func() error {
		a.printer.Sync()
		fmt.Fprintf(a.stderr, "Password of the key %s: ", path)
		secret, err = term.ReadPassword(int(terminal.Fd()))
		fmt.Fprintln(a.stderr)
		if err != nil {
			return environmentf("read the password: %w", err)
		}
		return nil
	})
	return secret, err
}
