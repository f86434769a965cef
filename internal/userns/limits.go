package userns

// Bounds on what is read. The files are root's; newuidmap judges them by itself.
const (
	maxFile   = 4 << 20 // a line is some 30 bytes: more than a hundred thousand users
	maxRanges = 64      // the kernel takes 340 extents (user_namespaces(7)), and nobody has more than a few
	maxSaid   = 4 << 10 // of a helper's messages
)
