package builder

import (
	"cmp"
	"debug/elf"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gobuild/sandbox"
	"gobuild/stages"
)

// emulatorRemedy installs emulators that need not be in the image.
const emulatorRemedy = "apt-get install qemu-user-static binfmt-support, or docker run --privileged --rm tonistiigi/binfmt --install all; " +
	"or run the step on this machine's platform: FROM --platform=$BUILDPLATFORM"

// Emulator runs programs of another architecture, where this machine has no handler for them.
type Emulator struct {
	Arch string // as in a platform
	Path string // of a static program
}

// checkEmulators refuses a RUN that this machine cannot run before any runs (FEATURES G22). The machine's own handler comes first, then an emulator
// that was given, then one that is installed: these two work in the build's steps alone.
func (bd *build) checkEmulators() error {
	_, host, err := platformsOf("")
	if err != nil {
		return classify(err, CategoryEnvironment)
	}
	handlers := sync.OnceValue(sandbox.BinfmtHandlers)
	var own []sandbox.Emulator
	for _, ln := range bd.lanes {
		for _, s := range ln.plan.Stages {
			step := firstRun(s)
			if step == nil || native(host, s.Platform) {
				continue
			}
			arch := s.Platform.Architecture
			missing := emulates(handlers(), arch)
			if missing == nil {
				continue
			}
			sr := &stageRun{lane: ln, stage: s}
			e, err := bd.emulatorOf(arch)
			if err != nil {
				return bd.src.locate(&Error{Category: CategoryEnvironment, Op: step.Text, Step: sr.info(step), Err: err}, step.Pos)
			}
			if e == nil {
				e := &Error{Category: CategoryEnvironment, Op: step.Text, Step: sr.info(step), Err: missing, Hint: emulatorRemedy}
				return bd.src.locate(e, step.Pos)
			}
			if !slices.Contains(own, *e) {
				own = append(own, *e)
			}
		}
	}
	return bd.startEmulation(own)
}

// emulatorOf finds an emulator that is no handler of the machine's; nil: there is none.
func (bd *build) emulatorOf(arch string) (*sandbox.Emulator, error) {
	for _, e := range bd.opt.Emulators {
		if e.Arch == arch {
			return &sandbox.Emulator{Arch: arch, Path: e.Path}, static(e.Path)
		}
	}
	for _, dir := range bd.cfg.Path {
		path := filepath.Join(dir, qemuName(arch)+"-static")
		if filepath.IsAbs(path) && static(path) == nil {
			return &sandbox.Emulator{Arch: arch, Path: path}, nil
		}
	}
	return nil, nil
}

// static says what keeps a file from running in any root file system.
func static(path string) error {
	f, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("emulator %s: %w", path, plainCause(err))
	}
	defer f.Close() // read only
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return &hinted{err: fmt.Errorf("emulator %s is not static: it would need libraries of the image", path), hint: "name one of the package qemu-user-static"}
		}
	}
	return nil
}

// startEmulation makes these emulators work in steps.
func (bd *build) startEmulation(list []sandbox.Emulator) error {
	if len(list) == 0 || bd.dry {
		return nil
	}
	e, err := sandbox.StartEmulation(list)
	if err != nil {
		return &Error{Category: CategoryEnvironment, Err: fmt.Errorf("use the emulator for %s: %w", list[0].Arch, err), Hint: emulatorRemedy}
	}
	bd.emulation = e
	for _, one := range list {
		bd.emulated = append(bd.emulated, one.Arch)
		bd.notice(fmt.Sprintf("programs for %s are run by %s, in a user namespace of the step's", one.Arch, one.Path))
	}
	bd.open = append(bd.open, e)
	return nil
}

// emulationOf is what the steps of a platform run in, nil for those that run by themselves.
func (bd *build) emulationOf(arch string) *sandbox.Emulation {
	if slices.Contains(bd.emulated, arch) {
		return bd.emulation
	}
	return nil
}

func firstRun(s *stages.Stage) *stages.Step {
	for i := range s.Steps {
		if s.Steps[i].Run != nil {
			return &s.Steps[i]
		}
	}
	return nil
}

// native says whether this machine's processor runs a platform's programs by itself, which levels of it do not change:
// a program for a newer one says so when it starts.
func native(host, p ocispec.Platform) bool {
	if p.OS != "" && p.OS != host.OS {
		return false
	}
	arch := cmp.Or(p.Architecture, host.Architecture)
	switch host.Architecture {
	case "amd64":
		return arch == "amd64" || arch == "386"
	case "arm64":
		return arch == "arm64" || arch == "arm"
	}
	return arch == host.Architecture
}

// emulates looks for the handler of an architecture's programs. The kernel must have opened the emulator when it was
// registered, since it is not in the step's root (binfmt-misc.rst, "F - fix binary").
func emulates(handlers []sandbox.BinfmtHandler, arch string) error {
	names := []string{qemuName(arch)}
	if arch == "amd64" {
		names = append(names, "rosetta")
	}
	unfixed := false
	for _, h := range handlers {
		if !h.Enabled || !slices.Contains(names, h.Name) {
			continue
		}
		if strings.Contains(h.Flags, "F") {
			return nil
		}
		unfixed = true
	}
	if unfixed {
		return fmt.Errorf("programs for %s cannot run: the binfmt_misc handler %s %w", arch, names[0], errUnfixed)
	}
	return fmt.Errorf("programs for %s cannot run: %w", arch, errNoHandler)
}

// Why programs of another platform cannot run.
var (
	errUnfixed   = errors.New("lacks the flag F, so its emulator would have to be in the image")
	errNoHandler = errors.New("this machine is of another architecture, and has no emulator for it in binfmt_misc")
)

// qemuName is what the emulator of an architecture is called.
func qemuName(arch string) string { return "qemu-" + cmp.Or(qemuNames[arch], arch) }

// EmulatedBy tells the architecture by the name of an emulator, "" if it is not one of qemu's.
func EmulatedBy(path string) string {
	name, ok := strings.CutPrefix(strings.TrimSuffix(filepath.Base(path), "-static"), "qemu-")
	if !ok {
		return ""
	}
	for arch, called := range qemuNames {
		if called == name {
			return arch
		}
	}
	return name
}

// qemuNames are the emulators that are not called as the architecture is.
var qemuNames = map[string]string{
	"amd64": "x86_64", "386": "i386", "arm64": "aarch64", "mips64le": "mips64el", "mipsle": "mipsel", "loong64": "loongarch64",
}
