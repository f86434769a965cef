package snapshot

// Overlay takes 500 lower directories (fs/overlayfs/params.h, OVL_MAX_STACK), of which ten are left to who mounts
// Dirs with directories of his own. Of a taller stack the lowest layers are folded: linked together into one directory, which is kept under an id made of theirs. The
// chunk is a constant so that a stack that grows step by step keeps finding the same fold.
const (
	maxLower  = 490
	foldChunk = 400
)

const (
	// maxOpenDepth is how many nested directories removal holds open. What lies deeper is moved up first,
	// so that a tree of any depth needs this many descriptors and no long paths.
	maxOpenDepth = 32
	// nameBatch is how many names of a directory are in memory at a time.
	nameBatch = 1024
	// maxXattr bounds the list of attribute names and each value; the kernel's own limit is 64 KiB (xattr(7)).
	maxXattr = 64 << 10
	// maxNames bounds the attempts at a new name. Names are random and do not collide, but a Sweep may take a
	// directory in the moment before it is locked, and some may sweep in a loop.
	maxNames = 100
	// maxDone is how many work directories, of a few inodes each, may wait to be removed.
	maxDone = 256
	// maxLog bounds what is read of a mount context's log; the kernel keeps 8 messages.
	maxLog = 16
)

const (
	// maxMeta bounds a meta file, which has 200 bytes.
	maxMeta = 1 << 10
	// maxSynced bounds the synced file: maxBoots lines of at most 128 bytes.
	maxSynced = 64 << 10
	// maxBoots is how many boots the synced file remembers. A layer from an older one is built again.
	maxBoots = 400
	// maxBootID keeps a line of the synced file within its bound.
	maxBootID = 80
)
