// Package acceptance holds whole builds with the real binary, as a user runs
// them: what a cached build touches, what a failed one leaves, and that digests
// depend on the inputs alone.
//
// Here is only what needs a process of its own (strace, limits, signals, a
// small file system); what can be said in a script is in cmd/build/testdata.
package acceptance
