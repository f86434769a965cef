// Package testexec writes programs that tests then execute.
//
// It takes a path and the bytes, and gives a file that can be executed at once, also while other tests of the process start
// children. It is for tests alone.
package testexec
