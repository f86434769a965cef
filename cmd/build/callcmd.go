package main

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/tonistiigi/go-csvvalue"

	"gobuild/builder"
	"gobuild/ui"
)

// The methods of --call.
const (
	callBuild   = "build"
	callCheck   = "check"
	callOutline = "outline"
	callTargets = "targets"
)

const callMethods = "the methods are build, check, outline and targets"

var callFormats = map[string][]string{
	callBuild: nil, callCheck: {"text", "json", "sarif"}, callOutline: {"text", "json"}, callTargets: {"text", "json"},
}

// call is what --call, or --check, wants done with a Dockerfile.
type call struct {
	method       string
	format       string
	ignoreStatus bool // findings do not change the exit code
}

func callVerdict(v string) (verdict, string) {
	method, _, _ := strings.Cut(v, ",")
	if _, ok := callFormats[method]; ok || method == "lint" {
		return yes, "" // what follows is read by parseCall
	}
	return no, callMethods
}

// callWanted reads --call and --check.
func callWanted(f flags) (call, error) {
	c, err := parseCall(f.str("call"))
	if err != nil {
		return c, err
	}
	if f.is("check") {
		if c.method != callBuild && c.method != callCheck {
			return c, usagef("--check and --call=%s contradict each other", c.method)
		}
		c.method = callCheck
	}
	return c, nil
}

// parseCall reads METHOD[,format=FORMAT][,ignorestatus[=BOOL]], as buildx writes it.
func parseCall(text string) (call, error) {
	c := call{method: callBuild}
	if text == "" {
		return c, nil
	}
	fields, err := csvvalue.Fields(text, nil)
	if err != nil || len(fields) == 0 {
		return c, usagef("--call=%s: malformed", text)
	}
	switch c.method = fields[0]; c.method {
	case "lint":
		c.method = callCheck
	case callBuild, callCheck, callOutline, callTargets:
	default:
		return c, hint(usagef("--call=%s: unknown method %q", text, c.method), callMethods)
	}
	for _, field := range fields[1:] {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "format":
			if c.format = value; !slices.Contains(callFormats[c.method], value) {
				return c, hint(usagef("--call=%s: %s has no format %q", text, c.method, value), "the formats of check are text, json and sarif; outline and targets have text and json")
			}
		case "ignorestatus":
			if c.ignoreStatus, err = strconv.ParseBool(value); err != nil && value != "" {
				return c, usagef("--call=%s: want ignorestatus=true or false", text)
			}
			c.ignoreStatus = c.ignoreStatus || value == ""
		default:
			return c, hint(usagef("--call=%s: unknown option %q", text, key), "--call=check,format=json,ignorestatus")
		}
	}
	return c, nil
}

// outline is build --call=outline and --call=targets: nothing is built.
func (a *app) outline(ctx context.Context, args []string, c call) (err error) {
	opt, err := a.buildOptions(a.flags)
	if err != nil {
		return err
	}
	cleanup, err := a.fillContext(&opt, a.flags, args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, cleanup()) }()
	b, err := a.open()
	if err != nil {
		return err
	}
	read, text, asJSON := b.Outline, ui.OutlineText, ui.OutlineJSON
	if c.method == callTargets {
		read, text, asJSON = b.Targets, ui.TargetsText, ui.TargetsJSON
	}
	var out *builder.Outline
	out, err = read(ctx, opt)
	if err = errors.Join(err, b.Close()); err != nil {
		return err
	}
	if c.format == "json" {
		return a.reportBytes(asJSON(out))
	}
	return a.printBytes([]byte(text(out)))
}
