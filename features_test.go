package houserules

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

//go:generate go test . -run TestFeaturesDocument -update

var update = flag.Bool("update", false, "rewrite docs/features.md")

const (
	featureList     = "testdata/features.txt"
	featureCases    = "testdata/cases-rows.txt"
	featureDocument = "docs/features.md"
	scriptFolder    = "cmd/build/testdata/script"
)

// feature is one row of testdata/features.txt.
type feature struct {
	row, state, text string
}

// section is a letter of the list with its rows.
type section struct {
	title string
	rows  []feature
}

// proof is what shows a row: the tests of one file, or a script, or conformance cases.
type proof struct {
	file  string // from the root; "" for conformance cases
	tests []string
}

// TestFeaturesDocument holds docs/features.md against the list of rows and the tests that name them. -update rewrites it.
func TestFeaturesDocument(t *testing.T) {
	t.Parallel()
	sections := readFeatures(t)
	proofs := findProofs(t, sections)
	want := featuresPage(t, sections, proofs)
	if *update {
		if err := os.WriteFile(featureDocument, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(featureDocument)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is out of date: make generate (or: go generate .)", featureDocument)
	}
}

var (
	featureSection = regexp.MustCompile(`^([A-P]) (\S.*)$`)
	featureRow     = regexp.MustCompile(`^([A-P][1-9][0-9]*) \| ((?:done|partly: [^|]+?|no: [^|]+?)(?: \(no test names it\))?) \| (\S[^|]*)$`)
)

// readFeatures reads the list: rows belong to the section above them, and their numbers grow.
func readFeatures(t *testing.T) []section {
	t.Helper()
	var list []section
	last := 0
	for i, line := range readLines(t, featureList) {
		if m := featureSection.FindStringSubmatch(line); m != nil {
			list = append(list, section{title: line})
			last = 0
			continue
		}
		m := featureRow.FindStringSubmatch(line)
		if m == nil || len(list) == 0 || m[1][0] != list[len(list)-1].title[0] {
			t.Fatalf("%s: entry %d is neither a section nor a row of it: %s", featureList, i+1, line)
		}
		number, err := strconv.Atoi(m[1][1:])
		if err != nil || number <= last {
			t.Fatalf("%s: %s is out of order", featureList, m[1])
		}
		last = number
		s := &list[len(list)-1]
		s.rows = append(s.rows, feature{row: m[1], state: m[2], text: m[3]})
	}
	return list
}

// readLines are the lines of a file without comments and blank ones.
func readLines(t *testing.T, name string) []string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			list = append(list, line)
		}
	}
	return list
}

// proofSet collects who names which row.
type proofSet struct {
	t         *testing.T
	order     []string                       // every row, as listed
	byRow     map[string]map[string][]string // row, file, tests
	lintRules map[string]string              // name of a lint rule to its row; tables of tests name the rule
}

func findProofs(t *testing.T, sections []section) *proofSet {
	t.Helper()
	set := &proofSet{t: t, byRow: map[string]map[string][]string{}, lintRules: map[string]string{}}
	for _, s := range sections {
		for _, f := range s.rows {
			set.order = append(set.order, f.row)
			set.byRow[f.row] = map[string][]string{}
			if f.row[0] == 'E' && len(f.row) == 3 {
				for _, rule := range strings.Split(f.text, ", ") {
					set.lintRules[rule] = f.row
				}
			}
		}
	}
	for _, s := range sources(t) {
		if s.test {
			set.goFile(s)
		}
	}
	set.scripts()
	set.cases()
	return set
}

// add says that a test of a file names the row.
func (p *proofSet) add(row, file, test string) {
	tests, known := p.byRow[row]
	if !known {
		p.t.Errorf("%s: %s names the row %s, which %s does not have (CONTRIBUTING.md, \"Rows and tests\")", file, test, row, featureList)
		return
	}
	if !slices.Contains(tests[file], test) {
		tests[file] = append(tests[file], test)
	}
}

