package stages

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

// budget is what one plan may still spend on expansions and on the texts it
// holds. It makes the cost of a plan linear in a fixed bound, whatever the file
// multiplies with what.
type budget struct{ left int }

func (b *budget) spend(n int) error {
	if b.left -= n; b.left < 0 {
		return errPlanSize
	}
	return nil
}

// expander replaces variables in words, within bounds.
type expander struct {
	escape rune
	budget *budget
}

func newExpander(escape rune) *expander {
	return &expander{escape: escape, budget: &budget{left: maxPlanWork}}
}

// word expands one word; quotes are removed (A18, A19).
func (x *expander) word(word string, env shell.EnvGetter) (shell.ProcessWordResult, error) {
	if plainWord(word, x.escape) {
		return shell.ProcessWordResult{Result: word}, nil
	}
	return x.process(shell.NewLex(x.escape), word, env, maxWord)
}

// words expands one word and splits the result at blanks.
func (x *expander) words(word string, env shell.EnvGetter) ([]string, error) {
	if err := x.guard(x.escape, false, word, env); err != nil {
		return nil, fmt.Errorf("expand %s: %w", quoteShort(word), err)
	}
	list, err := shell.NewLex(x.escape).ProcessWords(word, env)
	if err != nil {
		return nil, fmt.Errorf("expand %s: %w", quoteShort(word), lexError(err))
	}
	return list, nil
}

// heredoc expands a heredoc body: quotes are literal, and the escape character
// is the backslash whatever the directive says (A4, A17).
func (x *expander) heredoc(body string, env shell.EnvGetter) (shell.ProcessWordResult, error) {
	lex := shell.NewLex('\\')
	lex.SkipProcessQuotes = true
	return x.process(lex, body, env, maxDockerfile)
}

// display expands a command for showing it: quotes, escapes and variables that
// have no value stay as they are. Text that cannot be expanded stays whole.
func (x *expander) display(text string, env shell.EnvGetter, raw bool) string {
	g := guard{escape: x.escape, get: env.Get}
	if !validText(text) || len(text) > maxShown {
		return text
	}
	if work, err := g.check(text); err != nil || work > 2*maxShown || x.budget.spend(work) != nil {
		return text
	}
	lex := shell.NewLex(x.escape)
	if raw {
		lex.RawQuotes, lex.RawEscapes, lex.SkipUnsetEnv = true, true, true
	}
	out, _, err := lex.ProcessWord(text, env)
	if err != nil {
		return text
	}
	return out
}

func (x *expander) process(lex *shell.Lex, word string, env shell.EnvGetter, limit int) (shell.ProcessWordResult, error) {
	rawQuotes, escape := lex.SkipProcessQuotes, x.escape
	if rawQuotes {
		escape = '\\'
	}
	if err := x.guard(escape, rawQuotes, word, env); err != nil {
		return shell.ProcessWordResult{}, fmt.Errorf("expand %s: %w", quoteShort(word), err)
	}
	res, err := lex.ProcessWordWithMatches(word, env)
	if err != nil {
		return res, fmt.Errorf("expand %s: %w", quoteShort(word), lexError(err))
	}
	if len(res.Result) > limit {
		return res, fmt.Errorf("expand %s: %w", quoteShort(word), errTooLong)
	}
	return res, nil
}

// guard refuses what the lexer must not see and accounts for the rest.
func (x *expander) guard(escape rune, rawQuotes bool, word string, env shell.EnvGetter) error {
	if !validText(word) {
		return errors.New("contains a NUL or invalid UTF-8")
	}
	g := guard{escape: escape, rawQuotes: rawQuotes, get: env.Get}
	work, err := g.check(word)
	if err != nil {
		return err
	}
	return x.budget.spend(work)
}

// validText reports whether the lexer's scanner takes s without complaint: it
// would print its complaints to standard error.
func validText(s string) bool {
	return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
}

// plainWord reports whether expansion leaves the word as it is.
func plainWord(word string, escape rune) bool {
	return validText(word) && len(word) <= maxWord && !strings.HasPrefix(word, "\uFEFF") && // the scanner drops a mark
		!strings.ContainsAny(word, `$'"<`) && !strings.ContainsRune(word, escape)
}

// lexError is the lexer's message without its wrappers, which repeat the word.
func lexError(err error) error {
	err = innermost(err)
	if strings.HasPrefix(err.Error(), "unsupported modifier (\uFFFF)") || strings.HasPrefix(err.Error(), "unsupported modifier (\uFFFD)") {
		return errors.New("syntax error: missing '}'") // the word ended after the name
	}
	return cause(err)
}

// innermost is the cause below all wrappers: the lexer's repeat the whole word.
func innermost(err error) error {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			return err
		}
		err = next
	}
}
