package stages

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

var (
	errNesting  = fmt.Errorf("variables are nested more than %d deep", maxNesting)
	errTooLong  = fmt.Errorf("expands to more than %d bytes", maxWord)
	errTooMuch  = errors.New("expansion is too expensive")
	errMalform  = errors.New("malformed") // the lexer reports it better
	errPlanSize = errors.New("plan is too large: variables, history and environments together exceed the limit")
)

// guard walks a word as the lexer will, without building anything, and finds
// out what that would cost. The lexer cannot be trusted with hostile words: it
// recurses once for each nested ${, and ${x//?/$y} multiplies lengths. Where
// the word is malformed the walk ends early, as the lexer does.
type guard struct {
	rest      string
	escape    rune
	get       func(string) (string, bool)
	rawQuotes bool // quotes are ordinary characters, as in heredocs
	work      int  // steps and intermediate bytes so far
}

// check returns the cost of expanding word, or an error if it passes a bound.
func (g *guard) check(word string) (int, error) {
	g.rest, g.work = word, len(word)
	if _, err := g.until(0, 0); err != nil && !errors.Is(err, errMalform) {
		return g.work, err
	}
	if g.work > maxWordWork {
		return g.work, errTooMuch
	}
	return g.work, nil
}

func (g *guard) peek() rune {
	if g.rest == "" {
		return 0
	}
	r, _ := utf8.DecodeRuneInString(g.rest)
	return r
}

// next consumes a character and tells its length in bytes, 0 at the end.
func (g *guard) next() (rune, int) {
	if g.rest == "" {
		return 0, 0
	}
	r, n := utf8.DecodeRuneInString(g.rest)
	g.rest = g.rest[n:]
	return r, n
}

// until walks to the unquoted character stop (0: to the end) and returns the
// most bytes that the text before it can expand to.
func (g *guard) until(stop rune, depth int) (int, error) {
	total := 0
	for g.rest != "" {
		ch := g.peek()
		if stop != 0 && ch == stop {
			g.next()
			g.work += total // the lexer copies the text at each level
			return total, nil
		}
		n, err := g.element(ch, depth)
		if err != nil {
			return 0, err
		}
		if total += n; total > maxWordWork {
			return 0, errTooMuch
		}
	}
	if stop != 0 {
		return 0, errMalform
	}
	g.work += total
	return total, nil
}

// element walks one variable, quoted part or character.
func (g *guard) element(ch rune, depth int) (int, error) {
	switch {
	case ch == '$':
		return g.dollar(depth)
	case ch == '\'' && !g.rawQuotes:
		end := strings.IndexByte(g.rest[1:], '\'')
		if end < 0 {
			return 0, errMalform
		}
		g.rest = g.rest[end+2:]
		return 2*end + 2, nil // pattern escapes may be doubled
	case ch == '"' && !g.rawQuotes:
		g.next()
		return g.doubleQuoted(depth)
	}
	_, n := g.next()
	if ch == g.escape {
		_, m := g.next()
		n += m
	}
	return n, nil
}

func (g *guard) doubleQuoted(depth int) (int, error) {
	total := 2
	for g.rest != "" {
		switch ch := g.peek(); ch {
		case '"':
			g.next()
			return total, nil
		case '$':
			n, err := g.dollar(depth)
			if err != nil {
				return 0, err
			}
			if total += n; total > maxWordWork {
				return 0, errTooMuch
			}
		default:
			_, n := g.next()
			if p := g.peek(); ch == g.escape && (p == '"' || p == '$' || p == g.escape) {
				g.next()
				n++
			}
			total += n + 1 // escapes may be doubled
		}
	}
	return 0, errMalform
}

// dollar walks $name or ${...}; the $ is next.
func (g *guard) dollar(depth int) (int, error) {
	g.next()
	if g.peek() != '{' {
		return 1 + g.value(g.name()), nil
	}
	g.next()
	if depth++; depth > maxNesting {
		return 0, errNesting
	}
	switch g.peek() {
	case 0, '{', '}', ':':
		return 0, errMalform
	}
	value := g.value(g.name())
	ch, _ := g.next()
	colon := ch == ':'
	if colon {
		ch, _ = g.next() // whatever it is, the lexer reads a word before it complains
	}
	switch {
	case ch == '}' && !colon:
		return value, nil
	case ch == '/' && !colon:
		return g.replacement(value, depth)
	default:
		word, err := g.until('}', depth)
		if err != nil {
			return 0, err
		}
		if ch == '#' || ch == '%' {
			err = g.match(value, word)
		}
		return max(value, word) + 4, err
	}
}

// replacement walks the rest of ${name/pattern/text} and ${name//pattern/text}.
func (g *guard) replacement(value, depth int) (int, error) {
	all := g.peek() == '/'
	if all {
		g.next()
	}
	pattern, err := g.until('/', depth)
	if err != nil {
		return 0, err
	}
	text, err := g.until('}', depth)
	if err != nil {
		return 0, err
	}
	if err := g.match(value, pattern); err != nil {
		return 0, err
	}
	times := 1
	if all {
		times = value + 1 // an empty match before each byte and at the end
	}
	if n := value + times*text; n <= maxWordWork {
		return n, nil
	}
	return 0, errTooMuch
}

// match adds the steps of compiling and matching a pattern. The latter are at
// most the product of the lengths as the expression engine never backtracks.
func (g *guard) match(value, pattern int) error {
	if value > maxWord || pattern > maxPattern {
		return errTooMuch
	}
	if g.work += patternCost*pattern + (value+1)*(pattern+1)/4; g.work > maxWordWork {
		return errTooMuch
	}
	return nil
}

// value is the length of a variable's value. Each mention counts as work, also
// where the result will be dropped.
func (g *guard) value(name string) int {
	v, ok := g.get(name)
	if !ok {
		return len(name) + 3 // may be kept as written
	}
	g.work += len(v)
	return len(v)
}

// name reads a variable name as the lexer does: digits, one special character,
// or letters, digits and underscores.
func (g *guard) name() string {
	first := g.peek()
	end := 0
	switch {
	case unicode.IsDigit(first):
		end = strings.IndexFunc(g.rest, func(r rune) bool { return !unicode.IsDigit(r) })
	case first != 0 && strings.ContainsRune("@*#?-$!0", first):
		end = 1
	default:
		end = strings.IndexFunc(g.rest, func(r rune) bool {
			return !unicode.IsLetter(r) && !unicode.IsDigit(r) && r != '_'
		})
	}
	if end < 0 {
		end = len(g.rest)
	}
	name := g.rest[:end]
	g.rest = g.rest[end:]
	return name
}
