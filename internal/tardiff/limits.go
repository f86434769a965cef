package tardiff

const (
	// maxPending bounds the entries that only one archive has had so far: they are kept until the other has them, at some 500 bytes.
	maxPending = 1_000_000
	// maxChanges bounds what is told; who reads a thousand changes needs the rest no more than their number.
	maxChanges = 1000
	// maxArchive bounds the bytes of one archive, as for everything that reads layers.
	maxArchive = 64 << 30
	// maxValue bounds an attribute's text that is told, of which extended attributes have up to 64 KiB.
	maxValue = 200
)
