package builder

import (
	"cmp"
	"errors"
	"fmt"
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

// checkEmulators refuses a RUN that this machine cannot run before any runs (FEATURES G22).
func (bd *build) checkEmulators() error {
	_, host, err := platformsOf("")
	if err != nil {
		return classify(err, CategoryEnvironment)
	}
	handlers := sync.OnceValue(sandbox.BinfmtHandlers)
	for _, ln := range bd.lanes {
		for _, s := range ln.plan.Stages {
			step := firstRun(s)
			if step == nil || native(host, s.Platform) {
				continue
			}
			if err := emulates(handlers(), s.Platform.Architecture); err != nil {
				sr := &stageRun{lane: ln, stage: s}
				e := &Error{Category: CategoryEnvironment, Op: step.Text, Step: sr.info(step), Err: err, Hint: emulatorRemedy}
				return bd.src.locate(e, step.Pos)
			}
		}
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
	names := []string{"qemu-" + cmp.Or(qemuNames[arch], arch)}
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

// qemuNames are the emulators that are not called as the architecture is.
var qemuNames = map[string]string{
	"amd64": "x86_64", "386": "i386", "arm64": "aarch64", "mips64le": "mips64el", "mipsle": "mipsel", "loong64": "loongarch64",
}
