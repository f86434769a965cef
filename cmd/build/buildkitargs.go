package main

import (
	"strconv"

	"gobuild/builder"
)

// maxBuildName bounds the name of a build in its record.
const maxBuildName = 256

// heedBuildkitArgs obeys the BUILDKIT_* build arguments that are not read where a Dockerfile is planned or a git context is
// fetched (FEATURES B10).
func (a *app) heedBuildkitArgs(opt *builder.Options) error {
	inline, err := boolArg(opt, "BUILDKIT_INLINE_CACHE")
	if err != nil {
		return err
	}
	if inline {
		opt.CacheTo = append(opt.CacheTo, builder.CacheShare{Type: "inline"})
	}
	index, err := boolArg(opt, "BUILDKIT_MULTI_PLATFORM")
	if opt.Index = opt.Index || index; err != nil {
		return err
	}
	opt.Name = opt.BuildArgs["BUILDKIT_BUILD_NAME"]
	if len(opt.Name) > maxBuildName {
		return usagef("--build-arg BUILDKIT_BUILD_NAME: a name has at most %d bytes, this one has %d", maxBuildName, len(opt.Name))
	}
	if name := opt.BuildArgs["BUILDKIT_SANDBOX_HOSTNAME"]; name != "" {
		if !validHostname(name) {
			return usagef("--build-arg BUILDKIT_SANDBOX_HOSTNAME=%s: want a host name", name)
		}
		opt.Run.Hostname = name
	}
	return nil
}

// boolArg is a build argument that is true, false or not given.
func boolArg(opt *builder.Options, name string) (bool, error) {
	value := opt.BuildArgs[name]
	if value == "" {
		return false, nil
	}
	on, err := strconv.ParseBool(value)
	if err != nil {
		return false, usagef("--build-arg %s=%s: want true or false", name, value)
	}
	return on, nil
}
