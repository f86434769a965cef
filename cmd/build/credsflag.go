package main

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"gobuild/registry"
)

// logins reads --creds (FEATURES J4). What names no host is for the one registry that the command line names: a password must
// not go to whatever registry a Dockerfile names.
func (a *app) logins(f flags) ([]registry.Login, error) {
	var list []registry.Login
	for _, text := range f.list("creds") {
		l, err := a.oneLogin(f, text)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(list, func(o registry.Login) bool { return o.Host == l.Host }) {
			return nil, usagef("--creds: there are two for %s", l.Host)
		}
		list = append(list, l)
	}
	if len(list) > 0 && f["creds"].origin == fromFlag {
		a.printer.Notice("--creds: other users of this machine can see a command line; GOBUILD_CREDS and --authfile they cannot")
	}
	return list, nil
}

// oneLogin reads [HOST=]USER:PASSWORD. Its errors never show it.
func (a *app) oneLogin(f flags, text string) (registry.Login, error) {
	var l registry.Login
	rest := text
	if host, after, ok := strings.Cut(text, "="); ok && strings.Contains(after, ":") && looksLikeHost(host) {
		name, err := registry.ParseHost(host)
		if err != nil {
			return l, usagef("--creds: %w", err)
		}
		l.Host, rest = name, after
	}
	var ok bool
	l.User, l.Password, ok = strings.Cut(rest, ":")
	if !ok || l.User == "" || l.Password == "" || len(rest) > maxPassword {
		return l, hint(usagef("--creds: want USER:PASSWORD or HOST=USER:PASSWORD"), "to be asked for the password use gobuild login")
	}
	if l.Host == "" {
		hosts := a.namedHosts(f)
		if len(hosts) != 1 {
			return l, hint(usagef("--creds: the command line names %d registries, so which one gets them?", len(hosts)), "--creds HOST=USER:PASSWORD")
		}
		l.Host = hosts[0]
	}
	return l, nil
}

// looksLikeHost tells a registry from a user name that a password with = in it follows.
func looksLikeHost(s string) bool {
	name, port, ok := strings.Cut(s, ":")
	if _, err := strconv.ParseUint(port, 10, 16); ok && err != nil {
		return false
	}
	return ok || name == "localhost" || strings.Contains(name, ".")
}

// namedHosts are the registries of the tags and images that the command line names.
func (a *app) namedHosts(f flags) []string {
	var hosts []string
	for _, name := range append(slices.Clone(a.named), f.list("tag")...) {
		scheme, rest, ok := strings.Cut(name, "://")
		if !ok {
			rest = name
		} else if scheme != "docker" {
			continue
		}
		if ref, err := registry.ParseReference(rest); err == nil && !slices.Contains(hosts, ref.Host) {
			hosts = append(hosts, ref.Host)
		}
	}
	return hosts
}

// retries reads --retry and --retry-delay (FEATURES J8): how often a request is tried in all, and the first wait; 0 are the defaults.
func retries(f flags) (tries int, delay time.Duration, err error) {
	if f.given("retry") {
		n, err := strconv.ParseUint(f.str("retry"), 10, 16)
		if err != nil || n > maxRetries {
			return 0, 0, usagef("--retry=%s: want a number from 0 to %d", f.str("retry"), maxRetries)
		}
		tries = int(n) + 1
	}
	if f.given("retry-delay") {
		delay, err = time.ParseDuration(f.str("retry-delay"))
		if err != nil || delay < 0 || delay > maxRetryWait {
			return 0, 0, usagef("--retry-delay=%s: want a duration like 500ms or 2s, at most %s", f.str("retry-delay"), maxRetryWait)
		}
		delay = max(delay, time.Millisecond) // 0 would mean the default
	}
	return tries, delay, nil
}
