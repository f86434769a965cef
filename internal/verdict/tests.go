package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// event is one line of go test -json (see "go doc test2json").
type event struct {
	Action      string
	Package     string
	ImportPath  string // of a build-output event
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

// id names a test as testdata/skips.txt does: the package without the module, then the test.
func (e event) id() string {
	pkg := strings.TrimPrefix(e.Package, "gobuild")
	return strings.TrimPrefix(pkg, "/") + "." + strings.ReplaceAll(e.Test, " ", "_")
}

// judge follows one run of go test.
type judge struct {
	out      io.Writer
	skips    map[string]string   // allowed, with the reason
	used     map[string]bool     // which of them were skipped
	output   map[string][]string // by test, until it ends; by import path for a build
	failedIn map[string]bool     // packages with a failed test
	loud     []string            // what is said again at the end
	tally
}

// judgeTests reads events until the end of in. Every test and subtest that ended counts once.
func judgeTests(skipsFile string, in io.Reader, out io.Writer) (tally, error) {
	skips, err := readList(skipsFile)
	if err != nil {
		return tally{}, err
	}
	j := &judge{out: out, skips: skips, used: map[string]bool{}, output: map[string][]string{}, failedIn: map[string]bool{}}
	sc := bufio.NewScanner(in)
	sc.Buffer(nil, 16<<20) // one line of output is one event
	for sc.Scan() {
		var e event
		if json.Unmarshal(sc.Bytes(), &e) != nil {
			fmt.Fprintln(out, sc.Text()) // go itself, outside the protocol
			continue
		}
		j.event(e)
	}
	if err := sc.Err(); err != nil {
		return tally{}, fmt.Errorf("read test events: %w", err)
	}
	return j.end()
}

func (j *judge) event(e event) {
	key := e.Package + " " + e.Test
	switch e.Action {
	case "output":
		j.output[key] = append(j.output[key], e.Output)
	case "build-output":
		j.output[e.ImportPath] = append(j.output[e.ImportPath], e.Output)
	case "pass", "fail", "skip":
		if e.Test == "" {
			j.packageEnd(e)
		} else {
			j.testEnd(e, j.output[key])
		}
		delete(j.output, key)
	}
}

func (j *judge) testEnd(e event, output []string) {
	switch e.Action {
	case "pass":
		j.passed++
	case "fail":
		j.failed++
		j.failedIn[e.Package] = true
		j.show("FAIL "+e.id(), output)
	case "skip":
		if _, ok := j.skips[e.id()]; ok {
			j.used[e.id()] = true
			j.skipped++
			return
		}
		j.failed++
		j.show("SKIPPED, which testdata/skips.txt does not allow: "+e.id(), output)
	}
}

// packageEnd prints one line for a package. A package can fail without a failed test: it did not build, its TestMain found
// something, or the process ended early; then the package itself counts.
func (j *judge) packageEnd(e event) {
	if e.Action == "skip" {
		return // no test files
	}
	word := "ok  "
	if e.Action == "fail" {
		word = "FAIL"
		if !j.failedIn[e.Package] {
			j.failed++
			j.show("FAIL "+e.Package, append(j.output[e.FailedBuild], j.output[e.Package+" "]...))
		}
	}
	fmt.Fprintf(j.out, "%s %s %.1fs\n", word, e.Package, e.Elapsed)
}

func (j *judge) show(head string, output []string) {
	j.loud = append(j.loud, head)
	fmt.Fprintf(j.out, "--- %s\n%s", head, strings.Join(output, ""))
}

func (j *judge) end() (tally, error) {
	if j.passed+j.failed == 0 {
		return tally{}, errors.New("no test ran")
	}
	for name := range j.skips {
		if !j.used[name] {
			fmt.Fprintf(j.out, "note: %s ran here, although the list allows it to be skipped\n", name)
		}
	}
	for _, l := range j.loud {
		fmt.Fprintln(j.out, l)
	}
	return j.tally, nil
}
