package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// benchPull is S11: a base image of one layer with many files, from docker-registry on this machine into a directory. The floor does
// the same with plain tools; it checks nothing, and keeps no copy of the blob.
func benchPull(ctx context.Context, b *bench) ([]row, error) {
	files := b.size(25_000, 2_500)
	host, stop, err := b.registry(ctx, "s11registry")
	if err != nil {
		return nil, err
	}
	defer stop()
	digest, err := b.pullImage(ctx, host, files)
	if err != nil {
		return nil, err
	}
	dir, err := b.scratch("s11")
	if err != nil {
		return nil, err
	}
	dockerfile := "FROM scratch\nCOPY --from=" + host + "/bench/pull:1 /d000/file00000.go /\n"
	if err := writeFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		return nil, err
	}
	var made []string // removed at the end: see against
	fresh := func(name string) string {
		made = append(made, fmt.Sprintf("s11%s%d", name, len(made)))
		return made[len(made)-1]
	}
	times, err := interleave(b.roundsOr(3),
		func(int) (time.Duration, error) {
			to, err := b.scratch(fresh("floor"))
			if err != nil {
				return 0, err
			}
			return shell(ctx, to, fmt.Sprintf("curl -sSf http://%s/v2/bench/pull/blobs/%s | pigz -d | tar -x", host, digest))
		},
		func(int) (time.Duration, error) { return b.build(ctx, fresh("root"), dir, "--progress=quiet") })
	if err = errors.Join(err, b.drop(append(made, "s11", "s11registry")...)); err != nil {
		return nil, err
	}
	what := fmt.Sprintf("pull and unpack %d MiB in %d files; floor: curl, pigz -d, tar -x", files*pullMean>>20, files)
	return []row{compared("S11", what, times[0], times[1], 1.2)}, nil
}

// pullMean is the average size of the base image's files.
const pullMean = 20_000

// pullImage puts the image into the registry, and returns its layer's digest.
func (b *bench) pullImage(ctx context.Context, host string, files int) (string, error) {
	dir, err := b.copyContext("s11made")
	if err != nil {
		return "", err
	}
	m, err := newMaterial(ctx)
	if err != nil {
		return "", err
	}
	if err := m.files(filepath.Join(dir, "files"), files, pullMean); err != nil {
		return "", err
	}
	image := host + "/bench/pull:1"
	if _, err := b.build(ctx, "s11made-root", dir, "--push", "-t", image); err != nil {
		return "", err
	}
	raw, err := exec.CommandContext(ctx, b.gobuild, "inspect", "--raw", "docker://"+image).Output()
	if err != nil {
		return "", fmt.Errorf("inspect %s: %w", image, err)
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(raw, &manifest); err != nil {
		return "", fmt.Errorf("inspect %s: %w", image, err)
	}
	if len(manifest.Layers) != 1 {
		return "", fmt.Errorf("%s has %d layers, not one", image, len(manifest.Layers))
	}
	return manifest.Layers[0].Digest.String(), b.drop("s11made", "s11made-root")
}
