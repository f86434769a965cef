package remote

import (
	"fmt"
	"net/url"
	"path"
	"strings"
	"unicode"
)

// Unnamed is the name of a file whose URL gives it none (FEATURES B56).
const Unnamed = "__unnamed__"

// parse checks a URL that the user named.
func parse(raw string) (*url.URL, error) {
	if len(raw) > maxURL {
		return nil, fmt.Errorf("%w: longer than %d bytes", ErrURL, maxURL)
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("%w: it cannot be parsed", ErrURL) // the parser's own words repeat it, secrets included
	}
	u.Fragment, u.RawFragment = "", ""
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%w: its scheme is not http or https", ErrURL)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%w: it has no host", ErrURL)
	case u.User != nil:
		return nil, refuse("fetch it in a RUN with --mount=type=secret: the URL would be in the image's history", "the URL has credentials in it")
	}
	return u, nil
}

// Redact is a URL fit to be shown and stored: without credentials, query and fragment.
func Redact(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "URL"
	}
	shown := url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path, RawPath: u.RawPath}
	return shown.String()
}

// Name is what a file from this URL is called in a folder: the last part of the path, as docker names it.
func Name(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return Unnamed
	}
	name := path.Base(u.Path)
	if name == "." || name == ".." || name == "/" || len(name) > maxName || strings.ContainsFunc(name, unicode.IsControl) {
		return Unnamed
	}
	return name
}
