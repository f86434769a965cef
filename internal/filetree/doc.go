// Package filetree keeps what the layers of one or two images say about their files, without the files.
//
//	t := filetree.New()
//	err := t.Apply(ctx, layerTar, filetree.Both, 0)   // a layer that both images share, plain tar
//	err = t.Apply(ctx, other, filetree.Second, 1)
//	t.Walk(func(path string, first, second *filetree.Entry) error { ... })
//	t.Wasted()                                        // bytes in layers that no file of the image needs
//
// Promises: layers are streamed, contents are only hashed; memory grows with the number of paths, which is bounded (limits.go), and
// not with their contents. Whiteouts hide what lower layers brought, never what their own layer brings (OCI image-spec layer.md).
// Names are data: nothing is resolved on any file system.
//
// It does not fetch or decompress layers (packages image, registry, layer), and does not follow symbolic links.
package filetree
