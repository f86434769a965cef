package main

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/tonistiigi/go-csvvalue"

	"gobuild/builder"
	"gobuild/registry"
)

// fillCaches parses every --cache-from and --cache-to (FEATURES I10).
func (a *app) fillCaches(opt *builder.Options, f flags) error {
	for _, s := range f.list("cache-from") {
		c, err := cacheShare(s, false)
		if err != nil {
			return fmt.Errorf("--cache-from=%s: %w", s, err)
		}
		opt.CacheFrom = append(opt.CacheFrom, c)
	}
	for _, s := range f.list("cache-to") {
		c, err := cacheShare(s, true)
		if err != nil {
			return fmt.Errorf("--cache-to=%s: %w", s, err)
		}
		opt.CacheTo = append(opt.CacheTo, c)
	}
	return nil
}

// insecureCaches are the registries of caches that may be spoken to as --insecure-registry says.
func insecureCaches(f flags) []string {
	var hosts []string
	for _, flag := range []string{"cache-from", "cache-to"} {
		if f[flag] == nil {
			continue
		}
		for _, s := range f.list(flag) {
			c, err := cacheShare(s, flag == "cache-to")
			if err != nil || !c.Insecure {
				continue // fillCaches says what is wrong
			}
			if ref, err := registry.ParseReference(c.Ref); err == nil {
				hosts = append(hosts, ref.Host)
			}
		}
	}
	return hosts
}

// fillLock finds the lock file (FEATURES P8).
func (a *app) fillLock(opt *builder.Options, f flags) error {
	file := f.str("lock")
	opt.Lock.Enforce = f.is("locked")
	switch {
	case file == "-":
		return usagef("--lock=-: want a file")
	case f.given("lock") && file == "":
		return usagef("--lock: the name of the file is empty")
	case file == "" && !opt.Lock.Enforce:
		return nil
	case file == "":
		file = "gobuild.lock"
	}
	abs, err := filepath.Abs(file)
	if err != nil {
		return environmentf("--lock=%s: %w", file, err)
	}
	opt.Lock.File = abs
	return nil
}

// cacheShare parses one place: CSV, or a bare reference for type=registry.
func cacheShare(s string, export bool) (builder.CacheShare, error) {
	var c builder.CacheShare
	fields, err := csvvalue.Fields(s, nil)
	if err != nil {
		return c, usagef("%w", err)
	}
	if len(fields) == 1 && !strings.Contains(s, "=") {
		fields = []string{"type=registry", "ref=" + s}
	}
	seen := map[string]bool{}
	for _, field := range fields {
		key, value, ok := strings.Cut(field, "=")
		key = strings.ToLower(strings.TrimSpace(key))
		if !ok || key == "" {
			return c, usagef("%q is not key=value", field)
		}
		if seen[key] {
			return c, usagef("key %s is given twice", key)
		}
		seen[key] = true
		if err := setCacheKey(&c, key, value, export); err != nil {
			return c, err
		}
	}
	return c, checkCacheShare(c, export)
}

func setCacheKey(c *builder.CacheShare, key, value string, export bool) error {
	switch {
	case key == "type":
		c.Type = value
	case key == "ref":
		c.Ref = value
	case key == "src" && !export, key == "dest" && export:
		abs, err := filepath.Abs(value)
		if err != nil {
			return environmentf("%s=%s: %w", key, value, err)
		}
		c.Dir = abs
	case key == "tag":
		c.Tag = value
	case key == "mode" && export:
		if value != "min" && value != "max" {
			return usagef("mode=%s: want min or max", value)
		}
		c.Max = value == "max"
	case key == "compression" && export:
		c.Compression = value
	case key == "compression-level" && export:
		c.Level = value
	case key == "digest" && !export:
		if digest.Digest(value).Validate() != nil {
			return usagef("digest=%s: want sha256:...", value)
		}
		c.Tag = value
	case cacheSwitch(c, key, export) != nil:
		on, err := strconv.ParseBool(value)
		if err != nil {
			return usagef("%s=%s: want true or false", key, value)
		}
		*cacheSwitch(c, key, export) = on
	case key == "oci-mediatypes" || key == "image-manifest":
		if value != "true" {
			return usagef("%s=%s: a cache is an OCI artifact", key, value)
		}
	default:
		return cacheKeyError(key, export)
	}
	return nil
}

// cacheSwitch is the field of a key that is true or false; nil for other keys.
func cacheSwitch(c *builder.CacheShare, key string, export bool) *bool {
	switch {
	case key == "ignore-error" && export:
		return &c.IgnoreError
	case key == "force-compression" && export:
		return &c.Force
	case key == "reset" && export:
		return &c.Reset
	case key == "registry.insecure":
		return &c.Insecure
	case key == "mounts":
		return &c.Mounts
	}
	return nil
}

func cacheKeyError(key string, export bool) error {
	known := []string{"type", "ref", "src", "tag", "digest", "mounts", "registry.insecure"}
	if export {
		known = []string{
			"type", "ref", "dest", "tag", "mode", "compression", "compression-level", "force-compression", "reset", "mounts", "ignore-error", "registry.insecure",
			"oci-mediatypes", "image-manifest",
		}
	}
	if near := nearest(key, known); near != "" {
		return hint(usagef("unknown key %q", key), "did you mean "+near+"?")
	}
	return hint(usagef("unknown key %q", key), "the keys are "+strings.Join(known, ", "))
}

func checkCacheShare(c builder.CacheShare, export bool) error {
	switch {
	case c.Insecure && c.Type != "registry":
		return usagef("registry.insecure= is for type=registry")
	case c.Mounts && c.Type != "local":
		return hint(usagef("mounts= is for type=local"), "gobuild cache export-mount ID FILE writes one to a file")
	case c.Reset && c.Type != "local":
		return hint(usagef("reset= is for type=local"), "give a cache in a registry another tag")
	case c.Type == "inline" && (c.Compression != "" || c.Level != "" || c.Force):
		return hint(usagef("type=inline has the layers of the image"), "use the keys of the same name of -o")
	case c.Tag != "" && c.Type == "registry":
		return usagef("tag= and digest= are for type=local: ref= has them")
	}
	folder := "src"
	if export {
		folder = "dest"
	}
	switch c.Type {
	case "":
		return usagef("type= is missing")
	case "registry":
		if c.Ref == "" {
			return usagef("ref= is missing: which repository?")
		}
	case "local":
		if c.Dir == "" {
			return usagef("%s= is missing: which folder?", folder)
		}
	case "inline":
		switch {
		case !export:
			return hint(usagef("type=inline is what --cache-to writes"), "name the image: type=registry,ref=HOST/NAME:TAG or type=local,src=DIR,tag=TAG")
		case c.Max:
			return hint(usagef("mode=max: an image has the layers of its own steps only"), "use type=registry,ref=HOST/NAME:TAG,mode=max")
		case c.Ref != "" || c.Dir != "" || c.Tag != "":
			return usagef("type=inline goes where the image goes: it has no ref=, dest= or tag=")
		}
	case "gha", "s3", "azblob":
		return hint(usagef("type=%s is not supported yet", c.Type), "use type=registry,ref=HOST/NAME:TAG or type=local,"+folder+"=DIR")
	default:
		return hint(usagef("unknown type %q", c.Type), "the types are registry, local and, for --cache-to, inline")
	}
	return nil
}
