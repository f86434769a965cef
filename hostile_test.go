package houserules

import (
	"bytes"
	"fmt"
	"go/ast"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

//go:generate go test . -run TestHostileDocument -update

const (
	hostileList     = "testdata/hostile.txt"
	hostileDocument = "docs/hostile.md"
	hostileInputs   = 81
	hostileRules    = 31
)

var (
	hostileLine    = regexp.MustCompile(`^([HR][0-9][0-9]) \| (\S[^|]*?) \|(?: (\S[^|]*))?$`)
	hostileTest    = regexp.MustCompile(`^TestHostile((?:[HR][0-9]{2})+)_`)
	hostileNumber  = regexp.MustCompile(`[HR][0-9]{2}`)
	hostileSubtest = regexp.MustCompile(`^([HR])-([0-9]{2}) `)
)

const hostileHead = `# Hostile inputs

What others may hand to gobuild, or do inside of a step, and the tests that do it: none of it may read or change anything outside, stay behind, or cost more
than its bound. The second part has the rules that code keeps for that. ` + "`SECURITY.md`" + ` says what counts as a hole, [faults.md](faults.md) what goes wrong
without anyone's will.

Made by ` + "`make generate`" + ` from ` + "`testdata/hostile.txt`" + ` and the tests.
`

// TestHostileDocument wants each row to have a test or a reason why it has none, and docs/hostile.md to say so. -update rewrites it.
func TestHostileDocument(t *testing.T) {
	t.Parallel()
	proofs := findHostileProofs(t)
	var b bytes.Buffer
	b.WriteString(hostileHead)
	var rows []string
	for _, line := range readLines(t, hostileList) {
		if !strings.Contains(line, "|") {
			fmt.Fprintf(&b, "\n## %s\n\n| row | what | shown by |\n|-|-|-|\n", line)
			continue
		}
		m := hostileLine.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("%s: no row: %s", hostileList, line)
		}
		rows = append(rows, m[1])
		fmt.Fprintf(&b, "| %s | %s | %s |\n", m[1], m[2], proofs.shown(t, m[1], m[3]))
	}
	if want := hostileRows(); !slices.Equal(rows, want) {
		t.Errorf("%s has the rows %v, want %v", hostileList, rows, want)
	}
	for row := range proofs.byRow {
		if !slices.Contains(rows, row) {
			t.Errorf("%v name the row %s, which %s does not have", slices.Sorted(maps.Keys(proofs.byRow[row])), row, hostileList)
		}
	}
	if *update {
		if err := os.WriteFile(hostileDocument, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, err := os.ReadFile(hostileDocument); err != nil || !bytes.Equal(got, b.Bytes()) {
		t.Errorf("%s is out of date: make generate (%v)", hostileDocument, err)
	}
}

func hostileRows() []string {
	var rows []string
	for i := range hostileInputs {
		rows = append(rows, fmt.Sprintf("H%02d", i+1))
	}
	for i := range hostileRules {
		rows = append(rows, fmt.Sprintf("R%02d", i+1))
	}
	return rows
}

// hostileProofs are the tests by name, each with its file, and those that show a row.
type hostileProofs struct {
	files map[string]string
	byRow map[string]map[string]bool
}

func (p *hostileProofs) add(row, name string) {
	if p.byRow[row] == nil {
		p.byRow[row] = map[string]bool{}
	}
	p.byRow[row][name] = true
}

// shown is the last column of a row: links to its tests, or why there is none.
func (p *hostileProofs) shown(t *testing.T, row, also string) string {
	t.Helper()
	reason, untested := strings.CutPrefix(also, "none: ")
	switch {
	case untested && len(p.byRow[row]) > 0:
		t.Errorf("%s: %v test the row %s: take out the reason", hostileList, slices.Sorted(maps.Keys(p.byRow[row])), row)
		return ""
	case untested:
		return "no test: " + reason
	}
	for _, name := range strings.Fields(also) {
		if p.files[name] == "" {
			t.Errorf("%s: row %s names %s, which does not exist", hostileList, row, name)
		}
		if p.byRow[row][name] {
			t.Errorf("%s: row %s names %s, which names the row itself", hostileList, row, name)
		}
		p.add(row, name)
	}
	if len(p.byRow[row]) == 0 {
		t.Errorf("%s: no test of the row %s: write TestHostile%s_..., or say \"none: reason\"", hostileList, row, row)
	}
	var words []string
	for _, name := range slices.Sorted(maps.Keys(p.byRow[row])) {
		words = append(words, fmt.Sprintf("[%s](../%s)", name, p.files[name]))
	}
	return strings.Join(words, ", ")
}

// findHostileProofs reads the names of tests, the names in their tables, and the lines "hostile: H22 R01" above them and in scripts.
func findHostileProofs(t *testing.T) *hostileProofs {
	t.Helper()
	p := &hostileProofs{files: map[string]string{}, byRow: map[string]map[string]bool{}}
	for _, s := range sources(t) {
		if !s.test {
			continue
		}
		for _, decl := range s.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if ok && fn.Recv == nil && fn.Body != nil && strings.HasPrefix(fn.Name.Name, "Test") {
				p.goTest(fn, s.path)
			}
		}
	}
	scripts, err := filepath.Glob(scriptFolder + "/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range scripts {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		test := strings.TrimSuffix(path.Base(name), ".txtar")
		p.files[test] = filepath.ToSlash(name)
		for line := range strings.Lines(string(data)) {
			p.marked(test, strings.TrimPrefix(line, "# "))
		}
	}
	return p
}

func (p *hostileProofs) goTest(fn *ast.FuncDecl, file string) {
	name := fn.Name.Name
	p.files[name] = file
	if m := hostileTest.FindStringSubmatch(name); m != nil {
		for _, row := range hostileNumber.FindAllString(m[1], -1) {
			p.add(row, name)
		}
	}
	for _, text := range subtests(fn) {
		if m := hostileSubtest.FindStringSubmatch(text); m != nil {
			p.add(m[1]+m[2], name)
		}
	}
	for line := range strings.Lines(fn.Doc.Text()) {
		p.marked(name, line)
	}
}

// marked reads a line "hostile: H22 R01".
func (p *hostileProofs) marked(test, line string) {
	rows, ok := strings.CutPrefix(strings.TrimSpace(line), "hostile:")
	if !ok {
		return
	}
	for _, row := range strings.Fields(rows) {
		p.add(row, test)
	}
}
