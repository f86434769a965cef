package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// executed are the words of build for a command line of kaniko's, without those that stand for the context's default.
func executed(t *testing.T, args ...string) (words []string, tar string, err error) {
	t.Helper()
	f := flags{}
	cc := executorCommand()
	root := (&app{}).cobraCommand(cc, false)
	if err := root.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	table := append(cc.flags(), globalFlags()...)
	for i := range table {
		v := root.Flags().Lookup(table[i].name).Value.(*flagValue)
		f[table[i].name] = v
	}
	return executorWords(f)
}

func TestN8_KanikosFlagsInTheWordsOfBuild(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"-d a:1 --destination=b --context dir:///src":                  "--output=type=registry --tag=a:1 --tag=b -- /src",
		"--no-push --context=/src --tar-path=a,b.tar":                  `--output=type=docker,"dest=a,b.tar" -- /src`,
		"--no-push --oci-layout-path=dir --compression=zstd":           "--output=type=oci,tar=false,dest=dir,compression=zstd -- /workspace",
		"--no-push --context=git://example.com/r#refs/heads/x#abc":     "-- https://example.com/r.git#abc",
		"--no-push --context=git://example.com/r.git#refs/heads/x":     "-- https://example.com/r.git#refs/heads/x",
		"--no-push --context=https://example.com/r.tar.gz -f D":        "--file=D -- https://example.com/r.tar.gz",
		"--no-push --context=tar://stdin":                              "-- -",
		"--no-push --dockerfile=D --context=/src --context-sub-path s": "--context-sub-path=s --file=/src/s/D -- /src",
		"--no-push --build-arg=A=1 --label=l=2 --target=t":             "--build-arg=A=1 --label=l=2 --target=t -- /workspace",
		"--no-push --custom-platform=linux/arm64 --reproducible":       "--platform=linux/arm64 --source-date-epoch=0 -- /workspace",
		"--no-push --single-snapshot --digest-file=f":                  "--digest-file=f --squash -- /workspace",
		"-d r.example/a/b:1 --cache":                                   "--cache-from=ref=r.example/a/b/cache,type=registry --cache-to=ref=r.example/a/b/cache,type=registry,mode=max --output=type=registry --tag=r.example/a/b:1 -- /workspace",
		"--no-push --cache --cache-repo=r.example/c --no-push-cache":   "--cache-from=ref=r.example/c,type=registry -- /workspace",
		"--no-push --registry-mirror=m --registry-map=a=b;c=d":         "--registry-mirror=a=b --registry-mirror=c=d --registry-mirror=m -- /workspace",
		"--no-push --insecure --skip-tls-verify-pull":                  "--tls-verify=false -- /workspace",
		"--no-push --insecure-registry=h --skip-tls-verify-registry=i": "--insecure-registry=h --insecure-registry=i -- /workspace",
		"--no-push --registry-certificate=h=ca.pem":                    "--ca=ca.pem -- /workspace",
		"--no-push --push-retry=2 --image-download-retry=5":            "--retry=5 -- /workspace",
		"--no-push --verbosity=debug --log-format=json":                "--explain --progress=rawjson -- /workspace",
		"--no-push -v warn --log-format text --log-timestamp":          "--log-level=warn --log-timestamp=true --no-color -- /workspace",
	} {
		got, tar, err := executed(t, strings.Fields(args)...)
		if err != nil || tar != "" {
			t.Errorf("%s: %v", args, err)
			continue
		}
		end := slices.Index(got, "--")
		file := slices.IndexFunc(got, func(w string) bool { return strings.HasPrefix(w, "--file=") })
		if file >= 0 {
			end = file
		}
		slices.Sort(got[:end]) // what stands before the Dockerfile has no order
		if text := strings.Join(got, " "); text != want {
			t.Errorf("%s:\n  got %s\n want %s", args, text, want)
		}
	}
}

func TestN8_ADockerfileHereCountsBeforeThatInTheContext(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.WriteFile(filepath.Join(dir, "D"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got, _, err := executed(t, "--no-push", "-f", "D", "--context=/src"); err != nil || !slices.Contains(got, "--file=D") {
		t.Errorf("%q, %v", got, err)
	}
}

func TestN8_WhatOfKanikoIsAnError(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"":                                      "no --destination is given",
		"--no-push --context=s3://bucket/x":     "buckets are not supported",
		"--no-push --context=git://a#b#c#d":     "want git://HOST/REPOSITORY",
		"--no-push --cache":                     "there is no place for it",
		"--no-push --verbosity=loud":            "want panic",
		"--no-push --log-format=xml":            "want text, color or json",
		"--no-push --push-retry=many":           "want a number",
		"--no-push --registry-certificate=file": "want HOST=FILE",
		"--no-push --registry-certificate=a=b --registry-certificate=c=d": "is given 2 times",
	} {
		if _, _, err := executed(t, strings.Fields(args)...); err == nil || !strings.Contains(err.Error(), want) || exitCode(err) != exitUsage {
			t.Errorf("%s: error %v, want %s", args, err, want)
		}
	}
}

func TestN8_TheNameOfTheProgramIsACommand(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{"/kaniko/executor": "executor x", "/usr/bin/gobuild": "x", "executor2": "x"} {
		if got := strings.Join(argumentsOf([]string{name, "x"}), " "); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
