package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// configured are the flags of a command line after the environment and two files, the user's and that of --config if it is not "".
func configured(t *testing.T, user, env string, args ...string) (flags, error) {
	t.Helper()
	home := t.TempDir()
	path := filepath.Join(home, configName)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(user), 0o644); err != nil {
		t.Fatal(err)
	}
	f, _, err := judgeArgs(t, nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	a := &app{env: environ{"XDG_CONFIG_HOME": home}}
	if name, value, ok := strings.Cut(env, "="); ok {
		a.env[name] = value
	}
	if err := f.fromEnvironment(a.env); err != nil {
		t.Fatal(err)
	}
	return f, a.fromConfig("build", f)
}

func TestN1_ConfigurationFile(t *testing.T) {
	t.Parallel()
	const file = "network = \"host\" # for all\njobs = 4\nregistry-mirror = [\n  'a.example',\n  \"b.example\", # two\n]\n\n[prune]\nall = true\n\n[build]\nnetwork = \"none\"\nno-cache = true\n\"build-arg\" = \"A=1\"\n"
	for name, tc := range map[string]struct {
		args []string
		env  string
		want map[string]string
	}{
		"a file alone":                   {want: map[string]string{"network": "none", "jobs": "4", "no-cache": "true", "registry-mirror": "a.example,b.example", "build-arg": "A=1", "all": ""}},
		"the environment counts more":    {env: "GOBUILD_NETWORK=default", want: map[string]string{"network": "default", "jobs": "4"}},
		"the command line counts most":   {args: []string{"--network=bridge", "--build-arg", "B=2"}, env: "GOBUILD_NETWORK=default", want: map[string]string{"network": "bridge", "build-arg": "B=2"}},
		"no file is wanted":              {args: []string{"--config="}, want: map[string]string{"network": "", "jobs": ""}},
		"false takes back what was true": {args: []string{"--no-cache=false"}, want: map[string]string{"no-cache": "false"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := configured(t, file, tc.env, tc.args...)
			if err != nil {
				t.Fatal(err)
			}
			for flag, want := range tc.want {
				if got := strings.Join(f.list(flag), ","); got != want {
					t.Errorf("--%s is %q, want %q", flag, got, want)
				}
			}
		})
	}
}

func TestN11_TheFileThatConfigNamesIsTheOnlyOne(t *testing.T) {
	t.Parallel()
	other := filepath.Join(t.TempDir(), "other.toml")
	if err := os.WriteFile(other, []byte("jobs = 7\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := configured(t, "network = \"none\"\n", "", "--config", other)
	if err != nil || f.str("jobs") != "7" || f.given("network") {
		t.Errorf("jobs %q, network %q, error %v", f.str("jobs"), f.str("network"), err)
	}
	if got := f.settings(); !strings.Contains(strings.Join(got, "\n"), "--jobs=7 ("+other+":1)") {
		t.Errorf("settings %q", got)
	}
	if _, err := configured(t, "", "", "--config", other+"x"); err == nil || !strings.Contains(err.Error(), "--config: ") {
		t.Errorf("a file that is not there: %v", err)
	}
}

func TestN1_WhatAConfigurationFileMustNotHave(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"\n\njosb = 1\n":                      `:3: there is no flag --josb|did you mean jobs`,
		"[build]\n\"no-cach\\u0065s\" = true": `:2: gobuild build has no flag --no-caches|did you mean no-cache`,
		"[prune]\nnetwork = \"none\"\n":       `:2: gobuild prune has no flag --network`,
		"# x\n[biuld]\n":                      `:2: there is no command ["biuld"]|did you mean [build]`,
		"[build.run]\n":                       `:1: there is no command ["build" "run"]`,
		"[[build]]\n":                         `:1: want flags, and tables of commands`,
		"build.network = \"none\"\n":          `:1: a key is the name of a flag, without dots`,
		"network = {a = 1}\n":                 `:1: network: want a text, a number, true or false, or a list of texts`,
		"build-arg = [[\"a\"]]\n":             `:1: build-arg: want a text`,
		"network = [\"a\", \"b\"]\n":          `:1: network: want one value`,
		"no-cache = \"perhaps\"\n":            `:1: no-cache = "perhaps": want true or false`,
		"jobs = 1\njobs = 2\n":                `:2: `,
		"jobs = \n":                           `:1: `,
		"config = \"x\"\n":                    `:1: there is no flag --config`,
		"\"\" = 1\n":                          `:1: there is no flag --`,
		strings.Repeat("#", maxConfig+1):      `is longer than`,
	} {
		_, err := configured(t, text, "")
		message, hint, _ := strings.Cut(want, "|")
		var r interface{ Remedy() string }
		switch {
		case err == nil || !strings.Contains(err.Error(), message):
			t.Errorf("%.40q: error %v, want %s", text, err, message)
		case hint != "" && (!errors.As(err, &r) || !strings.Contains(r.Remedy(), hint)):
			t.Errorf("%.40q: hint is not %s", text, hint)
		case exitCode(err) != exitUsage:
			t.Errorf("%.40q: status %d", text, exitCode(err))
		}
	}
}

// A configuration that a stranger put into a folder where gobuild runs is not read.
func TestN1_NoConfigurationOfTheWorkingFolder(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, name := range []string{"gobuild.toml", ".gobuild.toml", configName} {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte("allow = [\"security.insecure\"]\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := configured(t, "", "", ".")
	if err != nil || f.given("allow") {
		t.Errorf("--allow is %q, error %v", f.str("allow"), err)
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("jobs = 4\n[build]\nnetwork = \"none\"\nbuild-arg = [\"A=1\"]\n"))
	f.Add([]byte("\"a\\u0041\".b = 'x'\n[[x]]\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := parseConfig("x", data)
		if err != nil {
			return
		}
		for _, s := range list {
			if s.flag == "" || s.place == "" {
				t.Errorf("%q gives %+v", data, s)
			}
		}
	})
}
