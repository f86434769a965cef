package sandbox

import (
	"fmt"

	"github.com/opencontainers/cgroups"
	"golang.org/x/sys/unix"
)

// controllersOf names the controllers that limits need, as version 1 calls them.
func controllersOf(l *Limits) []string {
	var need []string
	for _, c := range []struct {
		name   string
		needed bool
	}{
		{"memory", l.MemoryBytes != 0 || l.MemorySwap != 0},
		{"cpu", l.CPUShares != 0 || l.CPUPeriod != 0 || l.CPUQuota != 0},
		{"cpuset", l.CpusetCPUs != "" || l.CpusetMems != ""},
		{"pids", l.PidsLimit != 0},
		{"blkio", l.BlockWeight != 0 || len(l.BlockRates) > 0},
	} {
		if c.needed {
			need = append(need, c.name)
		}
	}
	return need
}

// drop takes the limits of one controller out.
func (l *Limits) drop(controller string) {
	switch controller {
	case "memory":
		l.MemoryBytes, l.MemorySwap = 0, 0
	case "cpu":
		l.CPUShares, l.CPUPeriod, l.CPUQuota = 0, 0, 0
	case "cpuset":
		l.CpusetCPUs, l.CpusetMems = "", ""
	case "pids":
		l.PidsLimit = 0
	case "blkio":
		l.BlockWeight, l.BlockRates = 0, nil
	}
}

func resources(l *Limits) (*cgroups.Resources, error) {
	r := &cgroups.Resources{
		SkipDevices: true, // mounts are nodev and CAP_SYS_ADMIN is gone, so nothing is left for a device filter
		Memory:      l.MemoryBytes, MemorySwap: l.MemorySwap, CpuShares: l.CPUShares,
		CpuPeriod: l.CPUPeriod, CpuQuota: l.CPUQuota, CpusetCpus: l.CpusetCPUs, CpusetMems: l.CpusetMems,
		CpuWeight: cgroups.ConvertCPUSharesToCgroupV2Value(l.CPUShares), BlkioWeight: l.BlockWeight,
	}
	if l.MemoryBytes > 0 && l.MemorySwap == 0 {
		r.MemorySwap = 2 * l.MemoryBytes
	}
	if l.PidsLimit > 0 {
		limit := l.PidsLimit + initPids
		r.PidsLimit = &limit
	} else if l.PidsLimit < 0 {
		r.PidsLimit = &l.PidsLimit
	}
	for _, rate := range l.BlockRates {
		if err := rate.addTo(r); err != nil {
			return nil, err
		}
	}
	return r, nil
}

func (b *BlockRate) addTo(r *cgroups.Resources) error {
	lists := map[string]*[]*cgroups.ThrottleDevice{
		"read-bps": &r.BlkioThrottleReadBpsDevice, "write-bps": &r.BlkioThrottleWriteBpsDevice,
		"read-iops": &r.BlkioThrottleReadIOPSDevice, "write-iops": &r.BlkioThrottleWriteIOPSDevice,
	}
	list := lists[b.Kind]
	if list == nil {
		return &SetupError{Op: "limit device", Path: b.Device, Kind: ErrInvalid, Detail: fmt.Sprintf("kind of rate %q", b.Kind)}
	}
	var st unix.Stat_t
	if err := unix.Stat(b.Device, &st); err != nil {
		e := setupError("limit device", b.Device, err)
		e.Kind = ErrInvalid
		return e
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return &SetupError{Op: "limit device", Path: b.Device, Kind: ErrInvalid, Detail: "it is not a block device"}
	}
	*list = append(*list, cgroups.NewThrottleDevice(int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev)), b.Rate))
	return nil
}
