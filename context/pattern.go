package buildcontext

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"
	"sync"
	"unicode/utf8"
)

// PatternError says that a pattern of an instruction cannot be used.
type PatternError struct {
	Pattern string
	Err     error
}

func (e *PatternError) Error() string { return fmt.Sprintf("pattern %q: %v", e.Pattern, e.Err) }
func (e *PatternError) Unwrap() error { return e.Err }

// matchKind is the cheapest test that decides a pattern.
type matchKind uint8

const (
	matchExact  matchKind = iota // path == lit
	matchPrefix                  // "lit**": path begins with lit
	matchSuffix                  // "**lit", and "**/*lit" where lit has no slash: path ends with lit
	matchTail                    // "**/lit": lit is all of the path or its last components
	matchAll                     // "**"
	matchExpr                    // anything else: the expression decides
)

// pattern is one compiled pattern. The semantics are those of
// moby/patternmatcher, which Docker and BuildKit use, on slash paths.
type pattern struct {
	text string
	kind matchKind
	lit  string
	head string // literal bytes every match begins with
	tail string // literal bytes every match ends with
	part string // a whole literal component that every match has, the longest; "" none
	most string // longest literal run, which every match contains
	tree bool   // may match at any depth, or its components cannot be told apart ("**", classes)

	once sync.Once
	expr *regexp.Regexp
}

type tokenKind uint8

const (
	tokenLit     tokenKind = iota // text, literally
	tokenOne                      // "?": a character but slash
	tokenStar                     // "*": any run but slash
	tokenDirs                     // "**/": zero or more directories
	tokenAny                      // "**" inside or at the start, not followed by a slash: as tokenDirs in an expression
	tokenRest                     // "**" at the end: anything
	tokenBracket                  // "[...]"
)

type token struct {
	kind tokenKind
	text string
}

// parsePattern compiles a cleaned pattern without its "!".
func parsePattern(text string) (*pattern, error) {
	if len(text) > maxPatternBytes {
		return nil, fmt.Errorf("longer than %d bytes", maxPatternBytes)
	}
	if _, err := path.Match(text, "."); err != nil {
		return nil, errors.New("malformed: unfinished [ ] or a \\ at the end")
	}
	tokens := tokenize(text)
	if countWild(tokens) > maxPatternWildcards {
		return nil, fmt.Errorf("more than %d wildcards", maxPatternWildcards)
	}
	p := &pattern{text: text}
	p.classify(tokens)
	for _, t := range tokens {
		switch t.kind {
		case tokenBracket: // the only tokens that may not compile, e.g. [b-a]
			if _, err := regexp.Compile(expression(tokens)); err != nil {
				return nil, errors.New("malformed [ ]")
			}
			p.tree = true // [^a] matches a slash too, as in the reference
		case tokenDirs, tokenAny, tokenRest:
			p.tree = true
		case tokenLit, tokenOne, tokenStar:
		}
	}
	return p, nil
}

func countWild(tokens []token) int {
	n := 0
	for _, t := range tokens {
		if t.kind != tokenLit {
			n++
		}
	}
	return n
}

