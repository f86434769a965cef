package stages

import (
	"slices"
	"strings"

	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// authorsLabel is what MAINTAINER becomes: the annotation that the OCI image
// specification has for it.
const authorsLabel = "org.opencontainers.image.authors"

// sameInstruction says that two instructions mean the same, but for what Fix may
// change: casing, the form of ENV and LABEL, MAINTAINER as a label, and the order
// of words in a RUN.
func sameInstruction(a, b *parser.Node, escape rune) bool {
	return slices.Equal(meaning(a, escape), meaning(b, escape)) && slices.Equal(a.Heredocs, b.Heredocs)
}

// meaning is an instruction as a list that is equal where the meaning is.
func meaning(node *parser.Node, escape rune) []string {
	name := strings.ToLower(node.Value)
	out := []string{name}
	for _, f := range node.Flags {
		out = append(out, lowerFrom(f))
	}
	var args []string
	for n := node.Next; n != nil; n = n.Next {
		args = append(args, n.Value)
		for _, child := range n.Children { // of ONBUILD
			args = append(args, meaning(child, escape)...)
		}
	}
	switch {
	case name == "env" || name == "label":
		for i := 0; i+2 < len(args); i += 3 {
			out = append(out, expanded(args[i], escape), expanded(args[i+1], escape))
		}
		return out
	case name == "maintainer" && len(args) == 1:
		return append(out[:0], "label", "="+authorsLabel, "="+args[0])
	case name == "expose":
		slices.Sort(args)
		return append(out, strings.Fields(strings.ToLower(strings.Join(args, " ")))...)
	case name == "from":
		return append(out, strings.Fields(strings.ToLower(strings.Join(args, " ")))...)
	case name == "run" && !node.Attributes["json"]:
		words := strings.Fields(strings.Join(args, " "))
		slices.Sort(words)
		return append(out, words...)
	}
	return append(out, args...)
}

// lowerFrom is a flag with the stage that it names in lower case.
func lowerFrom(flag string) string {
	if rest, ok := strings.CutPrefix(flag, "--from="); ok {
		return "--from=" + strings.ToLower(rest)
	}
	if !strings.HasPrefix(flag, "--mount=") {
		return flag
	}
	fields := strings.Split(flag[len("--mount="):], ",")
	for i, f := range fields {
		if rest, ok := strings.CutPrefix(f, "from="); ok {
			fields[i] = "from=" + strings.ToLower(rest)
		}
	}
	return "--mount=" + strings.Join(fields, ",")
}

// expanded is a word with its quotes and escapes resolved and each variable
// replaced by a mark.
func expanded(word string, escape rune) string {
	g := guard{escape: escape, get: marks{}.Get}
	if _, err := g.check(word); err != nil {
		return "?" + word
	}
	lex := shell.NewLex(escape)
	res, _, err := lex.ProcessWord(word, marks{})
	if err != nil {
		return "?" + word
	}
	return "=" + res
}

// marks is an environment in which every variable has its own name as value.
type marks struct{}

func (marks) Get(name string) (string, bool) { return "\x01" + cut(name, maxQuoted) + "\x02", true }

func (marks) Keys() []string { return nil }
