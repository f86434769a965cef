// Package owners keeps who a file of an image belongs to where the kernel cannot: in a user namespace with one id, every file is
// that id's. Then the owner is recorded beside the file, in an attribute, as root would have set it.
//
//	k := owners.Recorded()                    // the zero Keeper is the kernel itself
//	err := k.Set(fd, 1000, 1000)              // instead of fchown(2)
//	err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW)
//	err = k.FixAt(dir, name, &st)             // st has the recorded owner
//
// A file without a record belongs to root. Links and special files take no attributes of users (xattr(7)), so the directory that
// holds them has their records, by name.
//
// Attributes that begin with Prefix are in no layer, and are taken from none. A Keeper has no state; records of one directory are
// written by one goroutine at a time. Modes are the caller's: chown(2) takes set-id bits away, a record does not.
package owners
