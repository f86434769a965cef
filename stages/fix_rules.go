package stages

import (
	"slices"
	"strings"
	"unicode"

	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"gobuild/internal/lazyre"
)

func isSpace(r rune) bool { return unicode.IsSpace(r) }

// rewrites collects the edits that keep every line where it is.
func (fx *fixer) rewrites() {
	fold, posix := fx.majority(), fx.posixOnly()
	label := !strings.Contains(string(fx.src), authorsLabel)
	renamed := map[string]bool{} // stages whose names are made lower case, by their old names
	inStage := false
	for _, node := range fx.nodes {
		l, ok := fx.layout(node)
		if !ok {
			continue
		}
		t := &touch{fixer: fx, layout: l, node: node}
		name := strings.ToLower(node.Value)
		inStage = inStage || name == "from"
		if inStage {
			t.keyword(fold)
		}
		switch name {
		case "from":
			t.from(renamed)
		case "copy", "run":
			t.references(renamed)
			if name == "run" && posix {
				t.sortPackages()
			}
		case "env", "label":
			t.keyValue()
		case "maintainer":
			if label {
				t.maintainer()
			}
		case "expose":
			t.protocols()
		}
		t.done()
	}
}

// majority is the case that keywords should have, as E13 counts.
func (fx *fixer) majority() func(string) string {
	balance, inStage := 0, false
	for _, node := range fx.nodes {
		if inStage = inStage || strings.EqualFold(node.Value, "FROM"); !inStage {
			continue
		}
		switch node.Value {
		case strings.ToLower(node.Value):
			balance--
		case strings.ToUpper(node.Value):
			balance++
		}
	}
	if balance < 0 {
		return strings.ToLower
	}
	return strings.ToUpper
}

// posixOnly says that no SHELL sets another kind of shell.
func (fx *fixer) posixOnly() bool {
	return !slices.ContainsFunc(fx.nodes, func(n *parser.Node) bool {
		return strings.EqualFold(n.Value, "SHELL") && (n.Next == nil || !isShell(n.Next.Value))
	})
}

// touch is an instruction and what is to change of it.
type touch struct {
	*fixer
	layout
	node  *parser.Node
	edits []part
	said  []Change
}

// part is an edit in the logical line.
type part struct {
	from, to int
	text     string
}

// replace plans an edit if the rule is wanted.
func (t *touch) replace(rule string, from, to int, text, what string) {
	t.replaceAll(rule, []part{{from, to, text}}, what)
}

// replaceAll plans edits that belong together.
func (t *touch) replaceAll(rule string, spans []part, what string) {
	if len(spans) == 0 || !t.wanted(rule, t.node) {
		return
	}
	for _, s := range spans {
		if _, whole := t.edit(s.from, s.to, s.text); !whole {
			return
		}
	}
	line := t.line(spans[0].from)
	t.edits = append(t.edits, spans...)
	t.said = append(t.said, Change{rule, line, what})
}

// line is the line of the file on which a byte of the logical line stands.
func (t *touch) line(at int) int {
	i, _ := slices.BinarySearch(t.starts, t.at[max(min(at, len(t.at)-1), 0)]+1)
	return i
}

// done hands the edits over, if the instruction still means the same with them.
func (t *touch) done() {
	if len(t.edits) == 0 {
		return
	}
	slices.SortStableFunc(t.edits, func(a, b part) int { return a.from - b.from })
	var b strings.Builder
	at := 0
	for _, e := range t.edits {
		b.WriteString(t.text[at:e.from] + e.text)
		at = e.to
	}
	b.WriteString(t.text[at:])
	node, ok := reparse(b.String(), t.node, t.file.escape)
	if !ok || !sameInstruction(t.node, node, t.file.escape) {
		return
	}
	for _, e := range t.edits {
		whole, _ := t.edit(e.from, e.to, e.text)
		t.fixer.edits = append(t.fixer.edits, whole)
	}
	for _, c := range t.said {
		t.say(c.Rule, c.Line, c.What)
	}
}

