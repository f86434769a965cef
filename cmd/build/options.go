package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/platforms"

	"gobuild/builder"
	"gobuild/internal/imageref"
	"gobuild/stages"
)

// buildOptions turns the flags of build and plan into builder options, the
// context excepted. Everything that can be wrong about them is found here,
// before a build starts.
func (a *app) buildOptions(f flags) (builder.Options, error) {
	opt := builder.Options{
		Target: f.str("target"),

		ContextSubPath: f.str("context-sub-path"),
		NoCache:        f.is("no-cache") || f.str("layers") == "false",
		NoCacheFilter:  splitLists(f.list("no-cache-filter")),
		Cutoff:         f.is("cutoff"),
		IgnoreSyntax:   f.is("ignore-syntax"),
		Explain:        explained(f),
		Arguments:      maskArguments(a.args),
		Progress:       a.printer.Event,
	}
	fill := []func(*builder.Options, flags) error{
		a.fillArgs, a.fillLabels, a.fillForm, a.fillContexts, a.fillPlatform, a.fillPull, a.fillEpoch, a.fillFiles,
		a.fillSecrets, a.fillSSH, a.fillAllow, a.fillTags, a.fillCaches, a.fillLock, a.fillGC, a.fillDebug, a.fillAttest, a.fillEmulators,
	}
	for _, step := range fill {
		if err := step(&opt, f); err != nil {
			return opt, err
		}
	}
	var err error
	if opt.Jobs, err = jobs(f); err != nil {
		return opt, err
	}
	if opt.Run, err = runOptions(f); err != nil {
		return opt, err
	}
	return opt, a.heedBuildkitArgs(&opt)
}

func jobs(f flags) (int, error) {
	if !f.given("jobs") {
		return 0, nil
	}
	n, err := strconv.ParseUint(f.str("jobs"), 10, 16)
	if err != nil {
		return 0, usagef("--jobs=%s: want a number; 0 is the number of CPUs", f.str("jobs"))
	}
	return int(n), nil
}

// splitLists flattens values that are comma lists.
func splitLists(values []string) []string {
	var out []string
	for _, v := range values {
		for _, one := range strings.Split(v, ",") {
			if one = strings.TrimSpace(one); one != "" {
				out = append(out, one)
			}
		}
	}
	return out
}

// fillArgs collects build arguments, and apart from them the proxy variables, which reach RUN without an ARG.
func (a *app) fillArgs(opt *builder.Options, f flags) error {
	opt.BuildArgs = map[string]string{}
	for _, file := range f.list("build-arg-file") {
		if err := argFile(opt.BuildArgs, file); err != nil {
			return err
		}
	}
	for _, arg := range f.list("build-arg") {
		name, value, given := strings.Cut(arg, "=")
		if name == "" {
			return usagef("--build-arg=%s: want NAME=VALUE", arg)
		}
		if !given {
			if value, given = a.env.lookup(name); !given {
				delete(opt.BuildArgs, name) // not set there: not passed (FEATURES B6)
				continue
			}
		}
		opt.BuildArgs[name] = value
	}
	proxies, err := a.proxies(f, opt.BuildArgs)
	opt.ProxyArgs = proxies
	return err
}

// argFile reads NAME=VALUE lines; empty ones and those that start with # are skipped.
func argFile(args map[string]string, file string) error {
	data, err := readBounded(file, maxArgFile)
	if err != nil {
		return usagef("--build-arg-file: %w", err)
	}
	for i, line := range strings.Split(string(data), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if !ok || name == "" {
			return usagef("--build-arg-file %s:%d: want NAME=VALUE", file, i+1)
		}
		args[name] = value
	}
	return nil
}

// proxies are the variables of FEATURES B9, in both cases: from build arguments, else
// from Docker's configuration, else with --http-proxy from the environment.
func (a *app) proxies(f flags, args map[string]string) (map[string]string, error) {
	configured, err := a.dockerProxies()
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, upper := range proxyNames() {
		lower := strings.ToLower(upper)
		value, ok := firstOf(args, upper, lower)
		if !ok {
			value = configured[upper]
		}
		if !ok && value == "" && f.is("http-proxy") {
			value, _ = firstOf(a.env, upper, lower)
		}
		if value != "" {
			out[upper], out[lower] = value, value
		}
	}
	return out, nil
}

