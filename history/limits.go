package history

import "time"

const (
	// maxRecords and maxAge bound what is kept (FEATURES P1).
	maxRecords = 100
	maxAge     = 30 * 24 * time.Hour
	// maxRecord bounds the file of one record; a thousand steps with twenty causes each are a few megabytes.
	maxRecord = 16 << 20
	// MaxText bounds the text of a Dockerfile that a record keeps; those of people are a hundredth of it.
	MaxText = 1 << 20
	// maxLog bounds what is kept of a build's output. A step that prints without end must not fill the disk.
	maxLog = 256 << 20
	// maxChunk bounds one piece of a log that is read; writers hand over lines of at most 64 KiB, or a few of them.
	maxChunk = 16 << 20
	// maxHead bounds the line before a chunk.
	maxHead = 256
)
