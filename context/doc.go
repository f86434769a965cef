// Package buildcontext reads the trees that COPY, ADD and bind mounts take
// files from: a build context on the host, filtered by an ignore file, or the
// file system of a stage.
//
// How it is used:
//
//	name, src, err := buildcontext.FindIgnore("Dockerfile", ".", "")
//	ignore, err := buildcontext.ParseIgnore(name, src)
//	tree, err := buildcontext.Open(".", buildcontext.Options{IgnoreFile: name, Ignore: ignore, StatCache: file})
//	defer tree.Close()
//	sel, err := tree.Select(ctx, buildcontext.Query{Paths: []string{"src/"}, FollowNamed: true})
//	sum, err := tree.Digest(ctx, sel, nil) // for the key of the step
//	err = tree.Walk(ctx, sel.Sources[0].Matches[0], nil, copyEntry)
//
// Tree.Survey visits what is ignored as well, with the rule that decides, for reports about the ignore file.
//
// What it promises. Nothing outside the tree is read, whatever its links say
// and whoever renames things meanwhile: named paths go through
// internal/rootfs, walks by descriptor without following links. Only regular
// files are opened. Only what is named is looked at, and only its metadata
// unless a file is new or changed since its digest was remembered. A digest
// depends on content and attributes, never on times, inode numbers or the
// place of the tree. A file that is written while it is read is ErrChanged. A
// walk holds some twenty descriptors and one directory's names per level.
// A Tree serves several goroutines. Several processes may share a stat cache
// file; one that dies leaves it as it was or complete.
//
// What it does not do: write the copies into a layer (builder, snapshot),
// apply --chown, --chmod and destinations (builder), fetch git, HTTP or tar
// contexts (they arrive here as directories), or refuse names that no layer
// can hold (layer).
package buildcontext
