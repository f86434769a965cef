package builder

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"gobuild/cache"
	"gobuild/internal/atomicfile"
	"gobuild/internal/owners"
	"gobuild/internal/rootfs"
	"gobuild/sandbox"
	"gobuild/snapshot"
)

// keeper is how the owners of files in the state directory are kept.
func (c *Config) keeper() owners.Keeper {
	if c.RecordOwners {
		return owners.Recorded()
	}
	return owners.Keeper{}
}

// openTree opens a directory of files with owners in the state directory.
func (b *Builder) openTree(dir string) (*rootfs.Root, error) {
	root, err := rootfs.Open(dir)
	if err != nil {
		return nil, err
	}
	return root.WithOwners(b.cfg.keeper()), nil
}

// ownersName is the file of a state directory whose files have recorded owners. Its layers mean nothing to a gobuild that asks the
// kernel, and the other way round.
const ownersName = "owners"

// checkOwners refuses a state directory whose files have owners of the other kind. It marks a new one.
func (c *Config) checkOwners() error {
	if c.AnyOwners {
		return nil
	}
	name := filepath.Join(c.Root, ownersName)
	_, err := os.Lstat(name)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	marked := err == nil
	switch {
	case marked == c.RecordOwners:
		return nil
	case marked:
		return &hinted{
			err:  errors.New("it was made in a user namespace with one id, and has the owners of files as records"),
			hint: "name another state directory with --root, or remove this one: rm -r " + c.Root,
		}
	}
	if _, err := os.Lstat(filepath.Join(c.Root, "snapshots")); !errors.Is(err, os.ErrNotExist) {
		return &hinted{
			err:  errors.New("its files belong to several ids, and this user namespace has one"),
			hint: "name another state directory with --root",
		}
	}
	return atomicfile.Write(name, []byte("recorded\n"), atomicfile.Options{Mode: 0o600, Durable: true})
}

// addOwners tells steps that may see other owners from those that see the kernel's.
func (c *Config) addOwners(k *cache.KeyBuilder) {
	if c.RecordOwners {
		k.Add("owners", "recorded")
	}
}

// claim records whom the new files of a step belong to.
func (sr *stageRun) claim(work *snapshot.Work, res *sandbox.Result) error {
	if err := work.Claim(owners.Owner{UID: res.UID, GID: res.GID}); err != nil {
		return fmt.Errorf("step's files: %w", err)
	}
	return nil
}
