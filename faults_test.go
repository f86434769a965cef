package houserules

import (
	"bytes"
	"fmt"
	"go/ast"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

//go:generate go test . -run TestFaultsDocument -update

const (
	faultList     = "testdata/faults.txt"
	faultDocument = "docs/faults.md"
	faults        = 40
)

var (
	faultLine = regexp.MustCompile(`^([0-4][0-9]) \| (\S[^|]*?) \|(?: (\S[^|]*))?$`)
	faultTest = regexp.MustCompile(`^TestHostile((?:F[0-9]+)+)_`)
)

const faultsHead = `# Faults

What may go wrong around a build, and the tests that make it go wrong. After each of them the next build needs no help: it gives the digest of an undisturbed
one, and nothing is left of the disturbed one. A normal run of the tests injects each fault into a sample of a build's system calls;
` + "`go test ./acceptance -run TestHostileF -faults -timeout 0`" + ` (part of ` + "`make fuzz`" + `) into every one.

Made by ` + "`make generate`" + ` from ` + "`testdata/faults.txt`" + ` and the names of the tests.

| fault | what | shown by |
|-|-|-|
`

// TestFaultsDocument wants each fault to have a test or a reason why it has none, and docs/faults.md to say so. -update rewrites it.
func TestFaultsDocument(t *testing.T) {
	t.Parallel()
	known, byFault := faultTests(t)
	var b bytes.Buffer
	b.WriteString(faultsHead)
	last := 0
	for _, line := range readLines(t, faultList) {
		m := faultLine.FindStringSubmatch(line)
		if m == nil || m[1] != fmt.Sprintf("%02d", last+1) {
			t.Fatalf("%s: want the row of fault %02d, got: %s", faultList, last+1, line)
		}
		last++
		tests, also := byFault[m[1]], m[3]
		reason, untested := strings.CutPrefix(also, "none: ")
		switch {
		case untested && len(tests) > 0:
			t.Errorf("%s: %v test the fault %s: take out the reason", faultList, tests, m[1])
		case untested:
			fmt.Fprintf(&b, "| %s | %s | no test: %s |\n", m[1], m[2], reason)
			continue
		}
		for _, name := range strings.Fields(also) {
			if known[name] == "" {
				t.Errorf("%s: fault %s names %s, which does not exist", faultList, m[1], name)
			}
			tests = append(tests, name)
		}
		if len(tests) == 0 {
			t.Errorf("%s: no test of the fault %s: write TestHostileF%s_..., or say \"none: reason\"", faultList, m[1], m[1])
		}
		slices.Sort(tests)
		var words []string
		for _, name := range slices.Compact(tests) {
			words = append(words, fmt.Sprintf("[%s](../%s)", name, known[name]))
		}
		fmt.Fprintf(&b, "| %s | %s | %s |\n", m[1], m[2], strings.Join(words, ", "))
	}
	if last != faults {
		t.Errorf("%s: %d faults, want %d", faultList, last, faults)
	}
	if *update {
		if err := os.WriteFile(faultDocument, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got, err := os.ReadFile(faultDocument); err != nil || !bytes.Equal(got, b.Bytes()) {
		t.Errorf("%s is out of date: make generate (%v)", faultDocument, err)
	}
}

// faultTests gives the file of every test, and the tests whose names have the number of a fault.
func faultTests(t *testing.T) (known map[string]string, byFault map[string][]string) {
	known, byFault = map[string]string{}, map[string][]string{}
	for _, s := range sources(t) {
		if !s.test {
			continue
		}
		for _, decl := range s.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Test") {
				continue
			}
			known[fn.Name.Name] = s.path
			if m := faultTest.FindStringSubmatch(fn.Name.Name); m != nil {
				for _, number := range strings.Split(m[1], "F")[1:] {
					byFault[number] = append(byFault[number], fn.Name.Name)
				}
			}
		}
	}
	return known, byFault
}
