package main

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"gobuild/internal/imageref"
	"gobuild/ui"
)

// executorCommand is kaniko's command line (FEATURES N8): what it means is said in the flags of build, which then runs.
func executorCommand() command {
	return command{
		name: "executor", group: "Building", short: "Build with the flags of kaniko's executor",
		long: `Build with the flags of kaniko's executor. They are put into the words of gobuild build, which runs; a
program of the name executor does the same. Images are pushed to every --destination unless --no-push is given.`,
		flags: executorFlags,
		run:   (*app).executor,
	}
}

// executorFlags are kaniko's that are not flags of every command anyway.
func executorFlags() []flagSpec {
	ignored := func(name string, k kind, text string) flagSpec {
		return flagSpec{name: name, kind: k, does: noop, text: text}
	}
	const own = "it steers what only kaniko does"
	return []flagSpec{
		{name: "dockerfile", short: "f", kind: kindString, arg: "FILE", text: "the Dockerfile, here or in the context (default Dockerfile)"},
		{name: "context", short: "c", kind: kindString, arg: "PLACE", text: "dir://DIR, tar://FILE, tar://stdin, a git repository or https (default /workspace)"},
		{name: "context-sub-path", kind: kindString, arg: "DIR", text: "a folder of the context that is the context instead"},
		{name: "destination", short: "d", kind: kindList, arg: "NAME[:TAG]", text: "where the image is pushed to"},
		{name: "no-push", kind: kindBool, text: "push nothing"},
		{name: "tar-path", kind: kindString, arg: "FILE", text: "write the image as an archive for docker load"},
		{name: "oci-layout-path", kind: kindString, arg: "DIR", text: "write the image as an OCI layout"},
		{name: "digest-file", kind: kindString, arg: "FILE", text: "write the manifest's digest to a file"},
		{name: "image-name-with-digest-file", kind: kindString, arg: "FILE", text: "write NAME@DIGEST of every destination to a file"},
		{name: "image-name-tag-with-digest-file", kind: kindString, arg: "FILE", text: "write NAME:TAG@DIGEST of every destination to a file"},
		{name: "build-arg", kind: kindList, arg: "NAME=VALUE", text: "build argument"},
		{name: "label", kind: kindList, arg: "KEY=VALUE", text: "label of the image"},
		{name: "target", kind: kindString, arg: "STAGE", text: "the stage to build"},
		{name: "custom-platform", kind: kindString, arg: "OS/ARCH", text: "platform of the image"},
		{name: "registry-map", kind: kindList, arg: "HOST=MIRROR[;...]", text: "pull images of this registry from a mirror first"},
		{name: "registry-certificate", kind: kindList, arg: "HOST=FILE", text: "certificate authorities; one file, which counts for every registry"},
		{name: "registry-client-cert", kind: kindList, does: no, text: "use gobuild build --cert-dir DIR"},
		{name: "insecure", kind: kindBool, text: "speak plain HTTP or unverified TLS with every registry"},
		{name: "insecure-pull", kind: kindBool, text: "the same"},
		{name: "skip-tls-verify", kind: kindBool, text: "the same"},
		{name: "skip-tls-verify-pull", kind: kindBool, text: "the same"},
		{name: "skip-tls-verify-registry", kind: kindList, arg: "HOST", text: "speak unverified TLS with this registry"},
		{name: "push-retry", kind: kindString, arg: "N", text: "how often a request that failed is made again"},
		{name: "image-download-retry", kind: kindString, arg: "N", text: "the same"},
		{name: "cache", kind: kindBool, text: "share steps through a cache in a registry; the machine's own is used in any case"},
		{name: "cache-repo", kind: kindString, arg: "REF", text: "that cache (default the first destination with /cache)"},
		{name: "no-push-cache", kind: kindBool, text: "take from that cache, and put nothing into it"},
		{name: "reproducible", kind: kindBool, text: "the same as --source-date-epoch=0"},
		{name: "single-snapshot", kind: kindBool, text: "the same as --squash"},
		{name: "compression", kind: kindString, arg: "NAME", text: "gzip or zstd"},
		{name: "compression-level", kind: kindString, arg: "N", text: "level of the compression"},
		{name: "verbosity", short: "v", kind: kindString, arg: "LEVEL", text: "panic, fatal, error, warn, info, debug or trace; debug and trace are --explain"},
		{name: "log-format", kind: kindString, arg: "FORMAT", text: "text, color or json"},
		ignored("cache-ttl", kindString, "old steps go by the limits of gobuild prune"),
		ignored("snapshot-mode", kindString, own), ignored("use-new-run", kindBool, own), ignored("cleanup", kindBool, own),
		ignored("force", kindBool, own), ignored("ignore-var-run", kindBool, own), ignored("ignore-path", kindList, own),
		ignored("cache-copy-layers", kindBool, own), ignored("cache-run-layers", kindBool, own), ignored("cache-dir", kindString, own),
		ignored("compressed-caching", kindBool, own), ignored("kaniko-dir", kindString, own), ignored("force-build-metadata", kindBool, own),
		ignored("image-fs-extract-retry", kindString, own), ignored("skip-push-permission-check", kindBool, own),
		{name: "bucket", kind: kindString, does: no, text: "fetch the context first, and give its directory"},
	}
}

