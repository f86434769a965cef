// Package store keeps blobs and tags in an OCI image layout directory
// (image-spec v1.1, image-layout.md), which other tools can read as it is.
//
// A blob is written to a temporary file, checked against the digest and size
// that were promised, and appears under its digest by rename:
//
//	s, err := store.Open(dir)
//	err = s.Put(ctx, desc, body)              // verified while it streams
//	b, err := s.ReadAll(desc.Digest, 8<<20)   // verified again on first use
//	err = s.Tag("docker.io/library/app:1", desc)
//	desc, err = s.Resolve("docker.io/library/app:1")
//
// A blob that is long in coming can be read meanwhile (PutWatched); such a reader learns at the end whether it was the right one.
//
// Promises: a blob's content matches its digest, or reading it is an error; a
// damaged blob found on reading is removed, so that the next build fetches or
// makes it again. After Commit returns, the blob survives power loss. Any number of
// processes may use one store: blobs are immutable, and index.json is changed
// under a file lock and replaced as a whole. A process that dies leaves at most a
// file below ingest/, which Sweep removes. All methods may be called concurrently.
//
// It does not decide what is still needed (package builder does, before Remove), it
// does not understand manifests (package image does), and it never reads
// the network (package registry does).
package store
