package builder

import (
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"gobuild/cache"
	"gobuild/sandbox"
)

// addTo writes what of the options decides the result of a step (FEATURES I3): not limits, which decide whether it ends well, and
// not addresses.
func (opt *RunOptions) addTo(k *cache.KeyBuilder) {
	for _, h := range opt.AddHosts {
		name, _, _ := strings.Cut(h, ":")
		k.Add("host:" + name)
	}
	for _, u := range opt.Ulimits {
		k.Add("ulimit:"+u.Name, strconv.FormatInt(u.Soft, 10), strconv.FormatInt(u.Hard, 10))
	}
	if opt.Hostname != "" {
		k.Add("hostname", opt.Hostname)
	}
	if opt.ShmSize != 0 {
		k.Add("shm-size", strconv.FormatInt(opt.ShmSize, 10))
	}
	for _, caps := range []struct {
		name string
		list []string
	}{{"cap-add", opt.CapAdd}, {"cap-drop", opt.CapDrop}} {
		if len(caps.list) > 0 {
			k.Add(caps.name, caps.list...)
		}
	}
	for _, o := range []struct {
		name string
		on   bool
	}{{"no-new-privileges", opt.NoNewPrivileges}, {"seccomp-none", opt.SeccompNone}, {"no-hosts", opt.NoHosts}, {"dns-none", opt.DNSNone}} {
		if o.on {
			k.Add(o.name)
		}
	}
	if opt.Seccomp != "" {
		k.Add("seccomp", digest.FromString(opt.Seccomp).String())
	}
}

// shape gives a step what the options say of every step.
func (opt *RunOptions) shape(spec *sandbox.Spec) {
	spec.Hostname, spec.ShmSize, spec.Limits = opt.Hostname, opt.ShmSize, limitsOf(opt)
	spec.NoHosts = opt.NoHosts
	spec.DNS = sandbox.DNS{Servers: opt.DNS, Search: opt.DNSSearch, Options: opt.DNSOptions, None: opt.DNSNone}
	spec.Privileges = sandbox.Privileges{
		AddCaps: opt.CapAdd, DropCaps: opt.CapDrop, NoNewPrivileges: opt.NoNewPrivileges, Unconfined: opt.SeccompNone, Seccomp: opt.Seccomp,
	}
	for _, h := range opt.AddHosts {
		name, ip, _ := strings.Cut(h, ":")
		spec.Hosts = append(spec.Hosts, ip+" "+name)
	}
	for _, u := range opt.Ulimits {
		spec.Rlimits = append(spec.Rlimits, sandbox.Rlimit{Name: u.Name, Soft: u.Soft, Hard: u.Hard})
	}
}

func limitsOf(opt *RunOptions) sandbox.Limits {
	l := sandbox.Limits{
		MemoryBytes: opt.MemoryBytes, MemorySwap: opt.MemorySwap, CPUShares: opt.CPUShares, CPUPeriod: opt.CPUPeriod, CPUQuota: opt.CPUQuota,
		CpusetCPUs: opt.CpusetCPUs, CpusetMems: opt.CpusetMems, PidsLimit: opt.PidsLimit, BlockWeight: opt.BlockWeight,
	}
	for _, r := range opt.BlockRates {
		l.BlockRates = append(l.BlockRates, sandbox.BlockRate(r))
	}
	if opt.CPUs > 0 {
		const period = 100000 // microseconds, the kernel's default (FEATURES G14)
		if l.CPUPeriod == 0 {
			l.CPUPeriod = period
		}
		l.CPUQuota = int64(opt.CPUs * float64(l.CPUPeriod))
	}
	return l
}
