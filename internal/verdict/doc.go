// Command verdict judges what a test run printed, so that a skipped test or a known failure is a decision that someone wrote
// down, never an accident.
//
//	go test -json ./... | go run ./internal/verdict tests testdata/skips.txt
//	go run ./internal/verdict cases testdata/cases-not-passing.txt testdata/cases-rows.txt bin/cases.json
//
// The first reads the events of go test, shows what failed, and fails on a failure and on every skip that the list does not
// allow. The second reads the results of the conformance cases and fails when a case outside the list fails, and when one
// inside it passes: the list can only shrink. It fails, too, when the list of the rows that cases are about names a case that did
// not run.
//
// Both end with "N passed, N failed" and a status of 0, or 1 when something failed, or 2 when the input makes no sense. With
// GOBUILD_CI_RESULTS set they append "NAME PASSED FAILED" to the file it names. Verdict runs no test itself: the Makefile does.
package main
