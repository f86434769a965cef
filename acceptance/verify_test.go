package acceptance

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Two builds on two state directories and from two folders, one of them for several platforms, give equal digests, and the
// provenance of one makes the images of the other again.
//
// rows: P7 M3 L4 B11
func TestP7_ProvenanceOfOneMachineRebuildsTheImagesOfAnother(t *testing.T) {
	t.Parallel()
	other := map[string]string{"amd64": "linux/arm64"}[runtime.GOARCH]
	if other == "" {
		other = "linux/amd64"
	}
	host := "linux/" + runtime.GOARCH
	// The image of each platform has no command of its own, so that no emulator is needed; what it has is made by commands.
	const dockerfile = `FROM --platform=$BUILDPLATFORM example.com/base:1 AS made
ARG GREETING
ARG TARGETARCH
RUN mkdir -p /out/d && echo $GREETING $TARGETARCH > /out/d/greeting && ln -s greeting /out/d/link && chmod 4711 /out/d/greeting
RUN date > /date && touch /out/now
COPY text /out/
FROM scratch
COPY --from=made /out /
COPY --chown=7:8 text /own/
ENV A=b
LABEL l=1
`
	worlds := map[string]*world{}
	for _, name := range []string{"one", "both"} {
		base := newWorld(t, baseDockerfile, nil)
		base.build("-q", "--source-date-epoch=1600000000", "-t", "example.com/base:1")
		w := newWorld(t, dockerfile, map[string]string{"text": "text\n"})
		w.root = base.root
		worlds[name] = w
	}
	flags := []string{"-q", "--source-date-epoch=1600000000", "--build-arg", "GREETING=hello", "--provenance=mode=max", "--annotation", "k=v"}
	layouts := map[string]string{}
	images := map[string]map[string]string{}
	for name, platforms := range map[string]string{"one": host, "both": other + "," + host} {
		layouts[name] = filepath.Join(worlds[name].work, "layout")
		worlds[name].build(append(flags, "--platform", platforms, "-o", "type=oci,tar=false,compression=zstd,dest="+layouts[name])...)
		images[name] = platformImages(t, layouts[name])
	}
	if one, same := images["one"][host], images["both"][host]; one == "" || one != same {
		t.Fatalf("%s: %s on one machine, %s on the other", host, one, same)
	}
	for from, on := range map[string]string{"one": "both", "both": "one"} {
		w := worlds[on]
		o := w.verify("oci://" + layouts[from])
		if o.code != 0 {
			t.Fatalf("by the provenance of %s: exit code %d\n%s%s", from, o.code, o.stdout, o.stderr)
		}
		for platform, d := range images[from] {
			if want := platform + " " + d + " comes out the same by its provenance\n"; !strings.Contains(o.stdout, want) {
				t.Errorf("by the provenance of %s: no %q in\n%s", from, want, o.stdout)
			}
		}
	}
	w := worlds["one"]
	w.write("text", "other\n")
	o := w.verify("oci://" + layouts["both"])
	if o.code != 1 || strings.Count(o.stdout, " /text changed: content ") != 2 || strings.Count(o.stdout, "first difference: layer 1: /text: content") != 2 {
		t.Errorf("another context: exit code %d\n%s%s", o.code, o.stdout, o.stderr)
	}
}

func (w *world) verify(image string) outcome {
	w.t.Helper()
	cmd := exec.Command(binary, "verify", "--root", w.root, "--network", "none", image, w.dir)
	cmd.Dir, cmd.Env = w.work, append(os.Environ(), w.env...)
	return w.run(cmd)
}

// platformImages are the digests of the images in a layout by platform.
func platformImages(t *testing.T, layout string) map[string]string {
	t.Helper()
	var top, idx ocispec.Index
	readJSON(t, filepath.Join(layout, "index.json"), &top)
	readJSON(t, filepath.Join(layout, "blobs", strings.ReplaceAll(top.Manifests[0].Digest.String(), ":", "/")), &idx)
	images := map[string]string{}
	for _, d := range idx.Manifests {
		if d.Platform.OS != "unknown" {
			images[d.Platform.OS+"/"+d.Platform.Architecture] = d.Digest.String()
		}
	}
	if len(images) == 0 {
		t.Fatalf("%s has no images", layout)
	}
	return images
}
