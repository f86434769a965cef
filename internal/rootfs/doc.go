// Package rootfs turns paths that come from Dockerfiles, images and archives
// into descriptors inside one directory tree, and nowhere else.
//
// What: a Root is a directory whose paths are resolved by the kernel as if the
// directory were "/" (openat2 RESOLVE_IN_ROOT): absolute links and ".." stay
// inside, and links through /proc ("magic links") are refused.
//
//	root, err := rootfs.Open(dir)
//	f, st, err := root.OpenRegular("etc/passwd")
//	dir, name, err := root.Parent("/app/bin/tool") // then unix.*at(dir.Fd(), name)
//
// Promise: whatever the tree holds, no call reads or changes anything outside
// it. Methods are safe for concurrent use. Where the kernel has no openat2, or
// a seccomp filter hides it, filepath-securejoin's walker does the same work.
//
// Not here: what to do with the descriptors. Callers change a tree by a parent
// descriptor and one plain name, never by a path.
package rootfs
