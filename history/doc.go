// Package history keeps one record of each build: what was asked for, what each step was and why it
// ran, what came out, and everything the steps printed.
//
// How:
//
//	store := history.Open(dir, time.Now)
//	id := store.NewID()
//	log := store.Log(id)                 // no file before the first byte
//	log.Write(history.Chunk{...})        // what a step printed
//	err := errors.Join(log.Close(), store.Put(history.Record{ID: id, ...}))
//	rec, err := store.Get("^1")          // an id, enough of its beginning, or the one before the last
//
// # Promises
//
// A record is seen whole or not at all: it appears by rename. It is not synced: after a power cut the last
// ones may be missing, and a torn one is passed over. Any number of processes write at once. Putting a
// record removes what is over the bounds: the last hundred builds stay, for thirty days. What a build
// costs by being recorded is one small file, however much there is already.
//
// # State on disk
//
// Below the directory, private to the owner (mode 0700), made with the first record:
//
//	20260102-030405.678-1a2b3c4d.json   the record; the name sorts by time
//	20260102-030405.678-1a2b3c4d.log    what its steps printed, see Log
//
// # Not here
//
// What goes into a record, and what must not because it is secret, is decided by those who fill it.
package history
