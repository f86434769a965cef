package cache

import "time"

const (
	// maxKeyText bounds the text of one key, from a record or imported. A step's keys are kilobytes; the
	// longest honest ones hold the 1 MiB environment that Dockerfiles are bounded to, or a list of file names.
	maxKeyText = 8 << 20
	// maxRecord bounds a record file: the text, and a payload that lists layers or files.
	maxRecord = 32 << 20
	// maxSlotText bounds the slot, which is a label.
	maxSlotText = 4 << 10
	// recentKeys is how many former keys of a slot Nearest compares with. More would seldom explain better.
	recentKeys = 8
	// maxNearest leaves records out of the comparison whose reading would be felt.
	maxNearest = 1 << 20
	// slotBytes is the size at which a slot file is cut to its last recentKeys lines.
	slotBytes = 4 << 10
	// evictedBytes is the size at which the list of what was removed is cut to its newer half: ten thousand records.
	evictedBytes = 1 << 20
	// lastUseGrain is how stale the recorded time of last use may be: a hit then rarely writes.
	lastUseGrain = time.Hour
)