func firstOf(m map[string]string, keys ...string) (string, bool) {
	for _, k := range keys {
		if v, ok := m[k]; ok {
			return v, true
		}
	}
	return "", false
}

func (a *app) fillLabels(opt *builder.Options, f flags) error {
	opt.Labels = map[string]string{}
	for _, l := range f.list("label") {
		key, value, _ := strings.Cut(l, "=") // a key alone has an empty value, as in Docker
		if key == "" {
			return usagef("--label=%s: want KEY=VALUE", l)
		}
		opt.Labels[key] = value
	}
	opt.Unset = stages.Unset{Env: f.list("unsetenv"), Labels: f.list("unsetlabel")}
	for _, e := range f.list("env") {
		name, _, given := strings.Cut(e, "=")
		if name == "" {
			return usagef("--env=%s: want NAME=VALUE", e)
		}
		if !given {
			value, ok := a.env.lookup(name)
			if !ok {
				return usagef("--env=%s: the environment has no such variable", e)
			}
			e += "=" + value
		}
		opt.Env = append(opt.Env, e)
	}
	return nil
}

// fillForm reads what the image carries beside its files and configuration.
func (a *app) fillForm(opt *builder.Options, f flags) error {
	for _, s := range f.list("annotation") {
		list, err := builder.ParseAnnotation(s)
		if err != nil {
			return usagef("--annotation=%s: %w", s, err)
		}
		opt.Annotations = append(opt.Annotations, list...)
	}
	opt.InheritAnnotations, opt.UnsetAnnotations = f.is("inherit-annotations"), f.list("unsetannotation")
	switch {
	case f.is("squash-all"):
		opt.Squash = builder.SquashAll
	case f.is("squash"):
		opt.Squash = builder.SquashNew
	}
	switch kind := f.str("layer-xattrs"); kind {
	case "", "none":
	case "user":
		opt.UserXattrs = true
	default:
		return usagef("--layer-xattrs=%s: want none or user", kind)
	}
	return nil
}

func (a *app) fillContexts(opt *builder.Options, f flags) error {
	opt.Contexts = map[string]string{}
	for _, c := range f.list("build-context") {
		name, value, ok := strings.Cut(c, "=")
		if !ok || name == "" || value == "" {
			return usagef("--build-context=%s: want NAME=SOURCE", c)
		}
		if name == "scratch" || name == "context" {
			return usagef("--build-context=%s: %s cannot be replaced", c, name)
		}
		source, err := contextSource(value)
		if err != nil {
			return fmt.Errorf("--build-context=%s: %w", c, err)
		}
		opt.Contexts[name] = source
	}
	return nil
}

// contextSource checks the value of a named context and makes its path absolute.
func contextSource(value string) (string, error) {
	scheme, rest, ok := strings.Cut(value, "://")
	switch {
	case !ok && value == "target:":
		return "", usagef("want target:STAGE")
	case !ok && strings.HasPrefix(value, "target:"), isRemote(value):
		return value, nil
	case ok && scheme == "docker-image", ok && scheme == "container-image":
		if _, err := imageref.Parse(rest); err != nil {
			return "", usagef("%w", err)
		}
		return "docker-image://" + rest, nil
	case ok && scheme == "oci-layout":
		abs, err := filepath.Abs(rest)
		if rest == "" || err != nil {
			return "", usagef("want oci-layout://DIR")
		}
		return "oci-layout://" + abs, nil
	case ok:
		return "", usagef("unknown kind of source %s://", scheme)
	}
	return directory(value)
}

