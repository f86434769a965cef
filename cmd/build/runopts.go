package main

import (
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/docker/go-units"

	"gobuild/builder"
)

// runOptions turns the flags about RUN into builder options.
func runOptions(f flags) (builder.RunOptions, error) {
	opt := builder.RunOptions{
		DNSSearch:     f.list("dns-search"),
		DNSOptions:    f.list("dns-option"),
		Hostname:      f.str("hostname"),
		BestEffort:    f.is("best-effort-limits"),
		NetworkStrict: f.is("network-strict"),
		Network:       f.str("network"),
		NoHosts:       f.is("no-hosts"),
	}
	if opt.Network == "private" || opt.Network == "" {
		opt.Network = "default"
	}
	if !validHostname(opt.Hostname) {
		return opt, usagef("--hostname=%s: want a host name", opt.Hostname)
	}
	for _, fill := range []func(*builder.RunOptions, flags) error{fillHosts, fillDNS, fillSecurity, fillUlimits, fillSizes, fillResources, fillBlockRates, fillParent, fillStepTimeout} {
		if err := fill(&opt, f); err != nil {
			return opt, err
		}
	}
	return opt, checkLimits(opt)
}

// validHostname accepts what the kernel and /etc/hosts can hold; "" is the default.
func validHostname(s string) bool {
	const kernelLimit = 64 // __NEW_UTS_LEN
	return len(s) <= kernelLimit && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '-' && r != '.' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
}

// hostGateway stands for the address of the host as a step sees it.
const hostGateway = "host-gateway"

// fillHosts normalises name:ip, name=ip and name:[ipv6] to name:ip (FEATURES G17).
func fillHosts(opt *builder.RunOptions, f flags) error {
	for _, h := range f.list("add-host") {
		i := strings.IndexAny(h, ":=")
		if i <= 0 {
			return usagef("--add-host=%s: want NAME:IP", h)
		}
		name, ip := h[:i], h[i+1:]
		if strings.HasPrefix(ip, "[") && strings.HasSuffix(ip, "]") {
			ip = ip[1 : len(ip)-1]
		}
		addr, err := netip.ParseAddr(ip)
		if ip != hostGateway && (err != nil || addr.Zone() != "") {
			return usagef("--add-host=%s: %q is not an IP address", h, ip)
		}
		if ip != hostGateway {
			ip = addr.String()
		}
		if strings.ContainsAny(name, " \t\n\r#") {
			return usagef("--add-host=%s: %q is not a host name", h, name)
		}
		opt.AddHosts = append(opt.AddHosts, name+":"+ip)
	}
	return nil
}

func fillDNS(opt *builder.RunOptions, f flags) error {
	for _, d := range f.list("dns") {
		if d == "none" {
			opt.DNSNone = true
			continue
		}
		addr, err := netip.ParseAddr(d)
		if err != nil {
			return usagef("--dns=%s: want an IP address", d)
		}
		opt.DNS = append(opt.DNS, addr.String())
	}
	for _, name := range []string{"dns-search", "dns-option"} {
		for _, v := range f.list(name) { // each becomes a word in resolv.conf
			if v == "" || strings.ContainsAny(v, " \t\n\r#;") {
				return usagef("--%s=%s: want one word", name, v)
			}
		}
	}
	if opt.DNSNone && len(f.list("dns"))+len(opt.DNSSearch)+len(opt.DNSOptions) > 1 {
		return usagef("--dns=none excludes other servers, --dns-search and --dns-option")
	}
	if opt.NoHosts && len(opt.AddHosts) > 0 {
		return usagef("--no-hosts excludes --add-host")
	}
	return nil
}

func fillUlimits(opt *builder.RunOptions, f flags) error {
	at := map[string]int{}
	for _, s := range f.list("ulimit") {
		u, err := units.ParseUlimit(s)
		if err != nil {
			return usagef("--ulimit=%s: %w", s, err)
		}
		one := builder.Ulimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard}
		if i, twice := at[u.Name]; twice {
			opt.Ulimits[i] = one
			continue
		}
		at[u.Name] = len(opt.Ulimits)
		opt.Ulimits = append(opt.Ulimits, one)
	}
	return nil
}

