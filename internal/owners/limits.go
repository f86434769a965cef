package owners

// What one attribute, and the list of all names of attributes, have at most (xattr(7)); file systems have less.
const (
	maxRecord = 64 << 10
	maxNames  = 64 << 10
)
