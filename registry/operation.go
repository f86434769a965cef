package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"unicode"

	"github.com/opencontainers/go-digest"
)

// operation is one call of a Client. It travels in the context of the requests that the call makes,
// takes part in authorizing them, and gathers what an error message needs.
type operation struct {
	ctx      context.Context //nolint:containedctx // requests of token servers belong to the call too
	cancel   context.CancelCauseFunc
	path     string // repository
	push     bool
	manifest bool          // answers with content are manifests
	list     bool          // answers with content are lists, in pages
	access   string        // what the token must allow, when that is not the repository
	upload   digest.Digest // what is being uploaded
	referrer string        // tag of the list of what refers to the subject of the manifest that is being uploaded; "" for none
	from     string        // repository of this registry that may hold it already
	download int64         // length of the blob that is being downloaded, -1 for other operations
	tries    int           // allowed for one request

	mu         sync.Mutex
	status     int    // of the last answer
	said       string // the server's words with it
	cause      error  // of the last failure without an answer
	abortErr   error  // ends the operation: trying again cannot help, or is not wanted
	credential string
	attempts   map[string]int
	mounted    bool
	misfits    int // answers of a wrong length
	listed     int // bytes of lists so far
}

type operationKey struct{}

func newOperation(ctx context.Context, ref Reference, push bool, tries int) *operation {
	o := &operation{path: ref.Path, push: push, tries: tries, download: -1, attempts: map[string]int{}}
	ctx, o.cancel = context.WithCancelCause(ctx)
	o.ctx = context.WithValue(ctx, operationKey{}, o)
	return o
}

func operationOf(ctx context.Context) *operation {
	o, _ := ctx.Value(operationKey{}).(*operation)
	return o
}

// end releases the operation's requests.
func (o *operation) end() { o.cancel(nil) }

// scopes are what the operation's token must allow, none for the registry as such.
func (o *operation) scopes() []string {
	var list []string
	switch {
	case o.access != "":
		list = append(list, o.access)
	case o.path == "":
	case o.push:
		list = append(list, "repository:"+o.path+":pull,push")
	default:
		list = append(list, "repository:"+o.path+":pull")
	}
	if o.from != "" {
		list = append(list, "repository:"+o.from+":pull")
	}
	return list
}

// scope names the token by what it allows.
func (o *operation) scope() string { return strings.Join(o.scopes(), " ") }

// abort ends the operation with err, whatever the layers above would do, and returns err.
func (o *operation) abort(err error) error {
	o.mu.Lock()
	if o.abortErr == nil {
		o.abortErr = err
	}
	o.mu.Unlock()
	o.cancel(err)
	return err
}

// failed notes that a request got no answer.
func (o *operation) failed(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cause, o.status, o.said = err, 0, ""
}

// answered notes an answer.
func (o *operation) answered(status int, said string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cause, o.status, o.said = nil, status, said
}

func (o *operation) lastStatus() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.status
}

// isMounted says whether the registry answered an upload by saying that it has the blob.
func (o *operation) isMounted() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.mounted
}

// denied says whether the registry or its token server did not allow what was asked.
func (o *operation) denied() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return errors.Is(o.abortErr, ErrUnauthorized) || o.status == http.StatusUnauthorized || o.status == http.StatusForbidden
}

// try counts the attempts at one request and says whether this one is allowed. regclient counts
// too, but not the waits that a server asks for.
func (o *operation) try(req *http.Request) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	key := req.Method + " " + req.URL.Path + "?" + req.URL.RawQuery
	o.attempts[key]++
	return o.attempts[key] <= o.tries
}

// exhausted is the error of an operation whose last try is spent.
func (o *operation) exhausted() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.cause != nil:
		return fmt.Errorf("%w: given up after %d tries: %w", ErrUnavailable, o.tries, o.cause)
	case o.said != "":
		return fmt.Errorf("%w: given up after %d tries: %s", ErrUnavailable, o.tries, o.said)
	}
	return fmt.Errorf("%w: given up after %d tries", ErrUnavailable, o.tries)
}

// checkLength refuses a download whose announced length is wrong, after one more try (FEATURES J8).
func (o *operation) checkLength(req *http.Request, resp *http.Response) error {
	if o.download < 0 || req.Method != http.MethodGet || resp.StatusCode != http.StatusOK ||
		resp.ContentLength < 0 || resp.ContentLength == o.download {
		return nil
	}
	err := fmt.Errorf("%w: %d bytes are sent instead of %d", ErrContent, resp.ContentLength, o.download)
	o.mu.Lock()
	o.misfits++
	final := o.misfits > 1
	o.mu.Unlock()
	if final {
		return o.abort(err)
	}
	o.failed(err)
	return err
}

// saying is what a server says about an error, fit to be shown, with a separator before it.
func saying(body []byte) string {
	var doc struct {
		Errors []struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
		Details string `json:"details"`
	}
	text := string(body[:min(len(body), maxErrorBody)])
	if json.Unmarshal(body, &doc) == nil {
		text = doc.Details
		if len(doc.Errors) > 0 {
			text = strings.TrimSpace(doc.Errors[0].Code + " " + doc.Errors[0].Message)
		}
	} else if strings.Contains(strings.ToLower(text), "<html") {
		return "" // a proxy's page says nothing in one line
	}
	text = strings.Join(strings.Fields(strings.Map(printable, text)), " ")
	if text == "" {
		return ""
	}
	return fmt.Sprintf(": %.300s", text)
}

// printable replaces what could act on a terminal.
func printable(r rune) rune {
	if unicode.IsPrint(r) {
		return r
	}
	return ' '
}