func tokenize(s string) []token {
	var tokens []token
	lit := func(text string) {
		if n := len(tokens); n > 0 && tokens[n-1].kind == tokenLit {
			tokens[n-1].text += text
			return
		}
		tokens = append(tokens, token{kind: tokenLit, text: text})
	}
	for i := 0; i < len(s); {
		rest := s[i:]
		switch {
		case strings.HasPrefix(rest, "**/"):
			kind := tokenDirs
			if len(rest) == 3 {
				kind = tokenRest
			}
			tokens = append(tokens, token{kind: kind})
			i += 3
		case rest == "**":
			tokens = append(tokens, token{kind: tokenRest})
			i += 2
		case strings.HasPrefix(rest, "**"):
			tokens = append(tokens, token{kind: tokenAny})
			i += 2
		case s[i] == '*':
			tokens = append(tokens, token{kind: tokenStar})
			i++
		case s[i] == '?':
			tokens = append(tokens, token{kind: tokenOne})
			i++
		case s[i] == '[':
			n := bracketLen(rest)
			tokens = append(tokens, token{kind: tokenBracket, text: rest[:n]})
			i += n
		case s[i] == '\\' && len(rest) > 1:
			_, n := utf8.DecodeRuneInString(rest[1:])
			lit(rest[1 : 1+n])
			i += 1 + n
		default:
			n := strings.IndexAny(rest[1:], `*?[\`) + 1
			if n == 0 {
				n = len(rest)
			}
			lit(rest[:n])
			i += n
		}
	}
	return tokens
}

// bracketLen is the length of the class at the start of s, which path.Match found well-formed.
func bracketLen(s string) int {
	i := 1
	if i < len(s) && s[i] == '^' {
		i++
	}
	for first := true; i < len(s); first = false {
		switch {
		case s[i] == ']' && !first:
			return i + 1
		case s[i] == '\\':
			i++
		}
		i++
	}
	return len(s)
}

func (p *pattern) classify(tokens []token) {
	if len(tokens) > 0 && tokens[0].kind == tokenLit {
		p.head = tokens[0].text
	}
	if n := len(tokens); n > 0 && tokens[n-1].kind == tokenLit {
		p.tail = tokens[n-1].text
	}
	shape := make([]tokenKind, len(tokens))
	for i, t := range tokens {
		shape[i] = t.kind
	}
	is := func(kinds ...tokenKind) bool { return string(asBytes(shape)) == string(asBytes(kinds)) }
	p.kind = matchExpr
	switch {
	case is(tokenLit):
		p.kind, p.lit = matchExact, tokens[0].text
	case is(tokenRest):
		p.kind = matchAll
	case is(tokenLit, tokenRest):
		p.kind, p.lit = matchPrefix, tokens[0].text
	case is(tokenDirs, tokenLit):
		p.kind, p.lit = matchTail, tokens[1].text
	case is(tokenAny, tokenLit) && !strings.Contains(p.text, `\`): // with an escape the reference uses an expression
		p.kind, p.lit = matchSuffix, tokens[1].text
	case is(tokenDirs, tokenStar, tokenLit) && !strings.Contains(tokens[2].text, "/"):
		p.kind, p.lit = matchSuffix, tokens[2].text
	}
	if p.kind == matchExpr && !utf8.ValidString(p.text) {
		p.head, p.tail, p.tree = "", "", true // an invalid byte stands for any invalid byte there
		return
	}
	p.part = literalComponent(p.text)
	for _, t := range tokens {
		if t.kind == tokenLit && len(t.text) > len(p.most) {
			p.most = t.text
		}
	}
}

// literalComponent is the longest component of a pattern without anything
// special. "a**/b" has none: there "b" need not start a component.
func literalComponent(text string) string {
	if strings.Contains(text, "[") { // a class may stand for a slash
		return ""
	}
	best, before := "", ""
	for part := range strings.SplitSeq(text, "/") {
		glued := strings.HasSuffix(before, "**") && before != "**"
		if !glued && len(part) > len(best) && !strings.ContainsAny(part, `*?\\`) {
			best = part
		}
		before = part
	}
	return best
}

func asBytes(kinds []tokenKind) []byte {
	b := make([]byte, len(kinds))
	for i, k := range kinds {
		b[i] = byte(k)
	}
	return b
}

// expression spells the tokens as a regular expression; Go's are linear in the length of the path.
func expression(tokens []token) string {
	var b strings.Builder
	b.WriteString(`(?s)^`)
	for _, t := range tokens {
		switch t.kind {
		case tokenLit:
			b.WriteString(regexp.QuoteMeta(strings.ToValidUTF8(t.text, "\uFFFD")))
		case tokenOne:
			b.WriteString(`[^/]`)
		case tokenStar:
			b.WriteString(`[^/]*`)
		case tokenDirs, tokenAny:
			b.WriteString(`(?:.*/)?`)
		case tokenRest:
			b.WriteString(`.*`)
		case tokenBracket:
			b.WriteString(bracketExpression(t.text))
		}
	}
	b.WriteString(`$`)
	return b.String()
}

// bracketExpression keeps ranges and "^", and takes all else literally.
func bracketExpression(s string) string {
	var b strings.Builder
	b.WriteByte('[')
	body := s[1 : len(s)-1]
	if strings.HasPrefix(body, "^") {
		b.WriteByte('^')
		body = body[1:]
	}
	for i := 0; i < len(body); {
		if body[i] == '-' {
			b.WriteByte('-')
			i++
			continue
		}
		if body[i] == '\\' && i+1 < len(body) {
			i++
		}
		r, n := utf8.DecodeRuneInString(body[i:])
		fmt.Fprintf(&b, `\x{%x}`, r)
		i += n
	}
	b.WriteByte(']')
	return b.String()
}

func (p *pattern) match(name string) bool {
	switch p.kind {
	case matchExact:
		return name == p.lit
	case matchPrefix:
		return strings.HasPrefix(name, p.lit)
	case matchSuffix:
		return strings.HasSuffix(name, p.lit)
	case matchTail:
		if !strings.HasSuffix(name, p.lit) {
			return false
		}
		rest := len(name) - len(p.lit)
		return rest == 0 || name[rest-1] == '/'
	case matchAll:
		return true
	case matchExpr:
	}
	if !strings.HasPrefix(name, p.head) || !strings.HasSuffix(name, p.tail) {
		return false
	}
	// What most paths fail by, before the expression at a hundred times the cost.
	if !strings.Contains(name, p.most) || !p.tree && strings.Count(name, "/") != strings.Count(p.text, "/") {
		return false
	}
	p.once.Do(func() { p.expr = regexp.MustCompile(expression(tokenize(p.text))) })
	return p.expr.MatchString(name)
}

// mayMatchBelow says whether some path inside the directory dir could match.
// It may say yes where the answer is no: the cost is a directory read in vain.
func (p *pattern) mayMatchBelow(dir string) bool {
	if n := len(dir); len(p.head) > n {
		if p.head[:n] != dir || p.head[n] != '/' {
			return false
		}
	} else if !strings.HasPrefix(dir, p.head) {
		return false
	}
	if p.tree {
		return true
	}
	return componentsLead(p.text, dir)
}

// componentsLead compares a pattern without "**" and classes with the directory, component by component.
func componentsLead(text, dir string) bool {
	for {
		want, restWant, more := strings.Cut(text, "/")
		have, restHave, deeper := strings.Cut(dir, "/")
		if !more {
			return false // the pattern ends here or above
		}
		if ok, err := path.Match(want, have); err != nil || !ok {
			return err != nil
		}
		if !deeper {
			return true
		}
		text, dir = restWant, restHave
	}
}
