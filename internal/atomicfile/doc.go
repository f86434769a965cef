// Package atomicfile writes files that are seen whole or not at all.
//
// What: [Write] and [WriteFunc] put bytes under a name by way of a temporary file in the same
// directory and a rename; [Mkdir] makes a private directory whatever the umask; [Sweep] removes
// the temporary files of writers that died.
//
// How:
//
//	err := atomicfile.Write("/state/index.json", data, atomicfile.Options{Durable: true})
//
// Promise: a reader of the name sees the former content or the new one, never a part; an error
// leaves the former content and no temporary file; a writer killed at any moment leaves at most
// one temporary file, which it held by flock and which the next Sweep of the directory therefore
// knows to be dead. With Options.Durable the content and then the name are on the disk when the
// call returns. A failed fsync or close is final: the file is dropped and fsync is not tried
// again, because the kernel may have thrown the dirty pages away already.
//
// Not: content is not verified on reading (records carry their own checksum), and without
// Durable a power cut may leave a name with an empty or partial file behind.
package atomicfile
