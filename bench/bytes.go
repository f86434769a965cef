package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// benchSmallFiles is S4.
func benchSmallFiles(ctx context.Context, b *bench) ([]row, error) {
	n := b.size(30_000, 3_000)
	dir, err := b.copyContext("s4")
	if err != nil {
		return nil, err
	}
	m, err := newMaterial(ctx)
	if err != nil {
		return nil, err
	}
	if err := m.smallFiles(filepath.Join(dir, "files"), n); err != nil {
		return nil, err
	}
	times, _, err := b.against(ctx, "s4", b.roundsOr(5), "tar -cf - . | pigz", "gzip")
	if err != nil {
		return nil, err
	}
	r := compared("S4", fmt.Sprintf("COPY %d files, gzip archive", n), times[0], times[1], 1.25)
	return []row{r}, b.drop("s4")
}

// benchBigLayer is S6: the times, and the bytes of the gzip archives.
func benchBigLayer(ctx context.Context, b *bench) ([]row, error) {
	mib := b.size(1024, 64)
	dir, err := b.copyContext("s6")
	if err != nil {
		return nil, err
	}
	m, err := newMaterial(ctx)
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(filepath.Join(dir, "files"), 0o755); err != nil {
		return nil, err
	}
	if err := m.bigFile(filepath.Join(dir, "files", "big"), int64(mib)<<20); err != nil {
		return nil, err
	}
	var rows []row
	for _, c := range []struct {
		name, floor string
		factor      float64
		bytes       float64 // bound of the archive's size against the floor's; 0: not bounded
	}{
		{"gzip", "tar -cf - . | pigz -6", 0.7, 1.05},
		{"zstd", "tar -cf - . | zstd -q -T2 -3", 1.15, 0},
	} {
		times, sizes, err := b.against(ctx, "s6", b.roundsOr(3), c.floor, c.name)
		if err != nil {
			return nil, err
		}
		rows = append(rows, compared("S6", fmt.Sprintf("%d MiB layer, %s", mib, c.name), times[0], times[1], c.factor))
		size := row{ID: "S6", What: c.name + " archive", Unit: "MiB", Floor: sizes[0], Gobuild: sizes[1], Ratio: sizes[1] / sizes[0]}
		size.Bound, size.OK = "-", true
		if c.bytes > 0 {
			size.Bound, size.OK = fmt.Sprintf("%.2f x", c.bytes), size.Ratio <= c.bytes
		}
		rows = append(rows, size)
	}
	return rows, b.drop("s6")
}

// copyContext makes a context whose Dockerfile copies the folder "files" into an empty image.
func (b *bench) copyContext(name string) (string, error) {
	dir, err := b.scratch(name)
	if err != nil {
		return "", err
	}
	return dir, writeFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY files /\n"), 0o644)
}

// against measures the pipeline and a cold gobuild of the same files into an OCI archive. It returns both times by round, and both
// sizes in MiB. Each build has a state directory of its own: nothing of an earlier round may help. They are removed at the end, not
// between rounds: ext4 does not use inodes again that were freed in the last minutes, and looks at each of them before it takes
// another, so that making files right after removing as many takes ten times as long.
func (b *bench) against(ctx context.Context, name string, rounds int, pipeline, compression string) (times [][]float64, sizes [2]float64, err error) {
	dir := filepath.Join(b.dir, name)
	floorFile, archive := filepath.Join(b.dir, name+".floor"), filepath.Join(b.dir, name+".tar")
	var roots []string
	defer func() { err = errors.Join(err, b.drop(roots...)) }()
	times, err = interleave(rounds,
		func(int) (time.Duration, error) {
			return shell(ctx, filepath.Join(dir, "files"), pipeline+" > "+floorFile)
		},
		func(int) (time.Duration, error) {
			if err := b.drop(name + ".tar"); err != nil {
				return 0, err
			}
			root := fmt.Sprintf("%s-root%d", name, len(roots))
			roots = append(roots, root)
			return b.build(ctx, root, dir, "--progress=plain", "-o", "type=oci,dest="+archive+",compression="+compression)
		})
	if err != nil {
		return nil, [2]float64{}, err
	}
	floor, err1 := os.Stat(floorFile)
	ours, err2 := os.Stat(archive)
	if err := errors.Join(err1, err2); err != nil {
		return nil, [2]float64{}, err
	}
	sizes = [2]float64{float64(floor.Size()) / (1 << 20), float64(ours.Size()) / (1 << 20)}
	return times, sizes, b.drop(name+".tar", name+".floor")
}

// memoryBound is the most resident memory that gobuild may use, in MiB, whatever the size of a layer.
const memoryBound = 256

// benchMemory is S13.
func benchMemory(ctx context.Context, b *bench) ([]row, error) {
	mib, files := b.size(4096, 256), b.size(100_000, 10_000)
	m, err := newMaterial(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := b.copyContext("s13a")
	if err != nil {
		return nil, err
	}
	if err := os.Mkdir(filepath.Join(dir, "files"), 0o755); err != nil {
		return nil, err
	}
	if err := m.bigFile(filepath.Join(dir, "files", "big"), int64(mib)<<20); err != nil {
		return nil, err
	}
	big, err := b.peakRow(ctx, "s13a", fmt.Sprintf("peak memory, %d MiB layer", mib))
	if err != nil {
		return nil, err
	}
	if dir, err = b.copyContext("s13b"); err != nil {
		return nil, err
	}
	if err := m.smallFiles(filepath.Join(dir, "files"), files); err != nil {
		return nil, err
	}
	many, err := b.peakRow(ctx, "s13b", fmt.Sprintf("peak memory, %d files", files))
	return []row{big, many}, err
}

// peakRow builds the context of that name into an archive and drops everything of it again.
func (b *bench) peakRow(ctx context.Context, name, what string) (row, error) {
	argv := b.buildArgs(name+"-root", filepath.Join(b.dir, name), "-o", "type=oci,dest="+filepath.Join(b.dir, name+".tar"))
	size, err := b.peak(ctx, argv...)
	if err != nil {
		return row{}, err
	}
	mib := float64(size) / (1 << 20)
	r := row{ID: "S13", What: what, Unit: "MiB", Gobuild: mib, Times: []float64{mib}, Bound: fmt.Sprintf("%d MiB", memoryBound), OK: mib <= memoryBound}
	return r, b.drop(name, name+"-root", name+".tar")
}
