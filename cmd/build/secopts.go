package main

import (
	"slices"
	"strconv"
	"strings"

	"gobuild/builder"
	"gobuild/internal/hostdevice"
	"gobuild/sandbox"
)

// The entitlements of --allow (FEATURES N2).
const (
	allowNetwork  = "network.host"
	allowInsecure = "security.insecure"
	allowDevice   = "device"
	allowSecret   = "onbuild.secret" // triggers of a base image may have them (HOSTILE H-67)
	allowSSH      = "onbuild.ssh"
)

// fillAllow reads what the user lets the Dockerfile have.
func (a *app) fillAllow(opt *builder.Options, f flags) error {
	known := []string{allowNetwork, allowInsecure, allowDevice, "fs.read", "fs.write", "fs", "ssh", allowSecret, allowSSH}
	for _, e := range allowed(f) {
		name, value, valued := strings.Cut(e, "=")
		switch {
		case e == allowNetwork, e == allowInsecure, e == allowDevice, e == allowSecret, e == allowSSH, name == allowDevice && value != "":
			opt.Allow = append(opt.Allow, e)
		case e == "ssh", valued && value != "" && slices.Contains(known[3:6], name):
			a.printer.Notice("--allow=" + e + " has no effect: what the command line names may be used")
		case slices.Contains(known[:2], name), slices.Contains(known[7:], name):
			return usagef("--allow=%s: %s has no value", e, name)
		case slices.Contains(known[2:6], name):
			return usagef("--allow=%s: want %s=NAME", e, name)
		default:
			err := usagef("--allow=%s: unknown entitlement", e)
			if near := nearest(name, known); near != "" {
				return hint(err, "did you mean "+near+"?")
			}
			return hint(err, "the entitlements are "+strings.Join(known[:3], ", ")+", "+strings.Join(known[7:], ", ")+", "+strings.Join(known[3:5], " and "))
		}
	}
	return nil
}

// allowed are the values of --allow, each of which may be several.
func allowed(f flags) []string { return splitLists(f.list("allow")) }

// fillSecurity reads --cap-add, --cap-drop and --security-opt. What lets a step out of its sandbox must be allowed: the flags
// are often copied along with a command.
func fillSecurity(opt *builder.RunOptions, f flags) error {
	insecure := slices.Contains(allowed(f), allowInsecure)
	opt.CapAdd, opt.CapDrop = capList(f.list("cap-add")), capList(f.list("cap-drop"))
	for _, name := range slices.Concat(opt.CapAdd, opt.CapDrop) {
		if err := sandbox.CheckCapability(name); err != nil {
			return usagef("--cap-add, --cap-drop: %w", err)
		}
	}
	for _, name := range opt.CapAdd {
		if !sandbox.Confining(name) && !insecure {
			return hint(usagef("--cap-add=%s lets steps out of their sandbox", name), "add --allow "+allowInsecure)
		}
	}
	for _, d := range f.list("device") {
		if err := hostdevice.Check(d); err != nil {
			return usagef("--device: %w", err)
		}
		allow := allowed(f)
		kind, _, _ := strings.Cut(hostdevice.HostPath(d), "=")
		if !slices.ContainsFunc([]string{allowDevice, allowDevice + "=" + d, allowDevice + "=" + kind}, func(e string) bool { return slices.Contains(allow, e) }) {
			return hint(usagef("--device=%s must be allowed", d), "add --allow "+allowDevice)
		}
		opt.Devices = append(opt.Devices, d)
	}
	for _, o := range f.list("security-opt") {
		if err := securityOption(opt, o, insecure); err != nil {
			return err
		}
	}
	return nil
}

// capList makes one form of names, sorted, each once: it is in the keys of steps.
func capList(values []string) []string {
	var out []string
	for _, v := range splitLists(values) {
		out = append(out, strings.TrimPrefix(strings.ToUpper(v), "CAP_"))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// securityOption takes KEY=VALUE or, as old commands have it, KEY:VALUE.
func securityOption(opt *builder.RunOptions, o string, insecure bool) error {
	key, value, valued := strings.Cut(strings.Replace(o, ":", "=", 1), "=")
	switch key {
	case "no-new-privileges":
		on, err := true, error(nil)
		if valued {
			on, err = strconv.ParseBool(value)
		}
		if err != nil {
			return usagef("--security-opt=%s: want true or false", o)
		}
		opt.NoNewPrivileges = on
	case "seccomp":
		if value == "builtin" || value == "default" {
			opt.SeccompNone, opt.Seccomp = false, ""
			return nil
		}
		if !insecure {
			return hint(usagef("--security-opt=%s lets steps out of their sandbox", o), "add --allow "+allowInsecure)
		}
		return seccompOption(opt, value)
	}
	return nil
}

func seccompOption(opt *builder.RunOptions, value string) error {
	opt.SeccompNone, opt.Seccomp = value == "unconfined", ""
	if opt.SeccompNone {
		return nil
	}
	data, err := readBounded(value, maxSeccomp)
	if err != nil {
		return usagef("--security-opt=seccomp=%s: %w", value, err)
	}
	if len(data) == 0 {
		return usagef("--security-opt=seccomp=%s: the file is empty", value)
	}
	opt.Seccomp = string(data)
	return nil
}