func (a *app) executor(ctx context.Context, args []string) error {
	if err := noArgs("executor", args); err != nil {
		return err
	}
	words, tar, err := executorWords(a.flags)
	if err != nil {
		return err
	}
	if tar != "" {
		f, err := os.Open(tar)
		if err != nil {
			return usagef("--context=tar://%s: %w", tar, err)
		}
		defer f.Close()
		a.stdin = f
	}
	return a.execute(ctx, append([]string{"build"}, words...))
}

// executorWords are the arguments of build; tar is a file to be its standard input.
func executorWords(f flags) (words []string, tar string, err error) {
	if !f.is("no-push") && !f.given("destination") {
		return nil, "", hint(usagef("gobuild executor: no --destination is given"), "give --destination NAME, or --no-push")
	}
	where, tar, err := executorContext(f)
	if err != nil {
		return nil, "", err
	}
	words = append(words, globalWords(f)...)
	for from, to := range map[string]string{
		"context-sub-path": "context-sub-path", "digest-file": "digest-file", "image-name-with-digest-file": "image-name-with-digest-file",
		"image-name-tag-with-digest-file": "image-name-tag-with-digest-file", "build-arg": "build-arg", "label": "label", "target": "target",
		"custom-platform": "platform", "destination": "tag", "skip-tls-verify-registry": "insecure-registry",
	} {
		for _, v := range f.list(from) {
			words = append(words, "--"+to+"="+v)
		}
	}
	for _, part := range []func(flags) ([]string, error){executorOutputs, executorCache, executorRegistry, executorView} {
		more, err := part(f)
		if err != nil {
			return nil, "", err
		}
		words = append(words, more...)
	}
	if f.is("reproducible") {
		words = append(words, "--source-date-epoch=0")
	}
	if f.is("single-snapshot") {
		words = append(words, "--squash")
	}
	return append(words, where...), tar, nil
}

// globalWords are the flags of every command, as they were given.
func globalWords(f flags) []string {
	var words []string
	for _, spec := range globalFlags() {
		if v := f[spec.name]; v != nil && v.origin == fromFlag {
			for _, value := range v.values {
				words = append(words, "--"+spec.name+"="+value)
			}
		}
	}
	return words
}

// executorContext is the context and the Dockerfile. Kaniko looks for that here first, then in the context.
func executorContext(f flags) (words []string, tar string, err error) {
	place, file := f.str("context"), f.str("dockerfile")
	if place == "" {
		place = "/workspace"
	}
	switch {
	case hasAnyPrefix(place, "s3://", "gs://"):
		return nil, "", hint(usagef("--context=%s: buckets are not supported", place), "fetch it first, and give its directory")
	case place == "tar://stdin":
		place = "-"
	case strings.HasPrefix(place, "tar://"):
		place, tar = "-", strings.TrimPrefix(place, "tar://")
	case strings.HasPrefix(place, "git://"):
		place, err = kanikoGit(place)
	default:
		place = strings.TrimPrefix(place, "dir://")
	}
	if err != nil {
		return nil, "", err
	}
	if file != "" && place != "-" && !isRemote(place) && !isRemote(file) {
		if _, err := os.Stat(file); err != nil {
			file = filepath.Join(place, f.str("context-sub-path"), file)
		}
	}
	if file != "" {
		words = append(words, "--file="+file)
	}
	return append(words, "--", place), tar, nil
}

