// Command bench measures whole builds against what the machine needs for the same bytes with the best plain tool: the floor.
//
//	go run ./bench -gobuild bin/gobuild            # all workloads, a table, and bench/out.json
//	go run ./bench -gobuild bin/gobuild -quick     # small sizes: does it work, not how fast is it
//	go run ./bench -gobuild bin/gobuild -only S3,S4 -rounds 5
//
// Floor and gobuild take turns in one run, and medians are compared, so a ratio means the same on a slow or a busy machine.
// Absolute times are for reading. Inputs are generated, the same on every run, in a temporary directory that is removed.
//
//	S1   10 steps, 200 files, all cached           floor: gobuild version
//	S3   50 x RUN true, nothing cached             floor: 50 x new namespaces + overlay mount + pivot_root + exec, in this process;
//	                                               with limits, with a network of their own, and against runc, where it is installed
//	S4   COPY of 30,000 small files, gzip archive  floor: tar | pigz
//	S6   a layer of 1 GiB, gzip and zstd           floor: tar | pigz -6, tar | zstd -T2 -3; bytes are compared as well
//	S10  a push of 1 GiB to docker-registry        floor: skopeo; and again: 50 ms
//	S11  a base of 25,000 files, pulled, unpacked  floor: curl | pigz -d | tar -x
//	S13  a layer of 4 GiB; 100,000 files           bound: peak resident memory of gobuild
//
// It needs root, tar, curl, pigz, zstd, docker-registry, skopeo and a static busybox. It judges nothing unless -strict is given: then a missed bound is status 1.
package main
