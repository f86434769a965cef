package image

const (
	// maxDocument bounds a manifest, an index or a configuration: what registries accept (4 MiB) twice over.
	maxDocument = 8 << 20
	// maxDepth bounds nesting of JSON; the deepest field that is read lies at 6.
	maxDepth = 64
	// maxValues bounds the JSON values of a document: three bytes of JSON can cost a
	// hundred in memory, and the largest honest index has 20,000 of them.
	maxValues = 200_000
	// maxIndexDepth bounds indexes within indexes: image, platform set, and one to spare.
	maxIndexDepth = 3
	// maxEntries bounds the manifests of an index and of one copy: 40 platforms with attestations are 80.
	maxEntries = 1000
	// maxLayoutTags bounds the entries of a layout's index.json, which lists unrelated images.
	maxLayoutTags = 10_000
	// maxLayers bounds the layers of an image. Docker stops at 127, overlay stacks at 500.
	maxLayers = 1000
	// maxBlob bounds the size that a descriptor may promise; registries stop at 100 GB or less.
	maxBlob = 1 << 40
	// maxGraph bounds the bytes of all manifests that one copy keeps in memory.
	maxGraph = 64 << 20
	// maxUnpacked bounds what one layer may decompress to when it is validated.
	maxUnpacked = 64 << 30
	// maxWindow bounds the memory that a zstd frame may ask for.
	maxWindow = 128 << 20
	// maxArchiveEntries bounds the entries of a layout archive: a directory of 100,000 blobs is a mistake.
	maxArchiveEntries = 100_000
	// defaultConcurrency is how many blobs a copy moves at once (FEATURES J10).
	defaultConcurrency = 4
	// copyBuffer is the unit in which blobs are copied.
	copyBuffer = 256 << 10
)
