package main

import (
	"strconv"

	"gobuild/builder"
)

// heedBuildkitArgs obeys the BUILDKIT_* build arguments that are not read where a Dockerfile is planned or a git context is
// fetched (FEATURES B10). What they ask for and is not there is an error, as it is with a flag.
func (a *app) heedBuildkitArgs(opt *builder.Options) error {
	for _, arg := range []struct{ name, remedy string }{
		{"BUILDKIT_INLINE_CACHE", "use --cache-to type=registry,ref=HOST/NAME:TAG, and --cache-from with the same"},
	} {
		on, err := boolArg(opt, arg.name)
		if err != nil {
			return err
		}
		if on {
			return hint(usagef("--build-arg %s=%s is not supported yet", arg.name, opt.BuildArgs[arg.name]), arg.remedy)
		}
	}
	var err error
	if opt.Index, err = boolArg(opt, "BUILDKIT_MULTI_PLATFORM"); err != nil {
		return err
	}
	if name := opt.BuildArgs["BUILDKIT_BUILD_NAME"]; name != "" {
		a.printer.Notice("BUILDKIT_BUILD_NAME has no effect: records of builds are known by their ids")
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