var (
	testName    = regexp.MustCompile(`^Test([A-P][0-9]+)+(to[A-P][0-9]+)?_`)
	testRange   = regexp.MustCompile(`([A-P][0-9]+)to([A-P][0-9]+)_`)
	rowInName   = regexp.MustCompile(`[A-P][0-9]+`)
	subtestName = regexp.MustCompile(`^[A-P][0-9]+(?: [A-P][0-9]+)*(?: |$)`)
)

// goFile finds tests by their names, by a line "rows: B12 C3" of the comment above them, and rows of tables and subtests by the
// beginning of their names: "B12 a later word without =".
func (p *proofSet) goFile(s source) {
	for _, decl := range s.ast.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || fn.Body == nil {
			continue
		}
		name := fn.Name.Name
		if prefix := testName.FindString(name); prefix != "" && fn.Recv == nil {
			for _, row := range p.rowsOf(prefix) {
				p.add(row, s.path, name)
			}
		}
		for line := range strings.Lines(fn.Doc.Text()) {
			for _, row := range markedRows(line) {
				p.add(row, s.path, name)
			}
		}
		for _, text := range subtests(fn) {
			for _, row := range strings.Fields(subtestName.FindString(text)) {
				p.add(row, s.path, name)
			}
			if row, ok := p.lintRules[text]; ok {
				p.add(row, s.path, name)
			}
		}
	}
}

// markedRows are those of a line "rows: B12 C3".
func markedRows(line string) []string {
	rows, ok := strings.CutPrefix(strings.TrimSpace(line), "rows:")
	if !ok {
		return nil
	}
	return strings.Fields(rows)
}

// rowsOf are the rows that the beginning of a name means: TestB12B13_ two, TestB21toB27_ all from the first to the second.
func (p *proofSet) rowsOf(prefix string) []string {
	m := testRange.FindStringSubmatch(prefix)
	if m == nil {
		return rowInName.FindAllString(prefix, -1)
	}
	from, to := slices.Index(p.order, m[1]), slices.Index(p.order, m[2])
	if from < 0 || to < from {
		return m[1:]
	}
	return p.order[from : to+1]
}

// subtests are the texts that name subtests: the first element of a composite literal, its field "name", the argument of Run.
func subtests(fn *ast.FuncDecl) []string {
	var list []string
	add := func(e ast.Expr) {
		if lit, ok := e.(*ast.BasicLit); ok {
			if text, err := strconv.Unquote(lit.Value); err == nil {
				list = append(list, text)
			}
		}
	}
	ast.Inspect(fn, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CompositeLit:
			if len(n.Elts) > 0 {
				add(n.Elts[0])
			}
		case *ast.KeyValueExpr:
			if isIdent(n.Key, "name") {
				add(n.Value)
			}
		case *ast.CallExpr:
			if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Run" && len(n.Args) == 2 {
				add(n.Args[0])
			}
		}
		return true
	})
	return list
}

// scripts finds the lines "# rows: B12 C3" of the scripts.
func (p *proofSet) scripts() {
	files, err := filepath.Glob(scriptFolder + "/*.txtar")
	if err != nil || len(files) == 0 {
		p.t.Fatalf("no script in %s: %v", scriptFolder, err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			p.t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			for _, row := range markedRows(strings.TrimPrefix(line, "# ")) {
				p.add(row, filepath.ToSlash(name), strings.TrimSuffix(path.Base(name), ".txtar"))
			}
		}
	}
}

// cases reads which row each conformance case is about. The cases are not part of the repository.
func (p *proofSet) cases() {
	for _, line := range readLines(p.t, featureCases) {
		words := strings.Fields(line)
		if len(words) < 2 {
			p.t.Errorf("%s: %s names no row", featureCases, words[0])
		}
		for _, row := range words[1:] {
			p.add(row, "", words[0])
		}
	}
}