// reparse reads a logical line with the heredocs that the old one had.
func reparse(text string, old *parser.Node, escape rune) (*parser.Node, bool) {
	src := "# escape=" + string(escape) + "\n" + text + "\n"
	for _, h := range old.Heredocs {
		src += h.Content + h.Name + "\n"
	}
	tree, err := parseTree([]byte(src))
	if err != nil || len(tree.AST.Children) != 1 {
		return nil, false
	}
	return tree.AST.Children[0], true
}

// keyword is the fix of E13.
func (t *touch) keyword(fold func(string) string) {
	word := t.node.Value
	if want := fold(word); want != word && strings.HasPrefix(t.text, word) {
		t.replace(linter.RuleConsistentInstructionCasing.Name, 0, len(word), want, word+" is now "+want)
	}
}

// from is the fix of E10 and E11, and of the references to a stage that E10 renamed.
func (t *touch) from(renamed map[string]bool) {
	words := wordsOf(t.text)
	var args []string
	for n := t.node.Next; n != nil; n = n.Next {
		args = append(args, n.Value)
	}
	if len(args) == 0 || len(words) <= len(args) {
		return
	}
	words = words[len(words)-len(args):]
	for i, w := range words {
		if t.text[w[0]:w[1]] != args[i] {
			return
		}
	}
	if renamed[args[0]] {
		t.lower(linter.RuleStageNameCasing.Name, words[0])
	}
	if len(args) != 3 {
		return
	}
	as := args[1]
	switch t.node.Value {
	case strings.ToUpper(t.node.Value):
		as = strings.ToUpper(as)
	case strings.ToLower(t.node.Value):
		as = strings.ToLower(as)
	}
	if as != args[1] {
		t.replace(linter.RuleFromAsCasing.Name, words[1][0], words[1][1], as, args[1]+" is now "+as)
	}
	if args[2] != strings.ToLower(args[2]) && t.lower(linter.RuleStageNameCasing.Name, words[2]) {
		renamed[args[2]] = true
	}
}

// lower makes a word lower case, and says whether it will be.
func (t *touch) lower(rule string, w [2]int) bool {
	before := len(t.edits)
	word := t.text[w[0]:w[1]]
	t.replace(rule, w[0], w[1], strings.ToLower(word), word+" is now "+strings.ToLower(word))
	return len(t.edits) > before
}

// wordsOf are the offsets of the words of a line, parted as the parser parts FROM and EXPOSE.
func wordsOf(text string) [][2]int {
	var words [][2]int
	for _, m := range fieldWord.FindAllStringIndex(text, -1) {
		words = append(words, [2]int{m[0], m[1]})
	}
	return words
}

var (
	fieldWord = lazyre.New(`[^\t\v\f\r ]+`)
	fromFlag  = lazyre.New(`(?:^|\s)--from=(\S+)|[=,]from=([^,\s]+)`)
	plainKey  = lazyre.New(`^[A-Za-z0-9_.-]+$`)
	protocol  = lazyre.New(`^[^"'/]+/((?i:tcp|udp|sctp))$`)
)

// references are those of COPY --from and RUN --mount to a stage that was renamed.
func (t *touch) references(renamed map[string]bool) {
	_, rest := scanFlags(t.text, t.file.escape)
	flags := strings.TrimSuffix(strings.TrimSpace(t.text), rest)
	for _, m := range fromFlag.FindAllStringSubmatchIndex(flags, -1) {
		w := [2]int{max(m[2], m[4]), max(m[3], m[5])}
		if renamed[t.text[w[0]:w[1]]] {
			t.lower(linter.RuleStageNameCasing.Name, w)
		}
	}
}

// keyValue is the fix of E22. A value with blanks is quoted as a whole when it has
// nothing that means another thing between quotes; else its blanks are escaped.
func (t *touch) keyValue() {
	n := t.node.Next
	if n == nil || n.Next == nil || n.Next.Next == nil || n.Next.Next.Value != "" || n.Next.Next.Next != nil {
		return
	}
	key, value := n.Value, n.Next.Value
	words := wordsOf(t.text)
	if !plainKey.MatchString(key) || len(words) < 3 || t.text[words[1][0]:words[1][1]] != key {
		return
	}
	start := words[2][0]
	end := start + len(value)
	if end > len(t.text) || t.text[start:end] != value || strings.HasPrefix(expanded(value, t.file.escape), "?") {
		return
	}
	spans := []part{{words[1][1], start, "="}}
	switch {
	case strings.IndexFunc(value, isSpace) < 0:
	case !strings.ContainsAny(value, `"'`+string(t.file.escape)):
		spans = []part{{words[1][1], start, `="`}, {end, end, `"`}}
	default:
		if _, whole := t.edit(start, end, value); !whole {
			return
		}
		for _, at := range bareBlanks(value, t.file.escape) {
			spans = append(spans, part{start + at, start + at, string(t.file.escape)})
		}
	}
	t.replaceAll(linter.RuleLegacyKeyValueFormat.Name, spans, key+" has = before its value")
}