func fillSizes(opt *builder.RunOptions, f flags) error {
	if !f.given("shm-size") {
		return nil
	}
	n, ok := parseSize(f.str("shm-size"), 1)
	if !ok {
		return usagef("--shm-size=%s: want a size like 64m", f.str("shm-size"))
	}
	opt.ShmSize = n
	return nil
}

// resourceNames are the limits that --resource takes too, each spelled as its flag.
func resourceNames() []string {
	return []string{"memory", "memory-swap", "cpus", "cpu-shares", "cpu-period", "cpu-quota", "cpuset-cpus", "cpuset-mems", "pids-limit", "blkio-weight"}
}

// fillResources reads the limits, of their own flags or of --resource.
func fillResources(opt *builder.RunOptions, f flags) error {
	set := map[string]string{}
	for _, name := range resourceNames() {
		if f.given(name) {
			set[name] = f.str(name)
		}
	}
	for _, r := range f.list("resource") {
		known := map[string]string{}
		for _, n := range resourceNames() {
			known[n] = n
		}
		keys, err := csvKeys(r, known)
		if err != nil {
			return usagef("--resource=%s: %w", r, err)
		}
		for k, v := range keys {
			if old, twice := set[k]; twice && old != v {
				return usagef("--resource=%s: %s is given twice", r, k)
			}
			set[k] = v
		}
	}
	for _, name := range sortedKeys(set) {
		if err := setResource(opt, name, set[name]); err != nil {
			return err
		}
	}
	return nil
}

// setResource parses one limit. Every number is checked for width and range.
func setResource(opt *builder.RunOptions, name, value string) error {
	want := ""
	ok := false
	switch name {
	case "memory":
		want = "a size like 512m"
		opt.MemoryBytes, ok = parseSize(value, 1)
	case "memory-swap":
		want = "a size like 1g, or -1"
		if opt.MemorySwap, ok = -1, true; value != "-1" {
			opt.MemorySwap, ok = parseSize(value, 0)
		}
	case "cpus":
		want = "a number like 1.5"
		opt.CPUs, ok = parseCPUs(value)
	case "cpu-shares":
		want = "a number from 2 to 262144"
		opt.CPUShares, ok = parseUnsigned(value, 2, 262144)
	case "cpu-period":
		want = "microseconds from 1000 to 1000000"
		opt.CPUPeriod, ok = parseUnsigned(value, 1000, 1000000)
	case "cpu-quota":
		want = "microseconds from 1000, or -1"
		opt.CPUQuota, ok = parseOrUnlimited(value, 1000)
	case "pids-limit":
		want = "a number, or -1"
		opt.PidsLimit, ok = parseOrUnlimited(value, 1)
	case "blkio-weight":
		want = "a number from 10 to 1000"
		var n uint64
		n, ok = parseUnsigned(value, 10, 1000)
		opt.BlockWeight = uint16(n)
	case "cpuset-cpus":
		want = "a list like 0-3,7"
		opt.CpusetCPUs, ok = value, isCPUList(value)
	case "cpuset-mems":
		want = "a list like 0,1"
		opt.CpusetMems, ok = value, isCPUList(value)
	}
	if !ok {
		return usagef("--%s=%s: want %s", name, value, want)
	}
	return nil
}

// fillBlockRates reads the --device-read-bps family. A later value for a device replaces an earlier one.
func fillBlockRates(opt *builder.RunOptions, f flags) error {
	for _, kind := range []string{"read-bps", "write-bps", "read-iops", "write-iops"} {
		flag := "device-" + kind
		for _, v := range f.list(flag) {
			i := strings.LastIndex(v, ":")
			if i <= 0 || !strings.HasPrefix(v, "/dev/") {
				return usagef("--%s=%s: want /dev/NAME:RATE", flag, v)
			}
			rate, ok := parseSize(v[i+1:], 1)
			if strings.HasSuffix(kind, "iops") {
				var n uint64
				n, err := strconv.ParseUint(v[i+1:], 10, 32)
				rate, ok = int64(n), err == nil && n > 0
			}
			if !ok {
				return usagef("--%s=%s: %q is not a rate", flag, v, v[i+1:])
			}
			one := builder.BlockRate{Device: v[:i], Kind: kind, Rate: uint64(rate)}
			opt.BlockRates = slices.DeleteFunc(opt.BlockRates, func(b builder.BlockRate) bool { return b.Device == one.Device && b.Kind == kind })
			opt.BlockRates = append(opt.BlockRates, one)
		}
	}
	return nil
}

