package builder

import (
	"errors"
	"fmt"
	"strings"

	"gobuild/cache"
	"gobuild/internal/hostdevice"
	"gobuild/sandbox"
	"gobuild/stages"
)

// deviceSet is what the --device flags of a RUN and of the command line give it (FEATURES B30, G10).
type deviceSet struct {
	names []string // of all, for the key
	found []*hostdevice.Set
	have  []bool
}

// devicesOf looks for the devices of a step. One that a RUN does not require may be absent.
func (bd *build) devicesOf(fromRun []stages.Device) (*deviceSet, error) {
	set := &deviceSet{}
	for _, name := range bd.opt.Run.Devices {
		if err := bd.findDevice(set, name, true); err != nil {
			return nil, fmt.Errorf("--device=%s: %w", name, err)
		}
	}
	for _, d := range fromRun {
		if err := bd.findDevice(set, d.Name, d.Required); err != nil {
			return nil, fmt.Errorf("RUN --device=%s: %w", d.Name, err)
		}
	}
	return set, nil
}

func (b *Builder) findDevice(set *deviceSet, name string, required bool) error {
	dirs := b.cfg.CDIDirs
	if dirs == nil {
		dirs = hostdevice.Dirs()
	}
	found, err := hostdevice.Find(dirs, name)
	switch {
	case errors.Is(err, hostdevice.ErrAbsent) && !required:
		b.notice(fmt.Sprintf("device %s is not there, and not required", name))
	case errors.Is(err, hostdevice.ErrAbsent):
		return err
	case err != nil:
		return usage{err}
	default:
		set.found = append(set.found, found)
		if len(found.Missing) > 0 {
			b.notice(fmt.Sprintf("device %s is given without its %s: gobuild has no such thing", name, strings.Join(found.Missing, ", ")))
		}
	}
	set.names, set.have = append(set.names, name), append(set.have, err == nil)
	return nil
}

// addTo writes which devices a step asked for, and which of them it got.
func (set *deviceSet) addTo(k *cache.KeyBuilder) {
	for i, name := range set.names {
		state := "absent"
		if set.have[i] {
			state = "present"
		}
		k.Add("device:"+name, state)
	}
}

// give hands the devices to a step. Variables of a device win over those of the image.
func (set *deviceSet) give(spec *sandbox.Spec) {
	for _, found := range set.found {
		for _, n := range found.Nodes {
			spec.Devices = append(spec.Devices, sandbox.Device(n))
		}
		for _, m := range found.Mounts {
			spec.Mounts = append(spec.Mounts, sandbox.Mount{Type: "bind", Source: m.Source, Target: m.Target, ReadOnly: m.ReadOnly})
		}
		spec.Env = append(spec.Env, found.Env...)
	}
}
