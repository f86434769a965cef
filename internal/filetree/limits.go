package filetree

const (
	// maxPaths bounds what is kept: a path costs about 300 bytes, and the largest honest images have a million.
	maxPaths = 1_500_000
	// maxPath bounds a path, as the kernel does; it bounds the depth of the tree, too.
	maxPath = 4096
	// maxLayer bounds the unpacked bytes of a layer.
	maxLayer = 64 << 30
)
