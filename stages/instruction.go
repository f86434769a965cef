package stages

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"

	"gobuild/internal/lazyre"
)

// instructionFlags lists the flags of each instruction; those not listed have
// none. It is also the list of all instructions, for suggestions.
var instructionFlags = map[string][]string{
	"ADD":         {"chown", "chmod", "link", "keep-git-dir", "checksum", "unpack", "exclude"},
	"ARG":         nil,
	"CMD":         nil,
	"COPY":        {"chown", "chmod", "link", "from", "parents", "exclude"},
	"ENTRYPOINT":  nil,
	"ENV":         nil,
	"EXPOSE":      nil,
	"FROM":        {"platform"},
	"HEALTHCHECK": {"interval", "timeout", "start-period", "start-interval", "retries"},
	"LABEL":       nil,
	"MAINTAINER":  nil,
	"ONBUILD":     nil,
	"RUN":         {"mount", "network", "security", "device"},
	"SHELL":       nil,
	"STOPSIGNAL":  nil,
	"USER":        nil,
	"VOLUME":      nil,
	"WORKDIR":     nil,
}

// instructionNames is in alphabetical order, so that suggestions are stable.
var instructionNames = []string{"ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL",
	"MAINTAINER", "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}

// mountKeys are the keys of RUN --mount.
var mountKeys = []string{"type", "from", "source", "src", "target", "dst", "destination", "readonly", "ro", "readwrite", "rw",
	"id", "sharing", "required", "size", "mode", "uid", "gid", "env"}

// parseInstruction turns a line of the tree into a *instructions.Stage or an
// instructions.Command. Errors are of type *Error.
func parseInstruction(node *parser.Node, escape rune, lint *linter.Linter) (any, error) {
	op := strings.ToUpper(node.Value)
	pos := Position{node.StartLine, node.EndLine}
	if len(op) > maxQuoted {
		op = cut(op, maxQuoted)
	}
	if err := prepareNode(node, escape); err != nil {
		return nil, newError(pos, op, err)
	}
	v, err := instructions.ParseInstructionWithLinter(node, lint)
	if err != nil {
		var unknown *instructions.UnknownInstructionError
		if errors.As(err, &unknown) {
			return nil, &Error{Pos: pos, Op: "parse Dockerfile", Err: fmt.Errorf("unknown instruction %s", quoteShort(node.Value)),
				Hint: didYouMean(strings.ToUpper(node.Value), instructionNames)}
		}
		return nil, newError(pos, op, withHint(cause(err), syntaxHint(op, cause(err).Error())))
	}
	return v, newError(pos, op, checkParsed(v, node))
}

// prepareNode checks and corrects the tree of one instruction.
func prepareNode(node *parser.Node, escape rune) error {
	name := strings.ToUpper(node.Value)
	if !utf8.ValidString(node.Original) {
		if name == "RUN" { // the bytes are the command's; the reference cannot pass them on either
			return withHint(errors.New("the instruction is not valid UTF-8"), "save the Dockerfile as UTF-8")
		}
		repairText(node)
	}
	if err := repairFlags(node, escape); err != nil {
		return err
	}
	if err := checkDroppedFlags(name, node); err != nil {
		return err
	}
	if name == "ARG" {
		boundComments(node)
	}
	if name == "COPY" || name == "ADD" {
		for n := node.Next; n != nil; n = n.Next {
			if strings.Contains(n.Value, "<<") && strings.Count(n.Value, "${") > maxLexed {
				return errNesting // in JSON, so the line parser's guard did not see it
			}
		}
	}
	return nil
}

// repairText replaces each byte that is no UTF-8 by the replacement character,
// as the lexer and the JSON of an image configuration do.
func repairText(node *parser.Node) {
	for n := node; n != nil; n = n.Next {
		n.Value, n.Original = validUTF8(n.Value), validUTF8(n.Original)
		for _, c := range n.Children {
			repairText(c)
		}
	}
}

func validUTF8(s string) string { return string([]rune(s)) }

// checkDroppedFlags looks at the flags that the parser never does: all of ARG
// and STOPSIGNAL, and those of HEALTHCHECK NONE, which has the flags of
// HEALTHCHECK CMD without a use for them (A12).
func checkDroppedFlags(name string, node *parser.Node) error {
	none := name == "HEALTHCHECK" && node.Next != nil && strings.EqualFold(node.Next.Value, "NONE")
	if !none && name != "ARG" && name != "STOPSIGNAL" {
		return nil
	}
	for _, flag := range node.Flags {
		word, _, _ := strings.Cut(flag, "=")
		if !slices.Contains(instructionFlags[name], strings.TrimPrefix(word, "--")) {
			return fmt.Errorf("unknown flag: %s", word)
		}
	}
	return nil
}

// boundComments leaves an ARG the comments next to it, as the parser looks through
// all of them for each name.
func boundComments(node *parser.Node) {
	names := 1
	for n := node.Next; n != nil; n = n.Next {
		names++
	}
	if most := max(1, maxDocWork/names); len(node.PrevComment) > most {
		node.PrevComment = node.PrevComment[len(node.PrevComment)-most:]
	}
}

// repairFlags undoes what the line parser does to flags that are not ASCII: it
// scans them byte by byte, so each byte arrives as a character, and a byte that
// would be a blank as a character ends the flag (A12).
func repairFlags(node *parser.Node, escape rune) error {
	if isASCII(strings.Join(node.Flags, "")) {
		return nil
	}
	flags, rest := scanFlags(node.Original, escape)
	src := "# escape=" + string(escape) + "\n" + node.Value + " " + rest
	for _, h := range node.Heredocs {
		src += "\n" + h.Name
	}
	tree, err := parser.Parse(strings.NewReader(src + "\n"))
	if err != nil {
		return cause(err)
	}
	if len(tree.AST.Children) != 1 {
		return errors.New("flags are malformed")
	}
	node.Flags, node.Next, node.Attributes = flags, tree.AST.Children[0].Next, tree.AST.Children[0].Attributes
	return nil
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= 0x80 }) < 0
}

