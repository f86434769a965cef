package buildcontext

// Bounds on what comes from outside. A tree is untrusted: it may be made to
// cost memory, time or descriptors.
const (
	// An ignore file is read whole. 100,000 patterns of 80 bytes are 8 MB.
	maxIgnoreBytes    = 16 << 20
	maxIgnorePatterns = 200_000
	// Matching costs path length times pattern length; no path that a pattern could mean is longer.
	maxPatternBytes = 4096
	// Each wildcard of a pattern is a state of its automaton, tried at each byte of a path.
	maxPatternWildcards = 256

	// One descriptor per level is kept open near the bottom of the walk; deeper ancestors are
	// found again by "..". With 256 descriptors in all (ulimit -n 256) several walks fit.
	maxOpenDirs = 16
	// A path of the walk, longer than PATH_MAX on purpose: 3,000 levels are legal. Each entry is given its path, so
	// the cost of a chain of directories grows with its square.
	maxPathBytes = 1 << 20
	// Links followed to resolve one named path, the kernel's own limit (path_resolution(7)).
	maxLinks = 40

	// A file above this is a sparse file made to keep the hash busy for hours: hashing 1 TiB takes 10 minutes.
	maxFileBytes = 1 << 40
	// Matches of one query are held in memory, about 250 bytes each.
	maxMatches = 1 << 20
	// Names of one directory are held in memory, about 30 bytes each.
	maxDirBytes = 512 << 20

	// Extended attributes of one entry: the kernel's XATTR_LIST_MAX and XATTR_SIZE_MAX (limits.h).
	maxXattrList  = 64 << 10
	maxXattrValue = 64 << 10

	// Files hashed at once; the disk and two cores are busy with that.
	hashWorkers = 3
	// Entries that wait for an earlier file's hash, about 300 bytes each.
	maxPending = 2048
	// Digests kept for --explain, about 200 bytes each.
	maxFileDigests = 10_000

	// Names tried for "did you mean" in the directory of a missing path.
	maxNearScan = 10_000
	maxNear     = 3

	// Notices about one tree; more of them tell a user nothing.
	maxNotices = 100

	// 52 bytes an entry: the cache file stays under 55 MB, and is read whole.
	maxStatEntries = 1 << 20
)
