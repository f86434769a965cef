package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

//go:generate go test . -run TestCommandLineDocument -update

var update = flag.Bool("update", false, "rewrite the tables of docs/commandline.md")

const commandLineDocument = "../../docs/commandline.md"

// docBlock finds what stands between "<!-- begin NAME -->" and "<!-- end -->".
var docBlock = regexp.MustCompile(`(?s)<!-- begin ([a-z ]+) -->\n.*?<!-- end -->\n`)

// TestCommandLineDocument holds the tables of docs/commandline.md against those of the program. -update rewrites them.
func TestCommandLineDocument(t *testing.T) {
	data, err := os.ReadFile(commandLineDocument)
	if err != nil {
		t.Fatal(err)
	}
	blocks := docBlocks()
	var seen []string
	want := docBlock.ReplaceAllStringFunc(string(data), func(old string) string {
		name := docBlock.FindStringSubmatch(old)[1]
		text, ok := blocks[name]
		if !ok {
			t.Errorf("there is no table %q", name)
			return old
		}
		seen = append(seen, name)
		return "<!-- begin " + name + " -->\n" + text + "<!-- end -->\n"
	})
	for name := range blocks {
		if !slices.Contains(seen, name) {
			t.Errorf("the document lacks the table %q", name)
		}
	}
	for _, c := range commands() {
		if c.flags == nil {
			continue
		}
		for _, s := range c.flags() {
			if !strings.Contains(want, "`--"+s.name+"`") {
				t.Errorf("the document does not name --%s of gobuild %s", s.name, c.name)
			}
		}
		if !strings.Contains(want, "`gobuild "+c.name+" ") {
			t.Errorf("the document has no section about gobuild %s", c.name)
		}
	}
	if *update {
		if err := os.WriteFile(commandLineDocument, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(data)); diff != "" {
		t.Errorf("the document differs from the program (-program +document), -update rewrites it:\n%s", diff)
	}
}

// readVariable finds the variables of the environment that this package reads by name.
var readVariable = regexp.MustCompile(`env(?:\[|\.lookup\()"([A-Z_]+)"`)

func TestCommandLineDocumentNamesTheEnvironment(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile(commandLineDocument)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range readVariable.FindAllStringSubmatch(string(src), -1) {
			found++
			if !strings.Contains(string(doc), "`"+m[1]+"`") {
				t.Errorf("docs/commandline.md does not name the variable %s, which %s reads", m[1], name)
			}
		}
	}
	if found < 10 {
		t.Errorf("only %d variables were found: is the search broken?", found)
	}
}

// docBlocks are the tables by name.
func docBlocks() map[string]string {
	var rows []string
	blocks := map[string]string{
		"flags global": flagTable(globalFlags()), "flags what": flagTable(whatFlags()), "flags result": flagTable(resultFlags()), "flags run": flagTable(runFlags()), "flags gc": flagTable(gcFlags()),
		"flags noop": refusedTable(noopFlags()), "flags no": refusedTable(noFlags()), "flags kaniko": refusedTable(kanikoFlags()),
		"flags checking": flagTable(lintFlags()),
		"flags later":    refusedTable(slices.Concat(laterDockerFlags(), laterBuildahFlags(), laterOwnFlags())),
	}
	shared := []string{"build", "plan", "check", "lint", "run", "debug"} // their flags are those of the groups above
	for _, c := range commands() {
		rows = append(rows, fmt.Sprintf("| `%s` | %s |", strings.TrimSpace(c.name+" "+c.args), sentence(c.short)))
		if !slices.Contains(shared, c.name) {
			blocks["flags "+c.name] = "It has no flags of its own.\n"
			if c.flags != nil {
				blocks["flags "+c.name] = flagTable(c.flags())
			}
		}
	}
	rows = append(rows, "| `completion SHELL` | print a completion script for bash, zsh, fish or powershell |", "| `help [COMMAND]` | show help |")
	blocks["commands"] = table("command", rows)
	rows = nil
	for _, name := range sortedKeys(missing()) {
		rows = append(rows, fmt.Sprintf("| `%s` | %s |", name, missing()[name]))
	}
	blocks["missing"] = table("command", rows)
	return blocks
}

func table(head string, rows []string) string {
	return "| " + head + " | |\n|-|-|\n" + strings.Join(rows, "\n") + "\n"
}

// sentence begins in lower case, as the other cells do.
func sentence(s string) string { return strings.ToLower(s[:1]) + s[1:] }

// flagTable describes the flags that are obeyed, and what is said to the others.
func flagTable(specs []flagSpec) string {
	var rows []string
	for _, s := range specs {
		if s.does != yes {
			rows = append(rows, fmt.Sprintf("| %s | not supported yet: %s |", flagName(s), cell(s.text)))
			continue
		}
		text := s.text
		if s.kind == kindList {
			text += " (repeatable)"
		}
		rows = append(rows, fmt.Sprintf("| %s | %s |", flagName(s), cell(text)))
	}
	return table("flag", rows)
}

// refusedTable says of flags that are not obeyed what gobuild says of them.
func refusedTable(specs []flagSpec) string {
	var rows []string
	for _, s := range specs {
		text := s.text
		if s.does == yes {
			text = "it is obeyed: " + text
		}
		rows = append(rows, fmt.Sprintf("| %s | %s |", flagName(s), cell(text)))
	}
	return table("flag", rows)
}

func flagName(s flagSpec) string {
	name := "`--" + s.name + "`"
	if s.short != "" {
		name = "`-" + s.short + "`, " + name
	}
	if s.arg != "" {
		name += " " + cell(s.arg)
	}
	return name
}

// cell keeps text from ending its cell, or from being taken for HTML.
func cell(s string) string { return strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(s) }
