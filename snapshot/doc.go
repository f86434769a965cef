// Package snapshot keeps root file systems as stacks of directories.
//
// What: a layer is a directory in overlay's form (whiteouts, opaque directories), named by an [ID] of
// the caller's choice and immutable once committed; a [Work] is a new, writable one above a stack; a
// view is the merged tree of a stack, opened as a [rootfs.Root].
//
// How:
//
//	release, err := store.Pin(stack...) // nobody removes them meanwhile
//	defer release()
//	work, err := store.New(stack)       // bottom first
//	defer work.Discard()                // nothing after Commit
//	root, err := work.Root()            // write through it; or work.Dirs() for a sandbox that mounts by itself
//	upper, err := work.Upper()          // the layer alone, to pack it
//	err = work.Commit(id)
//	store.Prepare()                     // another one will follow: New finds all made
//	err = store.Close()                 // removes what was made for layers in the making
//
// # Promises
//
// A layer is committed by one rename: others see all of it or nothing. Two commits of one id are fine;
// one stays. Views are detached mounts (fsopen, fsmount): they appear in no mount table and end with
// the last descriptor, also after SIGKILL. Work of a killed process is recognised by its lock
// being free, and swept. A pinned layer is not removed; pins go with their process, and one descriptor
// holds any number. Trees of any depth and modes are removed, by descriptors, following no link.
//
// No step waits for the disk, and yet a layer with missing bytes is never used: within the boot that
// wrote it, it is whole, for the page cache survives every death but the machine's; after another boot it
// counts only when [Store.Sync] had covered it, which notes "everything committed up to this moment of
// this boot is on the disk" durably after a syncfs. Layers that nobody vouches for are denied by [Store.Has],
// so their steps run again and Commit puts the new ones in their place. A file system that is shut down by
// force and mounted again *within* one boot is outside of this, unless Config.BootID tells the two apart.
//
// Layers that add nothing to the merged tree are in no mount, so a chain of steps that change no file costs each of them the same.
// Overlay refuses more than 500 layers, so stacks of more than 490 are folded: the lowest 400 are hard-linked into one
// directory, kept as a layer whose id is a hash of theirs.
//
// Store is safe for concurrent use by goroutines and processes; a Work belongs to one goroutine. Locks: a
// layer's pin byte is held exclusively for one rename only, and no other lock is taken meanwhile.
//
// # State on disk
//
// Below the directory given to Open, private to its owner (mode 0700):
//
//	layers/<id>/fs     the tree
//	layers/<id>/meta   which boot committed it, and when in that boot; with a checksum
//	layers/<id>/size   its disk blocks in bytes, once somebody asked
//	work/<random>/     a layer in the making; flock on the directory
//	work/<random>/     work directories of a process's overlays, by number; flock on the directory
//	synced             for each of the last boots: up to which moment all is on the disk; with a checksum
//	pins, synced.lock  locks; their content means nothing
//	empty/             the view of an empty stack
//
// # Not here
//
// What enters a layer is written by the caller, through the Root; whiteouts and tar files are package
// layer's; processes run in package sandbox, which mounts Dirs by itself. Which layers are trimmed is the
// builder's policy over List, Size and Remove. There is no driver for systems without overlay mounts yet:
// there New, Dirs and single-layer views work, merged views give [ErrNoOverlay].
package snapshot
