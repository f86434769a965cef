package main

import (
	"strings"
	"testing"
)

func TestB10_BuildArgsOfTheWholeBuild(t *testing.T) {
	t.Parallel()
	opt, err := options(t, nil, "--hostname=flag", "--build-arg=BUILDKIT_SANDBOX_HOSTNAME=box", "--build-arg=BUILDKIT_INLINE_CACHE=0", "--build-arg=BUILDKIT_MULTI_PLATFORM=")
	if err != nil || opt.Run.Hostname != "box" {
		t.Errorf("host name %q, %v", opt.Run.Hostname, err)
	}
	if opt, err = options(t, nil, "--build-arg=BUILDKIT_MULTI_PLATFORM=1"); err != nil || !opt.Index {
		t.Errorf("BUILDKIT_MULTI_PLATFORM asks for an index: %v, %v", opt.Index, err)
	}
	opt, err = options(t, nil, "--build-arg=BUILDKIT_INLINE_CACHE=1", "--build-arg=BUILDKIT_BUILD_NAME=nightly")
	if err != nil || opt.Name != "nightly" || len(opt.CacheTo) != 1 || opt.CacheTo[0].Type != "inline" {
		t.Errorf("name %q, caches %v, %v", opt.Name, opt.CacheTo, err)
	}
	for arg, want := range map[string]string{
		"BUILDKIT_SANDBOX_HOSTNAME=a b":                   "host name",
		"BUILDKIT_BUILD_NAME=" + strings.Repeat("n", 257): "at most 256 bytes",
		"BUILDKIT_INLINE_CACHE=perhaps":                   "want true or false",
		"BUILDKIT_MULTI_PLATFORM=maybe1":                  "want true or false",
	} {
		_, err := options(t, nil, "--build-arg="+arg)
		wantUsage(t, err, want)
	}
}
