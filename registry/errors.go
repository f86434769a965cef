package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/regclient/regclient/types/errs"
	"golang.org/x/sys/unix"
)

// What went wrong, for errors.Is.
var (
	ErrNotFound     = errors.New("not found")
	ErrUnauthorized = errors.New("access denied")
	// ErrUnavailable says that the registry could not be reached or did not do its work, after all retries.
	ErrUnavailable = errors.New("registry unavailable")
	// ErrContent says that a server sent something other than what was asked for.
	ErrContent = errors.New("content is not what was asked for")
	// ErrImmutable says that a tag is there and may not be moved.
	ErrImmutable = errors.New("the tag is immutable")
	// ErrRefused says that a server wanted something unsafe: see Remedy for what allows it.
	ErrRefused = errors.New("refused as unsafe")
)

// Error is a failed operation with all that is known about why.
type Error struct {
	Op         string // "pull", "push", ...
	Host       string // that the requests went to
	Ref        string // image, familiar form
	Scheme     string // "https" or "http", "" before the first request
	Credential string // where the credentials came from, "" when none were sent
	Status     int    // of the last answer, 0 when there was none
	Err        error
	hint       string
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s: ", e.Op, e.Ref)
	if e.Scheme != "" {
		fmt.Fprintf(&b, "%s://", e.Scheme)
	}
	fmt.Fprintf(&b, "%s: ", e.Host)
	if e.Status >= 300 {
		fmt.Fprintf(&b, "%d %s", e.Status, http.StatusText(e.Status))
		if e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden {
			fmt.Fprintf(&b, " (%s)", e.tried())
		}
		b.WriteString(": ")
	}
	b.WriteString(e.Err.Error())
	return b.String()
}

func (e *Error) tried() string {
	if e.Credential == "" {
		return "without credentials"
	}
	return "with credentials from " + e.Credential
}

func (e *Error) Unwrap() error { return e.Err }

// Remedy says what to do, "" when nothing is known to help.
func (e *Error) Remedy() string { return e.hint }

// remedy finds the advice for an error, from the most special cause to the most general.
func remedy(e *Error) string {
	var unknown x509.UnknownAuthorityError
	var wrongName x509.HostnameError
	var notTLS tls.RecordHeaderError
	var refused *refusal
	switch {
	case errors.As(e.Err, &refused):
		return refused.hint
	case errors.As(e.Err, &unknown):
		return "trust the registry's certificate authority with --ca FILE"
	case errors.As(e.Err, &wrongName):
		return "use the name that the registry's certificate is for"
	case errors.As(e.Err, &notTLS):
		return "the registry speaks plain HTTP: if it may be trusted, use --insecure-registry " + e.Host
	case errors.Is(e.Err, unix.ECONNREFUSED):
		return "nothing answers at " + e.Host + ": check the name and port, and that the registry is running"
	case errors.Is(e.Err, ErrImmutable):
		return "push another tag, or use --push-ignore-immutable-tag-errors to leave this one as it is"
	case e.Status == http.StatusMethodNotAllowed && e.Op == "remove":
		return "this registry is set up to keep what it has: its operator must allow deletes"
	case e.Status == http.StatusTooManyRequests && e.Credential == "":
		return "the registry limits how much is pulled: log in with: " + login(e.Host)
	case e.Status == http.StatusTooManyRequests:
		return "the registry limits how much is pulled: wait, or use a mirror"
	case errors.Is(e.Err, ErrUnauthorized) && e.Op == opLogin:
		return "check the user name and the password, or use a token of the registry as the password"
	case errors.Is(e.Err, ErrUnauthorized) && e.Credential == "":
		return "log in with: " + login(e.Host)
	case errors.Is(e.Err, ErrUnauthorized):
		return "check that this account may " + e.Op + ", or log in again with: " + login(e.Host)
	}
	return ""
}

// login is the command that stores a credential where Config.DockerConfig usually points.
func login(host string) string {
	if host == hubDNS {
		return "gobuild login " + hubHost
	}
	return "gobuild login " + host
}

// refusal is an ErrRefused that knows which setting would allow what was refused.
type refusal struct {
	text, hint string
}

func (r *refusal) Error() string        { return r.text + ": " + ErrRefused.Error() }
func (r *refusal) Is(target error) bool { return target == ErrRefused }

func refuse(hint, format string, args ...any) error {
	return &refusal{text: fmt.Sprintf(format, args...), hint: hint}
}

// classify gives an operation's error its kind.
func (o *operation) classify(parent context.Context, err error) error {
	if parent.Err() != nil {
		return context.Cause(parent)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case o.abortErr != nil:
		return o.abortErr
	case errors.Is(err, ErrContent):
		return err
	case o.status == http.StatusUnauthorized, o.status == http.StatusForbidden:
		return o.because(ErrUnauthorized)
	case o.status == http.StatusNotFound, errors.Is(err, errs.ErrNotFound):
		return o.because(ErrNotFound)
	case o.cause != nil:
		return fmt.Errorf("%w: %w", ErrUnavailable, o.cause)
	case o.status == http.StatusTooManyRequests || o.status >= 500:
		return o.because(ErrUnavailable)
	case o.status >= 300:
		return o.because(errors.New("request rejected"))
	}
	return fmt.Errorf("%w: %w", ErrContent, err) // the answer came, and regclient could not use it
}

// because adds what the server said.
func (o *operation) because(err error) error {
	if o.said == "" {
		return err
	}
	return fmt.Errorf("%w: %s", err, o.said)
}
