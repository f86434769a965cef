// Package image turns a configuration and layers into the bytes of a manifest, moves
// images between places, and writes and reads them as files.
//
//	out, err := image.Assemble(image.Assembly{Image: cfg, Layers: layers, History: history})
//	err = image.Copy(ctx, store, repository, out.Manifest, image.CopyOptions{})
//	err = image.WriteOCITar(ctx, file, store, out.Manifest, names, nil)
//	layout, err := image.OpenLayout("base.tar")
//
// Promises: the same Assembly gives the same bytes, on any machine and in
// any version (a change of the bytes is a decision record). A document from outside is
// parsed only when it is of the kind its descriptor says, within the bounds of limits.go, and means the
// same to every reader: keys are exact and unique, and nothing follows it. Copy sends a
// manifest after all that it refers to, so that a reader never sees a dangling one.
// Archives hold the same bytes for the same image. Functions may be called concurrently.
//
// It does not make layers (package layer), decide a configuration (package stages), or
// know how blobs are stored (package store) or sent (package registry): those meet it in the
// interfaces Fetcher and Pusher.
package image
