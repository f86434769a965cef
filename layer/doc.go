// Package layer turns directory trees into layer tars and back.
//
// What: Pack writes what an upper directory changed against its lower tree as
// an OCI layer; Unpack applies a layer to a tree; Extract unpacks an ADD
// archive; Export writes a whole tree as a tar; Recompress and Decompress deal
// with blobs alone.
//
//	p, err := layer.Pack(ctx, file, upper, lower, layer.PackOptions{})
//	// p.Digest and p.Size describe the blob, p.DiffID its tar
//	diffID, err := layer.Unpack(ctx, blob, root, layer.UnpackOptions{})
//	ok, err := layer.IsArchive(file)
//	err = layer.Extract(ctx, file, root, "/opt/app", layer.ExtractOptions{})
//
// Promise: the bytes of a layer depend on the trees and the options alone, not
// on cores, clock, order on disk or umask. Memory and descriptors are bounded
// whatever the layer: contents are streamed, what is kept grows with the names
// of the directories on one path (packing) or with 8 to 22 bytes for an entry
// (unpacking over lower layers). Nothing outside the given roots is read or
// written: trees are walked one plain name at a time and no link is followed by
// the kernel, whatever an archive holds. Functions are safe to call at the same
// time on different trees; goroutines end before a function returns.
//
// Bounds on what an archive may ask for are in limits.go, with their reasons.
//
// Not here: digests are computed, not compared (callers know what they expect);
// nothing is synced to disk and no file is published (store and snapshot do);
// mounts are made by snapshot. A tree that is half written after an error is
// the caller's to drop.
package layer