// bareBlanks are the offsets of the blanks in a value that end a word of ENV.
func bareBlanks(value string, escape rune) []int {
	var out []int
	var quote rune
	escaped := false
	for i, r := range value {
		switch {
		case escaped:
			escaped = false
		case r == escape && quote != '\'':
			escaped = true
		case quote != 0:
			if r == quote {
				quote = 0
			}
		case r == '"' || r == '\'':
			quote = r
		case unicode.IsSpace(r):
			out = append(out, i)
		}
	}
	return out
}

// maintainer is the fix of E17: a label says the same, and more tools read it. The
// image's author is no longer set.
func (t *touch) maintainer() {
	if t.node.Next == nil || t.line(len(t.at)-1) != t.line(0) || !t.wanted(linter.RuleMaintainerDeprecated.Name, t.node) {
		return
	}
	word := "LABEL"
	if t.node.Value == strings.ToLower(t.node.Value) {
		word = "label"
	}
	var b strings.Builder
	for _, r := range t.node.Next.Value {
		if r == '"' || r == '$' || r == t.file.escape {
			b.WriteRune(t.file.escape)
		}
		b.WriteRune(r)
	}
	text := strings.TrimRightFunc(t.text, isSpace)
	t.edits, t.said = nil, nil // of the keyword, which goes
	t.replace(linter.RuleMaintainerDeprecated.Name, 0, len(text), word+" "+authorsLabel+`="`+b.String()+`"`, "MAINTAINER is now LABEL "+authorsLabel)
}

// protocols is the fix of E30, unless it would change the order in which the
// ports stand in the image's history.
func (t *touch) protocols() {
	var before, after []string
	var spans []part
	for _, w := range wordsOf(t.text)[1:] {
		word := t.text[w[0]:w[1]]
		before = append(before, word)
		if m := protocol.FindStringSubmatchIndex(word); m != nil && word[m[2]:] != strings.ToLower(word[m[2]:]) {
			spans = append(spans, part{w[0] + m[2], w[1], strings.ToLower(word[m[2]:])})
			word = word[:m[2]] + strings.ToLower(word[m[2]:])
		}
		after = append(after, word)
	}
	slices.Sort(before)
	slices.Sort(after)
	for i := range before {
		if !strings.EqualFold(before[i], after[i]) {
			return
		}
	}
	t.replaceAll(linter.RuleExposeProtoCasing.Name, spans, "protocols are in lower case")
}

// sortPackages is the fix of E45, of lists that the package manager takes in any order.
func (t *touch) sortPackages() {
	if t.node.Attributes["json"] || len(t.node.Heredocs) > 0 {
		return
	}
	_, rest := scanFlags(t.text, t.file.escape)
	skipped := strings.LastIndex(t.text, rest)
	script := scanShell(rest, func(at int) int { return t.line(skipped + at) })
	for _, p := range packageInstalls {
		if !p.anyOrder {
			continue
		}
		for _, c := range calls(script, p.program, p.subs...) {
			if c.unsure {
				continue
			}
			for _, group := range packageGroups(c.args) {
				t.sortGroup(group, skipped)
			}
		}
	}
}

func (t *touch) sortGroup(group []shellWord, skipped int) {
	first, names := outOfOrder(group)
	if first == "" {
		return
	}
	spans := make([]part, len(group))
	for i, w := range group {
		from := skipped + w.at
		to := from + len(w.text)
		if w.quoted || to > len(t.text) || t.text[from:to] != w.text {
			return
		}
		spans[i] = part{from, to, names[i]}
	}
	t.replaceAll("BestSortArgs", spans, "packages are in alphabetical order")
}
