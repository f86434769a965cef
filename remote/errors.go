package remote

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"golang.org/x/sys/unix"
)

// What went wrong, for errors.Is.
var (
	// ErrURL says that a URL cannot be fetched by anybody.
	ErrURL = errors.New("unusable URL")
	// ErrUnavailable says that the server could not be reached or did not do its work, after all tries.
	ErrUnavailable = errors.New("server unavailable")
	// ErrStatus says that the server answered, and has nothing for us.
	ErrStatus = errors.New("request rejected")
	// ErrContent says that a server sent something other than what was asked for.
	ErrContent = errors.New("content is not what was asked for")
	// ErrRefused says that a server wanted something unsafe: see Remedy for what allows it.
	ErrRefused = errors.New("refused as unsafe")
	// ErrTooLarge says that a body is over the bound.
	ErrTooLarge = errors.New("too large")
)

// Error is a failed fetch.
type Error struct {
	URL    string // as Redact shows it
	Status int    // of the last answer, 0 when there was none
	Err    error
	hint   string
}

func (e *Error) Error() string {
	if e.Status >= 300 {
		return fmt.Sprintf("fetch %s: %d %s: %v", e.URL, e.Status, http.StatusText(e.Status), e.Err)
	}
	return fmt.Sprintf("fetch %s: %v", e.URL, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// Remedy says what to do, "" when nothing is known to help.
func (e *Error) Remedy() string { return e.hint }

// refusal is an error, by default ErrRefused, that knows which setting would allow what was refused.
type refusal struct {
	text, hint string
	kind       error
}

func (r *refusal) Error() string { return r.text + ": " + r.kind.Error() }
func (r *refusal) Unwrap() error { return r.kind }

func refuse(hint, format string, args ...any) error {
	return &refusal{text: fmt.Sprintf(format, args...), hint: hint, kind: ErrRefused}
}

// remedy finds the advice for an error.
func remedy(e *Error) string {
	var (
		refused   *refusal
		unknown   x509.UnknownAuthorityError
		wrongName x509.HostnameError
		notTLS    tls.RecordHeaderError
		dns       *net.DNSError
	)
	switch {
	case errors.Is(e.Err, ErrNoGit):
		return "install git"
	case errors.As(e.Err, &refused):
		return refused.hint
	case strings.Contains(e.Err.Error(), "returned error: 30"): // git's words, whatever the language is set to
		return "the repository has moved: use its new address"
	case errors.As(e.Err, &unknown):
		return "trust the server's certificate authority with --ca FILE"
	case errors.As(e.Err, &wrongName):
		return "use the name that the server's certificate is for"
	case errors.As(e.Err, &notTLS):
		return "the server does not speak TLS at this port: check the URL"
	case errors.As(e.Err, &dns) && dns.IsNotFound:
		return "check the host name"
	case errors.Is(e.Err, unix.ECONNREFUSED):
		return "nothing answers there: check the URL, and that the server is running"
	case e.Status == http.StatusNotFound, e.Status == http.StatusGone:
		return "check the URL"
	case e.Status == http.StatusUnauthorized, e.Status == http.StatusForbidden:
		return "credentials are never sent: fetch it in a RUN with --mount=type=secret"
	case e.Status == http.StatusTooManyRequests:
		return "the server limits how much is fetched: wait, or use a mirror"
	}
	return ""
}

// final says whether trying again cannot cure an error.
func final(err error) bool {
	var (
		dns       *net.DNSError
		cert      *tls.CertificateVerificationError
		notTLS    tls.RecordHeaderError
		unknown   x509.UnknownAuthorityError
		wrongName x509.HostnameError
		invalid   x509.CertificateInvalidError
		sink      *sinkError
		status    *statusError
	)
	switch {
	case errors.Is(err, ErrRefused), errors.Is(err, ErrURL), errors.Is(err, ErrContent), errors.Is(err, ErrTooLarge), errors.As(err, &sink):
		return true
	case errors.As(err, &status):
		return !status.passing()
	case errors.As(err, &dns):
		return dns.IsNotFound
	}
	return errors.As(err, &cert) || errors.As(err, &notTLS) || errors.As(err, &unknown) || errors.As(err, &wrongName) || errors.As(err, &invalid)
}

// sinkError is a failure on this side: of the writer that takes the body.
type sinkError struct{ err error }

func (s *sinkError) Error() string { return s.err.Error() }
func (s *sinkError) Unwrap() error { return s.err }
