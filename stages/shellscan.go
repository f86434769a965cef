package stages

import "strings"

// shellCommand is one simple command of a shell script, as far as the rules
// need to know it.
type shellCommand struct {
	words  []shellWord
	writes []shellWord // targets of > and >>
	before string      // operator in front of it: "" at the start, or one of && || ; | & and newline
}

// shellWord is a word without its outer quotes. Substitutions stay as written.
type shellWord struct {
	text   string
	at     int  // offset in the script
	line   int  // of the Dockerfile
	quoted bool // some part of it was
}

// scanner splits a script. It knows quotes, substitutions, comments, redirections
// and heredocs well enough to find commands and their words; what it does not
// understand becomes a word, never an error. It takes one pass and no recursion.
type scanner struct {
	src     string
	at      int
	line    func(offset int) int
	out     []shellCommand
	cur     shellCommand
	word    strings.Builder
	start   int  // offset of the word
	has     bool // a word has begun
	quoted  bool
	into    redirect
	heredoc []string // delimiters of heredocs that begin after this line
}

// redirect says what the next word is.
type redirect int

const (
	noRedirect redirect = iota
	writeTo
	readFrom
	heredocName
)

// scanShell splits a script into its simple commands. line maps an offset of src
// to a line of the Dockerfile.
func scanShell(src string, line func(offset int) int) []shellCommand {
	s := &scanner{src: src, line: line}
	for s.at < len(s.src) {
		s.step()
	}
	s.endCommand("")
	return s.out
}

func (s *scanner) step() {
	c := s.src[s.at]
	switch c {
	case ' ', '\t', '\r':
		s.endWord()
		s.at++
	case '\n':
		s.endCommand("\n")
		s.at++
		s.skipHeredocs()
	case '#':
		if s.has {
			s.add(1)
			return
		}
		if end := strings.IndexByte(s.src[s.at:], '\n'); end >= 0 {
			s.at += end
		} else {
			s.at = len(s.src)
		}
	case '\\':
		s.backslash()
	case '\'', '"':
		s.quote(c)
	case '`':
		s.span(closing(s.src, s.at+1, '`'))
	case '$':
		s.dollar()
	case '&', '|', ';', '(', ')':
		s.operator()
	case '<', '>':
		s.redirection()
	default:
		s.add(1)
	}
}

// add takes n bytes into the word.
func (s *scanner) add(n int) {
	s.begin()
	n = min(n, len(s.src)-s.at)
	s.word.WriteString(s.src[s.at : s.at+n])
	s.at += n
}

// span takes all up to end into the word as written.
func (s *scanner) span(end int) { s.add(end - s.at) }

func (s *scanner) begin() {
	if !s.has {
		s.has, s.start = true, s.at
	}
}

func (s *scanner) backslash() {
	if strings.HasPrefix(s.src[s.at:], "\\\n") {
		s.at += 2
		return
	}
	s.begin()
	s.at++
	s.add(1)
}

// quote takes a quoted part into the word without the quotes.
func (s *scanner) quote(q byte) {
	s.begin()
	s.quoted = true
	end := closing(s.src, s.at+1, q)
	body := s.src[s.at+1 : max(end-1, s.at+1)]
	if end == len(s.src) && (end == s.at+1 || s.src[end-1] != q) {
		body = s.src[s.at+1:] // never closed
	}
	s.word.WriteString(body)
	s.at = end
}

// closing is the offset behind the quote that ends at or after from.
func closing(src string, from int, q byte) int {
	for i := from; i < len(src); i++ {
		switch {
		case src[i] == '\\' && q != '\'':
			i++
		case src[i] == q:
			return i + 1
		}
	}
	return len(src)
}

// dollar takes a substitution whole: operators inside it are not the script's.
func (s *scanner) dollar() {
	switch {
	case strings.HasPrefix(s.src[s.at:], "$("):
		s.span(closingBracket(s.src, s.at+2, '(', ')'))
	case strings.HasPrefix(s.src[s.at:], "${"):
		s.span(closingBracket(s.src, s.at+2, '{', '}'))
	default:
		s.add(1)
	}
}