// proofsOf lists what shows a row by file, conformance cases last.
func (p *proofSet) proofsOf(row string) []proof {
	var list []proof
	files := slices.Sorted(maps.Keys(p.byRow[row]))
	if len(files) > 0 && files[0] == "" {
		files = append(files[1:], "")
	}
	for _, file := range files {
		list = append(list, proof{file: file, tests: p.byRow[row][file]})
	}
	return list
}

func featuresPage(t *testing.T, sections []section, proofs *proofSet) []byte {
	t.Helper()
	var b bytes.Buffer
	b.WriteString(featuresHead)
	for _, s := range sections {
		fmt.Fprintf(&b, "\n## %s. %s\n\n| row | what | state | shown by |\n|-|-|-|-|\n", s.title[:1], s.title[2:])
		for _, f := range s.rows {
			list := proofs.proofsOf(f.row)
			checkProven(t, f, len(list) > 0)
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", f.row, f.text, shownState(f.state), shownProofs(list))
		}
	}
	return b.Bytes()
}

// unproven ends the state of a row that no test names. The list says so, so that the page does, until there is one.
const unproven = " (no test names it)"

// checkProven demands a test for each row, but for those that are missing in sections whose flags and commands are refused by table.
func checkProven(t *testing.T, f feature, proven bool) {
	t.Helper()
	said := strings.HasSuffix(f.state, unproven)
	refused := strings.HasPrefix(f.state, "no: ") && strings.Contains("GIJKLMNOP", f.row[:1])
	switch {
	case !proven && !said && !refused:
		t.Errorf("%s: no test names the row %s (%s): write one", featureList, f.row, f.text)
	case proven && said:
		t.Errorf("%s: a test names the row %s: take out%s", featureList, f.row, unproven)
	}
}

const featuresHead = `# Features

What gobuild can do, row by row, and the tests that show it. "Done" means that a test fails when the row is not so; "partly" names what is
missing; "not yet" is an error that says so, with what to do until then. Nothing is silently ignored. [dockerfile.md](dockerfile.md) has the rules in more
words, and what differs from BuildKit on purpose.

Made by ` + "`make generate`" + ` from ` + "`testdata/features.txt`" + ` and the names of the tests; ` + "`CONTRIBUTING.md`" + ` says how tests name rows. Scripts are
` + "`gobuild`" + ` runs in ` + "`cmd/build/testdata/script`" + `; cases are builds compared with BuildKit's recorded answers (` + "`make cases`" + `).
`

func shownState(state string) string {
	kind, what, _ := strings.Cut(state, ": ")
	switch kind {
	case "partly":
		return "partly; missing: " + what
	case "no":
		return "not yet; until then: " + what
	}
	return kind
}

func shownProofs(list []proof) string {
	var words []string
	for _, p := range list {
		switch {
		case p.file == "":
			words = append(words, "cases: "+strings.Join(p.tests, ", "))
		case strings.HasSuffix(p.file, ".txtar"):
			words = append(words, fmt.Sprintf("script [%s](../%s)", p.tests[0], p.file))
		default:
			words = append(words, fmt.Sprintf("[%s](../%s): %s", p.file, p.file, strings.Join(p.tests, ", ")))
		}
	}
	return strings.Join(words, "; ")
}

// In the files of hostile inputs, rows of this page do not number tests: H10 is whiteouts here, and another thing there.
func TestHostileTestsAreNamedSo(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if !s.test || !strings.Contains(path.Base(s.path), "hostile") && !strings.Contains(path.Base(s.path), "faults") {
			continue
		}
		for _, decl := range s.ast.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && testName.MatchString(fn.Name.Name) && strings.ContainsAny(fn.Name.Name[4:5], "FH") {
				t.Errorf("%s: %s: a test of hostile inputs or faults is called TestHostile%s", s.position(fn), fn.Name.Name, fn.Name.Name[4:])
			}
		}
	}
}
