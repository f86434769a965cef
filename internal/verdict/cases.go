package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// caseResult is one row that the runner of the conformance cases writes.
type caseResult struct {
	Case    string
	Verdict string     // passed, failed, skipped
	Why     [][]string // what differs: kind and text
}

func (r caseResult) why() string {
	var words []string
	for _, w := range r.Why {
		words = append(words, strings.Join(w, " "))
	}
	return strings.Join(words, "; ")
}

// judgeCases compares the results with the list of cases known not to pass. A case that was skipped proves nothing, so it counts
// as failed unless it is listed. The cases that rowsFile names must exist: docs/features.md names them as tests of its rows.
func judgeCases(listFile, rowsFile, resultsFile string, out io.Writer) (tally, error) {
	listed, err := readList(listFile)
	if err != nil {
		return tally{}, err
	}
	named, err := readList(rowsFile)
	if err != nil {
		return tally{}, err
	}
	data, err := os.ReadFile(resultsFile)
	if err != nil {
		return tally{}, err
	}
	var rows []caseResult
	if err := json.Unmarshal(data, &rows); err != nil {
		return tally{}, fmt.Errorf("read %s: %w", resultsFile, err)
	}
	if len(rows) == 0 {
		return tally{}, errors.New("no case ran")
	}
	var t tally
	for _, r := range rows {
		_, known := listed[r.Case]
		delete(listed, r.Case)
		delete(named, r.Case)
		switch {
		case r.Verdict == "passed" && known:
			t.failed++
			fmt.Fprintf(out, "PASSES NOW, so take it out of %s: %s\n", listFile, r.Case)
		case r.Verdict == "passed":
			t.passed++
		case known:
			t.skipped++
		default:
			t.failed++
			fmt.Fprintf(out, "%s %s: %s\n", strings.ToUpper(r.Verdict), r.Case, r.why())
		}
	}
	for name := range listed {
		t.failed++
		fmt.Fprintf(out, "NO SUCH CASE, so take it out of %s: %s\n", listFile, name)
	}
	for name := range named {
		t.failed++
		fmt.Fprintf(out, "NO SUCH CASE, so take it out of %s: %s\n", rowsFile, name)
	}
	return t, nil
}