// closingBracket is the offset behind the bracket that closes one opened before from.
func closingBracket(src string, from int, open, shut byte) int {
	depth := 1
	for i := from; i < len(src); i++ {
		switch src[i] {
		case '\\':
			i++
		case '\'', '"':
			i = closing(src, i+1, src[i]) - 1
		case open:
			depth++
		case shut:
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(src)
}

func (s *scanner) operator() {
	rest := s.src[s.at:]
	for _, op := range []string{"&&", "||", ";;", "|&", "&>"} {
		if !strings.HasPrefix(rest, op) {
			continue
		}
		s.at += 2
		if op == "&>" {
			s.endWord()
			s.at += len(s.src[s.at:]) - len(strings.TrimLeft(s.src[s.at:], ">"))
			s.into = writeTo
			return
		}
		s.endCommand(map[string]string{"&&": "&&", "||": "||", ";;": ";", "|&": "|"}[op])
		return
	}
	op := string(rest[0])
	s.at++
	if op == "(" || op == ")" {
		if op == "(" && len(s.cur.words) == 0 && !s.has { // a subshell: what was in front of it goes on
			return
		}
		op = ";"
	}
	s.endCommand(op)
}

// redirection begins one; a number in front of it is the descriptor.
func (s *scanner) redirection() {
	if s.has && !s.quoted && isDigits(s.word.String()) {
		s.drop()
	}
	s.endWord()
	rest := s.src[s.at:]
	switch {
	case strings.HasPrefix(rest, "<("), strings.HasPrefix(rest, ">("):
		s.span(closingBracket(s.src, s.at+2, '(', ')'))
		return
	case strings.HasPrefix(rest, "<<<"):
		s.at, s.into = s.at+3, readFrom
	case strings.HasPrefix(rest, "<<"):
		s.at, s.into = s.at+2, heredocName
		if strings.HasPrefix(s.src[s.at:], "-") {
			s.at++
		}
	case strings.HasPrefix(rest, ">&"), strings.HasPrefix(rest, "<&"):
		s.at, s.into = s.at+2, readFrom // a descriptor: no file is written
	case rest[0] == '>':
		s.at, s.into = s.at+1, writeTo
		if s.at < len(s.src) && (s.src[s.at] == '>' || s.src[s.at] == '|') {
			s.at++
		}
	default:
		s.at, s.into = s.at+1, readFrom
	}
}

func (s *scanner) drop() {
	s.word.Reset()
	s.has, s.quoted = false, false
}

func (s *scanner) endWord() {
	if !s.has {
		return
	}
	w := shellWord{text: s.word.String(), at: s.start, line: s.line(s.start), quoted: s.quoted}
	s.drop()
	switch s.into {
	case noRedirect:
		s.cur.words = append(s.cur.words, w)
	case writeTo:
		s.cur.writes = append(s.cur.writes, w)
	case heredocName:
		s.heredoc = append(s.heredoc, w.text)
	case readFrom:
	}
	s.into = noRedirect
}

// endCommand ends the command at op.
func (s *scanner) endCommand(op string) {
	s.endWord()
	s.into = noRedirect
	if len(s.cur.words)+len(s.cur.writes) > 0 {
		s.out = append(s.out, s.cur)
		s.cur = shellCommand{before: op}
		return
	}
	if op != "\n" || s.cur.before == "" { // a line that ends in && or | goes on
		s.cur.before = op
	}
}

// skipHeredocs jumps over the bodies of the heredocs of the line that ended.
func (s *scanner) skipHeredocs() {
	for _, name := range s.heredoc {
		for s.at < len(s.src) {
			text, _, more := strings.Cut(s.src[s.at:], "\n")
			s.at += len(text)
			if more {
				s.at++
			}
			if strings.TrimSpace(text) == name {
				break
			}
		}
	}
	s.heredoc = nil
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// shellWrappers are commands that run the command behind them. The value says
// which of their flags take a word of their own.
var shellWrappers = map[string]string{
	"sudo": "-u -g -C -h -p -r -t", "env": "-u -C -S", "exec": "-a", "command": "", "time": "-f -o", "nice": "-n", "nohup": "",
	"timeout": "-s -k", "xargs": "-n -P -I -d -a -L -s", "eatmydata": "", "stdbuf": "-i -o -e", "ionice": "-c -n", "gosu": "",
	"if": "", "then": "", "else": "", "elif": "", "do": "", "while": "", "until": "", "!": "", "{": "", "builtin": "",
}

// name is the program that a command runs, and its arguments: wrappers such as
// sudo, words of the grammar and assignments in front are left out.
func (c *shellCommand) name() (string, []shellWord) {
	words, last := c.words, ""
	for len(words) > 0 {
		w := words[0]
		if isAssignment(w) {
			words = words[1:]
			continue
		}
		base := w.text[strings.LastIndexByte(w.text, '/')+1:]
		valued, wrapper := shellWrappers[base]
		if !wrapper {
			return base, words[1:]
		}
		last = base
		words = skipFlags(words[1:], valued)
		if base == "timeout" || base == "gosu" { // their own first argument
			words = words[min(1, len(words)):]
		}
	}
	if last == "env" { // alone it prints
		return last, nil
	}
	return "", nil
}

func skipFlags(words []shellWord, valued string) []shellWord {
	for len(words) > 0 && strings.HasPrefix(words[0].text, "-") {
		takes := false
		for f := range strings.FieldsSeq(valued) {
			takes = takes || f == words[0].text
		}
		words = words[1:]
		if takes && len(words) > 0 {
			words = words[1:]
		}
	}
	return words
}

func isAssignment(w shellWord) bool {
	name, _, ok := strings.Cut(w.text, "=")
	if !ok || name == "" || (name[0] >= '0' && name[0] <= '9') {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if c != '_' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') {
			return false
		}
	}
	return true
}

// uses says whether a wrapper of this name stands in front of the program.
func (c *shellCommand) uses(wrapper string) bool {
	for _, w := range c.words {
		if isAssignment(w) {
			continue
		}
		base := w.text[strings.LastIndexByte(w.text, '/')+1:]
		if base == wrapper {
			return true
		}
		if _, ok := shellWrappers[base]; !ok && !strings.HasPrefix(w.text, "-") {
			return false
		}
	}
	return false
}
