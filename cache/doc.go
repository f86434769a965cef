// Package cache remembers what each step of a build produced.
//
// What: a [Key] is readable text that names everything a result depends on; the [Store] keeps one
// [Record] per key: a small JSON payload of the caller's (which snapshot, which layer, "no change").
//
// How:
//
//	key := cache.NewKey("run").Add("parent", id).Add("argv", argv...).Key()
//	if _, ok, err := store.Lookup(key, &result); err != nil || ok { … }
//	lock, err := store.Lock(ctx, key, nil) // another process may be running this very step
//	defer lock.Release()                   // look up again, run the step, and last of all:
//	err = store.Put(key, "stage/3 RUN", result)
//
// # Promises
//
// Different inputs give different keys: the text is injective (see [KeyBuilder.Add]), begins with a
// format version, and depends on nothing but the inputs. The name of a record is the SHA-256 of its key's
// text, and a hit requires that the text stored in the record is the text asked for.
//
// A record is seen whole or not at all: it appears by rename and carries a checksum over everything
// in it. A file that is torn, short, damaged, of another key or not a regular file is a miss and is
// removed. A record is not synced to the disk: after a power cut it may be missing or damaged, which
// is a miss; that what it names survived is for the owner of that thing to know (package snapshot
// and package store do).
//
// Any number of processes and goroutines use one store at once. There is no index to keep: the cost
// of Lookup, Put and Lock does not depend on how many records there are.
//
// Lock order: a key's lock is taken while no other key's lock is held, or in the order of the build
// graph, which has no cycles. No lock is held inside the package across a call-back, except by Walk's
// caller itself.
//
// # State on disk
//
// Below the directory given to Open, all of it private to the owner (mode 0700):
//
//	v1/records/ab/<sha256 of the key text, hex>   one record; ab are its first two digits
//	v1/slots/ab/<sha256 of the slot, hex>         digests of the last keys of a slot, newest last
//	v1/evicted                                    who removed which key when, newest last, for [Store.Evicted]
//	v1/keys                                       byte locks of the keys that processes hold, with their numbers
//
// A record is text. Nothing follows the payload's newline:
//
//	gobuild record 1
//	sum sha256:<hex of the SHA-256 of all that follows this line>
//	key sha256:<hex>
//	slot "stage/3 RUN"
//	created 2026-01-02T03:04:05.678Z
//	text <bytes>
//	gobuild key 1
//	kind run
//	parent sha256:…
//	argv /bin/sh -c "make install"
//	payload <bytes>
//	{"snapshot":"…"}
//
// The modification time of a record is the time of its last use, to the hour. A slot file is a list of
// lines "sha256:<hex>", appended to, cut when it grows; it serves [Store.Nearest] alone and may be
// removed. Another format of records gets another directory beside v1, so that an older and a newer
// gobuild leave each other's alone.
//
// # Not here
//
// What enters a key is decided by package builder; secrets must not, only their ids. Which records are
// trimmed is the builder's policy over [Store.Walk] and [Store.Delete]. Nothing here reads or removes
// snapshots, layers or blobs.
package cache