// kanikoGit is git://HOST/REPOSITORY[#REF[#COMMIT]], which kaniko fetches by https.
func kanikoGit(place string) (string, error) {
	parts := strings.Split(strings.TrimPrefix(place, "git://"), "#")
	address := "https://" + parts[0]
	if !strings.HasSuffix(parts[0], ".git") {
		address += ".git"
	}
	switch len(parts) {
	case 1:
		return address, nil
	case 2, 3:
		return address + "#" + parts[len(parts)-1], nil
	}
	return "", usagef("--context=%s: want git://HOST/REPOSITORY[#REF[#COMMIT]]", place)
}

func executorOutputs(f flags) ([]string, error) {
	attrs := ""
	for from, key := range map[string]string{"compression": "compression", "compression-level": "compression-level"} {
		if f.given(from) {
			attrs += "," + csvField(key+"="+f.str(from))
		}
	}
	var words []string
	if !f.is("no-push") {
		words = append(words, "--output=type=registry"+attrs)
	}
	if f.given("tar-path") {
		words = append(words, "--output=type=docker,"+csvField("dest="+f.str("tar-path"))+attrs)
	}
	if f.given("oci-layout-path") {
		words = append(words, "--output=type=oci,tar=false,"+csvField("dest="+f.str("oci-layout-path"))+attrs)
	}
	return words, nil
}

// csvField is a field of a value with commas.
func csvField(text string) string {
	if !strings.ContainsAny(text, ",\"\n") {
		return text
	}
	return `"` + strings.ReplaceAll(text, `"`, `""`) + `"`
}

func executorCache(f flags) ([]string, error) {
	if !f.is("cache") {
		return nil, nil
	}
	repo := f.str("cache-repo")
	if repo == "" && f.given("destination") {
		ref, err := imageref.Parse(f.list("destination")[0])
		if err != nil {
			return nil, usagef("--destination=%s: %w", f.list("destination")[0], err)
		}
		repo = ref.Name() + "/cache"
	}
	if repo == "" {
		return nil, hint(usagef("gobuild executor --cache: there is no place for it"), "give --cache-repo")
	}
	words := []string{"--cache-from=" + csvField("ref="+repo) + ",type=registry"}
	if !f.is("no-push-cache") {
		words = append(words, "--cache-to="+csvField("ref="+repo)+",type=registry,mode=max")
	}
	return words, nil
}

func executorRegistry(f flags) ([]string, error) {
	var words []string
	for _, text := range f.list("registry-map") {
		for one := range strings.SplitSeq(text, ";") {
			words = append(words, "--registry-mirror="+one)
		}
	}
	for i, text := range f.list("registry-certificate") {
		_, file, ok := strings.Cut(text, "=")
		if !ok || file == "" {
			return nil, usagef("--registry-certificate=%s: want HOST=FILE", text)
		}
		if i > 0 {
			return nil, hint(usagef("--registry-certificate is given %d times, and one file counts for every registry", len(f.list("registry-certificate"))), "put the certificates into one file")
		}
		words = append(words, "--ca="+file)
	}
	for _, name := range []string{"insecure", "insecure-pull", "skip-tls-verify", "skip-tls-verify-pull"} {
		if f.is(name) {
			words = append(words, "--tls-verify=false")
			break
		}
	}
	tries := -1
	for _, name := range []string{"push-retry", "image-download-retry"} {
		if !f.given(name) {
			continue
		}
		n, err := strconv.Atoi(f.str(name))
		if err != nil || n < 0 {
			return nil, usagef("--%s=%s: want a number", name, ui.Line(f.str(name)))
		}
		tries = max(tries, n)
	}
	if tries >= 0 {
		words = append(words, "--retry="+strconv.Itoa(tries))
	}
	return words, nil
}

func executorView(f flags) ([]string, error) {
	var words []string
	switch v := f.str("verbosity"); v {
	case "", "info":
	case "panic", "fatal", "error":
		words = append(words, "--log-level=error")
	case "warn", "warning":
		words = append(words, "--log-level=warn")
	case "debug", "trace":
		words = append(words, "--explain")
	default:
		return nil, usagef("--verbosity=%s: want panic, fatal, error, warn, info, debug or trace", ui.Line(v))
	}
	switch v := f.str("log-format"); v {
	case "", "color":
	case "text":
		words = append(words, "--no-color")
	case "json":
		words = append(words, "--progress=rawjson")
	default:
		return nil, usagef("--log-format=%s: want text, color or json", ui.Line(v))
	}
	return words, nil
}
