// Package treetest tells tests whether something got out of its place: the alarm around hostile inputs and faults.
//
// Plant makes a canary, a tree that nobody has business with; its Alarms are the reads and changes since. Settings is what the machine
// was told, by file, to be compared with Changed later. Traces finds processes that have a text in their mounts, environment or command
// line, and Holding finds files that hold a secret, in any of its usual forms and also inside of gzip.
//
// The alarm misses nothing that it can see: a read is seen by fanotify(7) whichever mount it goes through (in a user namespace, which has
// no fanotify, by the access time), a change that was undone by the change time. It says nothing of what other processes of the machine do elsewhere, so that tests may run at once. It is for tests alone.
package treetest
