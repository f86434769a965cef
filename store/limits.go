package store

const (
	// maxIndex bounds index.json: a hundred thousand tags need about 40 MB.
	maxIndex = 64 << 20
	// maxLayoutFile bounds the oci-layout file, which holds one version number.
	maxLayoutFile = 4 << 10
	// maxName bounds a tag's full name: 255 of host and path, 128 of tag and a digest fit well.
	maxName = 1024
	// copyBuffer is the unit in which blobs are read and hashed; larger ones measure no faster.
	copyBuffer = 256 << 10
	// walkBatch is how many blobs a walk lists at a time: a store may hold millions.
	walkBatch = 1024
	// tempAttempts bounds the tries for a temporary file: the first makes the directory, a rare one meets a sweep.
	tempAttempts = 8
)
