// Package passwd turns the user of a USER instruction or a --chown flag into numbers, by the /etc/passwd and /etc/group of
// a root file system that is not trusted.
//
// Use Lookup for the identity of a process and Owner for the owner of files:
//
//	u, err := passwd.Lookup(root, "www-data:staff")
//	uid, gid, err := passwd.Owner(root, "1000")
//
// Both read regular files only, links resolved inside the root, at most 10 MiB of each, line by line. A spec that is written
// as a number is a number: it is never looked up as a name, and one that is out of range is an error, not user 0. An entry
// whose own numbers are malformed is an error when it is the one asked for.
//
// The package keeps no state and caches nothing; it is safe for concurrent use. It does not look at the machine's own user
// database, and it does not change credentials: package sandbox does.
package passwd