// fillPlatform takes --platform, or buildah's --os, --arch and --variant, or DOCKER_DEFAULT_PLATFORM.
func (a *app) fillPlatform(opt *builder.Options, f flags) error {
	given := splitLists(f.list("platform"))
	opt.AllPlatforms = f.is("all-platforms")
	parts := f.given("os") || f.given("arch") || f.given("variant")
	switch {
	case opt.AllPlatforms && (len(given) > 0 || parts):
		return usagef("--all-platforms excludes --platform, --os, --arch and --variant")
	case opt.AllPlatforms:
		return nil
	case len(given) > 0 && parts:
		return usagef("--platform excludes --os, --arch and --variant")
	case parts:
		given = []string{platformOfParts(f.str("os"), f.str("arch"), f.str("variant"))}
	case len(given) == 0 && a.env["DOCKER_DEFAULT_PLATFORM"] != "":
		given = splitLists([]string{a.env["DOCKER_DEFAULT_PLATFORM"]})
	}
	for _, g := range given {
		if g == "local" {
			g = platforms.DefaultString()
		}
		p, err := platforms.Parse(g)
		if err != nil {
			return usagef("--platform=%s: %w", g, err)
		}
		if p.OS != "linux" {
			return usagef("--platform=%s: only linux images are built", g)
		}
		if name := platforms.Format(platforms.Normalize(p)); !slices.Contains(opt.Platforms, name) {
			opt.Platforms = append(opt.Platforms, name)
		}
	}
	return nil
}

func platformOfParts(osName, arch, variant string) string {
	p := platforms.DefaultSpec()
	if osName != "" {
		p.OS = osName
	}
	if arch != "" {
		p.Architecture, p.Variant = arch, ""
	}
	if variant != "" {
		p.Variant = variant
	}
	return platforms.Format(p)
}

func (a *app) fillPull(opt *builder.Options, f flags) error {
	switch v := f.str("pull"); v {
	case "", "missing", "ifmissing", "false":
		opt.Pull = builder.PullMissing
	case "always", "true":
		opt.Pull = builder.PullAlways
	case "newer", "ifnewer":
		opt.Pull = builder.PullNewer
	case "never":
		opt.Pull = builder.PullNever
	default:
		return usagef("--pull=%s: want missing, always, newer or never", v)
	}
	return nil
}

// fillEpoch follows the order of FEATURES B11: the flag, the build argument, the environment. Whatever it is from, it is the
// build argument then; what is no number is for the builder to find out.
func (a *app) fillEpoch(opt *builder.Options, f flags) error {
	const name = "SOURCE_DATE_EPOCH"
	value, from := f.str("source-date-epoch"), "--source-date-epoch"
	if f.given("timestamp") {
		if f.given("source-date-epoch") && f.str("timestamp") != value {
			return usagef("--timestamp and --source-date-epoch differ")
		}
		value, from = f.str("timestamp"), "--timestamp"
	}
	if arg, given := opt.BuildArgs[name]; value == "" && given {
		value, from = arg, "build argument "+name
	} else if value == "" {
		value, from = a.env[name], name
	}
	if value == "" { // an empty build argument stays: it hides the default of an ARG
		return nil
	}
	opt.BuildArgs[name] = value
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return nil //nolint:nilerr // context, a named context or a stage
	}
	if err != nil || n < 0 || n > maxEpoch {
		return usagef("%s=%s: want seconds since 1970", from, value)
	}
	t := time.Unix(n, 0).UTC()
	opt.SourceDateEpoch = &t
	return nil
}

func (a *app) fillFiles(opt *builder.Options, f flags) error {
	ignore, err := existingFile("ignorefile", f.str("ignorefile"))
	opt.IgnoreFile = ignore
	return err
}

// fillTags checks the names and completes them: a name without a tag gets latest (FEATURES K8).
func (a *app) fillTags(opt *builder.Options, f flags) error {
	opt.Index = opt.Index || f.given("manifest")
	seen := map[string]bool{}
	for _, t := range append(slices.Clone(f.list("tag")), f.list("manifest")...) {
		name, err := imageName(t)
		if err != nil {
			return fmt.Errorf("name of the image: %w", err)
		}
		if !seen[name] {
			seen[name] = true
			opt.Tags = append(opt.Tags, name)
		}
	}
	return nil
}

// imageName is the full form of an image's name with a tag.
func imageName(s string) (string, error) {
	ref, err := imageref.Parse(s)
	if err != nil {
		e := usagef("invalid image name %q: %w", s, err)
		if _, err := imageref.Parse(strings.ToLower(s)); err == nil {
			return "", hint(e, "use "+strings.ToLower(s))
		}
		return "", e
	}
	if ref.Digest != "" {
		return "", usagef("invalid image name %q: a digest cannot be chosen", s)
	}
	return ref.WithTag().String(), nil
}
