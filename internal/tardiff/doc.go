// Package tardiff says how two layer archives differ, file by file and attribute by attribute.
//
//	diff, err := tardiff.Compare(ctx, old, new)   // both plain tar, of different digests
//	for _, c := range diff.Changes {              // by path
//		fmt.Println(c.Path, c.Kind, c.Attrs)      // /etc/motd changed [{mtime ... ...}]
//	}
//
// Promises: both are streamed, and entries that both have at the same place are forgotten at once, so memory grows with what is in
// another order, which is bounded (limits.go), as are lengths. Names are data: nothing is resolved on any file system. Two archives
// with different bytes never look the same: what no entry explains is told as the form or the order of the entries.
//
// It does not decompress, and does not know whiteouts: here they are files like others.
package tardiff
