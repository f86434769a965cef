package main

import (
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"gobuild/builder"
)

// gcFlags shape what is removed by itself, before large writes and after a build (FEATURES I16).
func gcFlags() []flagSpec {
	return []flagSpec{
		{name: "gc", kind: kindString, arg: "auto|off", text: "remove what was not used for long, after a build and where room is short: auto (default) or off", decide: gcVerdict},
		{name: "gc-max-used-space", kind: kindString, arg: "SIZE|PERCENT", text: "what the state directory may take (default 80% of the file system, at most 100GiB)"},
		{name: "gc-reserved-space", kind: kindString, arg: "SIZE|PERCENT", text: "below that nothing is removed for room (default 10%, at most 10GiB)"},
		{name: "gc-min-free-space", kind: kindString, arg: "SIZE|PERCENT", text: "what is to stay free on the file system (default 20%)"},
	}
}

func gcVerdict(v string) (verdict, string) {
	if v == "auto" || v == "off" || v == "" {
		return yes, ""
	}
	return no, "use auto or off"
}

func (a *app) fillGC(opt *builder.Options, f flags) (err error) {
	opt.GC, err = gcOptions(f)
	return err
}

// gcOptions are the zero value for a command without these flags.
func gcOptions(f flags) (opt builder.GCOptions, err error) {
	if f["gc"] == nil {
		return opt, nil
	}
	opt.Off = f.str("gc") == "off"
	for name, space := range map[string]*builder.Space{
		"gc-max-used-space": &opt.MaxUsed, "gc-reserved-space": &opt.Reserved, "gc-min-free-space": &opt.MinFree,
	} {
		if !f.given(name) {
			continue
		}
		if *space, err = parseSpace(f.str(name)); err != nil {
			return opt, usagef("--%s=%s: want a size like 10GB, or a part like 20%%", name, f.str(name))
		}
	}
	return opt, nil
}

// parseSpace reads a size or a percentage of the file system.
func parseSpace(text string) (builder.Space, error) {
	if part, ok := strings.CutSuffix(text, "%"); ok {
		n, err := strconv.ParseUint(part, 10, 8)
		if err != nil || n > 100 {
			return builder.Space{}, strconv.ErrRange
		}
		if n == 0 {
			return builder.Space{Given: true}, nil
		}
		return builder.Space{Given: true, Percent: int64(n)}, nil
	}
	n, err := units.FromHumanSize(text)
	if err != nil || n < 0 {
		return builder.Space{}, strconv.ErrSyntax
	}
	return builder.Space{Given: true, Bytes: n}, nil
}