// fillParent takes a path, or the name of a systemd slice, whose directory lies in those of the slices that its name begins with
// (systemd.slice(5)).
func fillParent(opt *builder.RunOptions, f flags) error {
	parent := f.str("cgroup-parent")
	if !f.given("cgroup-parent") {
		return nil
	}
	clean := path.Clean("/" + parent)
	if parent == "" || clean == "/" || strings.Contains("/"+parent+"/", "/../") || len(parent) > maxGroupPath {
		return usagef("--cgroup-parent=%s: want the path of a control group", parent)
	}
	opt.CgroupParent = clean
	name, isSlice := strings.CutSuffix(parent, ".slice")
	if !isSlice || strings.Contains(parent, "/") {
		return nil
	}
	opt.CgroupParent = ""
	for i, r := range name + "-" {
		if r == '-' {
			opt.CgroupParent += "/" + name[:i] + ".slice"
		}
	}
	if strings.HasPrefix(name, "-") || strings.HasSuffix(name, "-") || strings.Contains(name, "--") || name == "" {
		return usagef("--cgroup-parent=%s: not the name of a slice", parent)
	}
	return nil
}

func fillStepTimeout(opt *builder.RunOptions, f flags) error {
	if !f.given("step-timeout") {
		return nil
	}
	d, err := time.ParseDuration(f.str("step-timeout"))
	if err != nil || d <= 0 {
		return usagef("--step-timeout=%s: want a duration like 90s or 30m", f.str("step-timeout"))
	}
	opt.StepTimeout = d
	return nil
}

// parseSize reads a number of bytes with a unit, at least least.
func parseSize(s string, least int64) (int64, bool) {
	n, err := units.RAMInBytes(s)
	return n, err == nil && n >= least
}

func parseCPUs(s string) (float64, bool) {
	n, err := strconv.ParseFloat(s, 64)
	return n, err == nil && n > 0 && n <= maxCPUs // false for NaN
}

// parseUnsigned reads a number in a range; 0 is the default.
func parseUnsigned(s string, least, most uint64) (uint64, bool) {
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil && (n == 0 || n >= least && n <= most)
}

// parseOrUnlimited reads a number from least on; 0 is the default, -1 no limit.
func parseOrUnlimited(s string, least int64) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil && (n == 0 || n == -1 || n >= least)
}

// isCPUList accepts the kernel's list format: numbers and ranges, by comma.
func isCPUList(s string) bool {
	for _, part := range strings.Split(s, ",") {
		first, last, isRange := strings.Cut(part, "-")
		a, err := strconv.ParseUint(first, 10, 16)
		if err != nil {
			return false
		}
		if !isRange {
			continue
		}
		if b, err := strconv.ParseUint(last, 10, 16); err != nil || b < a {
			return false
		}
	}
	return true
}

// checkLimits finds limits that contradict each other.
func checkLimits(opt builder.RunOptions) error {
	switch {
	case opt.MemorySwap > 0 && opt.MemoryBytes == 0:
		return usagef("--memory-swap needs --memory")
	case opt.MemorySwap > 0 && opt.MemorySwap < opt.MemoryBytes:
		return usagef("--memory-swap is memory plus swap: it cannot be less than --memory")
	case opt.CPUs > 0 && (opt.CPUQuota != 0 || opt.CPUPeriod != 0):
		return usagef("--cpus excludes --cpu-quota and --cpu-period")
	}
	return nil
}
