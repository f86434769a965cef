package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"time"
)

// pushBound is what pushing an unchanged image may take, in milliseconds.
const pushBound = 50

// benchPush is S10: four layers that do not compress, to docker-registry on this machine. The floor is skopeo with the same blobs.
func benchPush(ctx context.Context, b *bench) ([]row, error) {
	mib := b.size(1024, 64)
	host, stop, err := b.registry(ctx, "s10registry")
	if err != nil {
		return nil, err
	}
	defer stop()
	if err := b.pushImage(ctx, mib); err != nil {
		return nil, err
	}
	root, layout := filepath.Join(b.dir, "root10"), filepath.Join(b.dir, "s10layout")
	push := func(repository string) side {
		return func(round int) (time.Duration, error) {
			return command(ctx, b.dir, b.gobuild, "--root", root, "copy", "-q", "store://bench/push:1", fmt.Sprintf("docker://%s/%s:%d", host, repository, round))
		}
	}
	fresh := func(name string, do func(repository string) side) side {
		return func(round int) (time.Duration, error) {
			// Without its blobs, or skopeo would remember which repository to take them from.
			if err := b.drop("s10registry/docker"); err != nil {
				return 0, err
			}
			return do(fmt.Sprintf("%s%d", name, round))(round)
		}
	}
	skopeo := func(repository string) side {
		return func(round int) (time.Duration, error) {
			return command(ctx, b.dir, "skopeo", "copy", "-q", "--insecure-policy", "--dest-tls-verify=false", "oci:"+layout+":1", fmt.Sprintf("docker://%s/%s:%d", host, repository, round))
		}
	}
	times, err := interleave(b.roundsOr(3), fresh("theirs", skopeo), fresh("ours", push))
	if err != nil {
		return nil, err
	}
	again, err := interleave(b.roundsOr(7), func(int) (time.Duration, error) { return push("again")(0) })
	if err != nil {
		return nil, err
	}
	second := row{ID: "S10", What: "push it again, unchanged", Unit: "ms", Gobuild: median(again[0]), Times: again[0], Bound: fmt.Sprintf("%d ms", pushBound)}
	second.OK = second.Gobuild <= pushBound
	return []row{compared("S10", fmt.Sprintf("push %d MiB to a registry; floor: skopeo", mib), times[0], times[1], 1.3), second}, b.drop("s10", "s10layout", "s10registry", "root10")
}

// pushImage builds the image, and brings it into a layout for skopeo.
func (b *bench) pushImage(ctx context.Context, mib int) error {
	dir, err := b.scratch("s10")
	if err != nil {
		return err
	}
	dockerfile, noise := "FROM scratch\n", rand.NewChaCha8([32]byte{10})
	for i := range 4 {
		name := fmt.Sprintf("part%d", i)
		data := make([]byte, mib<<20/4)
		_, _ = noise.Read(data) // never fails
		if err := writeFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
		dockerfile += "COPY " + name + " /\n"
	}
	if err := writeFile(filepath.Join(dir, "Dockerfile"), []byte(dockerfile), 0o644); err != nil {
		return err
	}
	if _, err := b.build(ctx, "root10", dir, "-t", "bench/push:1"); err != nil {
		return err
	}
	_, err = command(ctx, b.dir, b.gobuild, "--root", filepath.Join(b.dir, "root10"), "copy", "-q", "store://bench/push:1", "oci://"+filepath.Join(b.dir, "s10layout")+":1")
	return err
}

// registry starts docker-registry on a free port of the loopback interface, with its blobs below the scratch space.
func (b *bench) registry(ctx context.Context, name string) (host string, stop func(), err error) {
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	host = l.Addr().String()
	if err := l.Close(); err != nil {
		return "", nil, err
	}
	dir, err := b.scratch(name)
	if err != nil {
		return "", nil, err
	}
	file := filepath.Join(dir, "config.yml")
	conf := fmt.Sprintf("version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\nhttp: {addr: %s}\n", dir, host)
	if err := writeFile(file, []byte(conf), 0o600); err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, "docker-registry", "serve", file)
	if err := cmd.Start(); err != nil {
		return "", nil, fmt.Errorf("the packages docker-registry and skopeo are needed: %w", err)
	}
	stop = func() { _ = errors.Join(cmd.Process.Kill(), cmd.Wait()) }
	for range 500 {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
		if err == nil {
			return host, stop, conn.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	stop()
	return "", nil, fmt.Errorf("docker-registry does not answer at %s", host)
}
