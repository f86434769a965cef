package acceptance

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/schema"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// tool runs another program, whose absence skips the test.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skip(name, " is not installed")
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String()
}

// checkSchemas holds every document that a layout leads to against the schemas of the image specification, and every blob
// against its digest. It counts the documents by media type.
func checkSchemas(t *testing.T, dir string) map[string]int {
	t.Helper()
	seen := map[string]int{}
	check := func(mediaType string, data []byte) {
		t.Helper()
		if err := schema.Validator(mediaType).Validate(bytes.NewReader(data)); err != nil {
			t.Errorf("%s: %s: %v\n%s", dir, mediaType, err, data)
		}
		seen[mediaType]++
	}
	read := func(name string) []byte {
		t.Helper()
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	var walk func(ocispec.Descriptor)
	walk = func(d ocispec.Descriptor) {
		data := read("blobs/" + strings.ReplaceAll(d.Digest.String(), ":", "/"))
		if digest.FromBytes(data) != d.Digest || int64(len(data)) != d.Size {
			t.Errorf("%s: %s is not what is there", dir, d.Digest)
		}
		var doc struct {
			Config    *ocispec.Descriptor
			Layers    []ocispec.Descriptor
			Manifests []ocispec.Descriptor
		}
		switch d.MediaType {
		case ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageIndex, ocispec.MediaTypeImageConfig:
			check(d.MediaType, data)
		default:
			seen[d.MediaType]++
		}
		if d.MediaType != ocispec.MediaTypeImageManifest && d.MediaType != ocispec.MediaTypeImageIndex {
			return
		}
		if err := json.Unmarshal(data, &doc); err != nil {
			t.Fatal(err)
		}
		if doc.Config != nil {
			walk(*doc.Config)
		}
		for _, c := range slices.Concat(doc.Layers, doc.Manifests) {
			walk(c)
		}
	}
	check(ocispec.MediaTypeLayoutHeader, read("oci-layout"))
	check(ocispec.MediaTypeImageIndex, read("index.json"))
	var index ocispec.Index
	readJSON(t, filepath.Join(dir, "index.json"), &index)
	for _, d := range index.Manifests {
		walk(d)
	}
	return seen
}

// TestK3_WhatIsWrittenObeysTheSchemas validates every kind of layout that a build writes with image-spec's own schemas.
func TestK3_WhatIsWrittenObeysTheSchemas(t *testing.T) {
	t.Parallel()
	w := newWorld(t, baseDockerfile+`ENV A=b PATH=/bin
EXPOSE 80/tcp
VOLUME /data
LABEL l=v
HEALTHCHECK --interval=5s CMD true
STOPSIGNAL SIGINT
WORKDIR /w
USER 1:2
ENTRYPOINT ["/bin/true"]
CMD ["x"]
`, nil)
	w.write("Plain", "FROM scratch\nCOPY Dockerfile /\nCOPY Plain /\n")
	const manifest, config, index = ocispec.MediaTypeImageManifest, ocispec.MediaTypeImageConfig, ocispec.MediaTypeImageIndex
	for _, tc := range []struct {
		name string
		args []string
		want map[string]int // at least
	}{
		{"oci", []string{"-t", "app", "--annotation", "a=b", "--label", "c=d", "-o", "type=oci,tar=false,dest=OUT"}, map[string]int{manifest: 1, config: 1, ocispec.MediaTypeImageLayerGzip: 2}},
		{"zstd", []string{"-o", "type=oci,tar=false,dest=OUT,compression=zstd"}, map[string]int{manifest: 1, ocispec.MediaTypeImageLayerZstd: 2}},
		{"uncompressed", []string{"-o", "type=oci,tar=false,dest=OUT,compression=uncompressed"}, map[string]int{manifest: 1, ocispec.MediaTypeImageLayer: 2}},
		{"squashed", []string{"--squash", "-o", "type=oci,tar=false,dest=OUT"}, map[string]int{manifest: 1, ocispec.MediaTypeImageLayerGzip: 1}},
		{"index", []string{"-f", "Plain", "--platform", "linux/amd64,linux/arm64,linux/arm/v7", "--annotation", "index:a=b", "--annotation", "index-descriptor:c=d", "-o", "type=oci,tar=false,dest=OUT"}, map[string]int{manifest: 3, config: 3, index: 2}},
		{"provenance", []string{"--provenance=mode=max", "-t", "app", "-o", "type=oci,tar=false,dest=OUT"}, map[string]int{manifest: 2, config: 1, index: 2, "application/vnd.in-toto+json": 1}},
		{"provenance of an index", []string{"-f", "Plain", "--platform", "linux/amd64,linux/arm64", "--provenance=true", "-o", "type=oci,tar=false,dest=OUT"}, map[string]int{manifest: 4, "application/vnd.in-toto+json": 2}},
		{"local cache", []string{"--cache-to", "type=local,dest=OUT,mode=max", "-o", "type=cacheonly"}, map[string]int{manifest: 1}},
		{"inline cache", []string{"--cache-to", "type=inline", "-o", "type=oci,tar=false,dest=OUT"}, map[string]int{manifest: 1, config: 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out := filepath.Join(w.work, strings.ReplaceAll(tc.name, " ", "-"))
			args := []string{"--source-date-epoch", "86400"}
			for i, a := range tc.args {
				if i > 0 && tc.args[i-1] == "-f" {
					a = filepath.Join(w.dir, a)
				}
				args = append(args, strings.ReplaceAll(a, "OUT", out))
			}
			w.build(args...)
			if _, err := os.Stat(filepath.Join(out, "index.json")); errors.Is(err, fs.ErrNotExist) {
				t.Fatal("no layout is written")
			}
			got := checkSchemas(t, out)
			for mediaType, n := range tc.want {
				if got[mediaType] < n {
					t.Errorf("%d of %s, want %d: %v", got[mediaType], mediaType, n, got)
				}
			}
		})
	}
	t.Run("the store", func(t *testing.T) {
		w.build("-t", "example.com:5000/team/app:1")
		if got := checkSchemas(t, filepath.Join(w.root, "oci")); got[manifest] == 0 {
			t.Errorf("the store has %v", got)
		}
	})
}

// TestK3_OtherToolsCopyEveryOutput lets skopeo bring each output into each other form and back, and umoci unpack it: the digest and
// the files stay.
func TestK3_OtherToolsCopyEveryOutput(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "FROM scratch\nCOPY --chmod=0640 Dockerfile /a/b\nCOPY Dockerfile /c\n", nil)
	host := dockerRegistry(t, "")
	at := func(name string) string { return filepath.Join(w.work, name) }
	w.build("--source-date-epoch", "86400", "-t", host+"/app:1", "--push",
		"-o", "type=oci,tar=false,dest="+at("dir"), "-o", "type=oci,dest="+at("oci.tar"), "-o", "type=docker,dest="+at("docker.tar"))
	manifest, _ := layers(t, at("dir"))
	outputs := map[string]string{
		"registry": "docker://" + host + "/app:1", "oci": "oci:" + at("dir") + ":1",
		"oci-archive": "oci-archive:" + at("oci.tar"), "docker-archive": "docker-archive:" + at("docker.tar"),
	}
	for name, from := range outputs {
		for form := range outputs {
			t.Run(name+" to "+form, func(t *testing.T) {
				dir := t.TempDir()
				there := map[string]string{
					"registry": "docker://" + host + "/" + name + "-" + form + ":2", "oci": "oci:" + dir + "/there:2",
					"oci-archive": "oci-archive:" + dir + "/there.tar", "docker-archive": "docker-archive:" + dir + "/there.tar:example.com/x:2",
				}[form]
				copyWith := func(from, to string) {
					t.Helper()
					args := []string{"copy", "-q", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false"}
					if name != "docker-archive" && form != "docker-archive" {
						// Else skopeo may take another compression of a layer, of which it knows from what it copied on this machine before.
						args = append(args, "--preserve-digests")
					}
					tool(t, "skopeo", append(args, from, to)...)
				}
				copyWith(from, there)
				if form != "docker-archive" {
					there = strings.TrimSuffix(there, ".tar:2")
				}
				copyWith(strings.TrimSuffix(there, ":example.com/x:2"), "oci:"+dir+"/back:1")
				back, list := layers(t, dir+"/back")
				if name != "docker-archive" && form != "docker-archive" && back != manifest {
					t.Errorf("%s came back as %s", manifest, back)
				}
				if len(list) != 2 {
					t.Errorf("%d layers", len(list))
				}
				tool(t, "umoci", "unpack", "--image", dir+"/back:1", dir+"/bundle")
				info, err := os.Stat(dir + "/bundle/rootfs/a/b")
				if err != nil || info.Mode().Perm() != 0o640 {
					t.Errorf("umoci unpacked %v, %v", info, err)
				}
				want, _ := os.ReadFile(filepath.Join(w.dir, "Dockerfile"))
				if got, err := os.ReadFile(dir + "/bundle/rootfs/c"); err != nil || !bytes.Equal(got, want) {
					t.Errorf("umoci unpacked %q, %v", got, err)
				}
			})
		}
	}
}