// scanFlags splits the flags from an instruction as A12 says, character by
// character, and returns them and the text after them.
func scanFlags(line string, escape rune) (flags []string, rest string) {
	line = strings.TrimSpace(line)
	i := strings.IndexFunc(line, unicode.IsSpace)
	if i < 0 {
		return nil, ""
	}
	for rest = strings.TrimLeftFunc(line[i:], unicode.IsSpace); strings.HasPrefix(rest, "--"); {
		var word string
		word, rest = scanFlag(rest, escape)
		rest = strings.TrimLeftFunc(rest, unicode.IsSpace)
		if word == "--" {
			break
		}
		flags = append(flags, word)
	}
	return flags, rest
}

func scanFlag(text string, escape rune) (word, rest string) {
	var b strings.Builder
	var quote rune
	escaped := false
	for i, r := range text {
		switch {
		case escaped:
			b.WriteRune(r)
			escaped = false
		case r == escape:
			escaped = true
		case quote != 0 && r == quote:
			quote = 0
		case quote == 0 && (r == '\'' || r == '"'):
			quote = r
		case quote == 0 && unicode.IsSpace(r):
			return b.String(), text[i:]
		default:
			b.WriteRune(r)
		}
	}
	return b.String(), ""
}

// checkParsed adds the checks that the reference lacks or makes later.
func checkParsed(v any, node *parser.Node) error {
	switch c := v.(type) {
	case *instructions.RunCommand:
		return checkRun(c)
	case *instructions.CopyCommand:
		return checkSources(&c.SourcesAndDest, node)
	case *instructions.AddCommand:
		return checkSources(&c.SourcesAndDest, node)
	}
	return nil
}

func checkRun(c *instructions.RunCommand) error {
	if len(c.CmdLine) == 0 || (c.PrependShell && strings.TrimSpace(c.CmdLine[0]) == "") {
		return errors.New("requires a command")
	}
	for _, arg := range c.CmdLine {
		if !validText(arg) {
			return errors.New("an argument contains a NUL byte")
		}
	}
	for _, f := range c.Files {
		if !validText(f.Data) {
			return withHint(errors.New("the heredoc contains a NUL or invalid UTF-8"), "save the Dockerfile as UTF-8")
		}
	}
	return nil
}

// checkSources checks heredoc sources, and takes back what only looks like one:
// the JSON form has none (A15).
func checkSources(s *instructions.SourcesAndDest, node *parser.Node) error {
	if node.Attributes["json"] {
		s.SourcePaths, s.SourceContents = nil, nil
		for n := node.Next; n != nil && n.Next != nil; n = n.Next {
			s.SourcePaths = append(s.SourcePaths, n.Value)
		}
	}
	for i, c := range s.SourceContents {
		if err := checkHeredocName(c.Path); err != nil {
			return err
		}
		if c.Expand { // the name quoted keeps the bytes
			s.SourceContents[i].Data = validUTF8(c.Data)
		}
	}
	return nil
}

// checkHeredocName allows plain file names only: the name becomes a path.
func checkHeredocName(name string) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/\x00") || len(name) > 255 {
		return fmt.Errorf("heredoc name %s is not a plain file name", quoteShort(name))
	}
	return nil
}

var (
	unknownFlag = lazyre.New(`^unknown flag: --(\S+)$`)
	unknownKey  = lazyre.New(`^unexpected key '([^']+)' in `)
	badType     = lazyre.New(`^unsupported mount type "([^"]+)"`)
	badSharing  = lazyre.New(`^unsupported sharing value "([^"]+)"`)
	badNetwork  = lazyre.New(`^invalid network mode "([^"]+)"`)
	badSecurity = lazyre.New(`^security "([^"]+)" is not valid`)
)

// usageHints are remedies for messages of the parser packages.
var usageHints = []struct{ part, hint string }{
	{"can't find = in", "write name=value; quote a value with blanks, and give a comment its own line"},
	{"requires either one or three arguments", "write FROM image or FROM image AS name"},
	{"unterminated heredoc", "end the text with a line that holds only the heredoc's name"},
	{"name can't start with a number", "start the name with a letter; letters, digits, - _ and . may follow"},
	{"arrays must be comprised of strings", "put each element in double quotes"},
	{"requires the arguments to be in JSON form", `write a JSON array, such as ["/bin/bash", "-c"]`},
	{"isn't allowed as an ONBUILD trigger", "put it into the Dockerfile that builds on this image"},
}

// syntaxHint finds a remedy: a usage, or a near name for what the parser did
// not know.
func syntaxHint(instruction, message string) string {
	for _, u := range usageHints {
		if strings.Contains(message, u.part) {
			return u.hint
		}
	}
	for _, h := range []struct {
		re    lazyre.Regexp
		names []string
		pre   string
	}{
		{unknownFlag, instructionFlags[instruction], "--"},
		{unknownKey, mountKeys, ""},
		{badType, []string{"bind", "cache", "tmpfs", "secret", "ssh"}, ""},
		{badSharing, []string{"shared", "private", "locked"}, ""},
		{badNetwork, []string{"default", "none", "host"}, ""},
		{badSecurity, []string{"sandbox", "insecure"}, ""},
	} {
		if m := h.re.FindStringSubmatch(message); m != nil {
			if s := Suggest(m[1], h.names); s != "" {
				return "did you mean " + h.pre + s + "?"
			}
			return ""
		}
	}
	return ""
}
