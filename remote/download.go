package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"gobuild/internal/netguard"
)

// download is one Fetch under way, over all its tries.
type download struct {
	c     *Client
	req   Request
	named *url.URL
	links *links

	status int       // of the last answer, 0 none
	out    io.Writer // nil before the first body
	done   int64     // bytes written to out
	total  int64     // -1 unknown
	same   string    // validator by which a broken download may go on, "" none
	told   int64     // bytes at the last call of Progress
	res    Result
}

// errSlow ends an exchange that does not move.
var errSlow = errors.New("no answer in time")

// statusError is an answer that is neither the file nor a redirect.
type statusError struct {
	code  int
	after time.Duration // the wait that the server asks for
}

func (s *statusError) Error() string {
	if s.passing() {
		return "the server cannot answer now"
	}
	return ErrStatus.Error()
}

func (s *statusError) Is(target error) bool { return target == ErrStatus }

// passing says whether trying again may help (FEATURES J8).
func (s *statusError) passing() bool {
	return s.code == http.StatusRequestTimeout || s.code == http.StatusTooManyRequests || s.code >= 500
}

func (d *download) prepare() (err error) {
	if d.named, err = parse(d.req.URL); err != nil {
		return err
	}
	if err = d.allowed(d.named); err != nil {
		return err
	}
	d.links, err = d.c.connections()
	return err
}

// attempt asks once for what is missing.
func (d *download) attempt(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	d.status = 0
	resp, err := d.ask(ctx, cancel)
	if err != nil {
		return causeOf(ctx, err)
	}
	defer resp.Body.Close()
	d.status = resp.StatusCode
	switch code := resp.StatusCode; {
	case code == http.StatusNotModified && d.out == nil && d.req.Known != (Validators{}):
		d.res.NotModified = true
		return nil
	case code == http.StatusPartialContent:
		err = d.goOn(resp)
	case code == http.StatusRequestedRangeNotSatisfiable && d.same != "":
		discard(resp)
		err = d.startOver()
	case code >= 200 && code < 300:
		err = d.begin(resp)
	default:
		discard(resp)
		return &statusError{code: code, after: retryAfter(resp.Header.Get("Retry-After"))}
	}
	if err != nil {
		return err
	}
	return causeOf(ctx, d.copy(&watched{r: resp.Body, idle: d.c.times.idle, cancel: cancel}))
}

// causeOf finds why an exchange was ended from this side.
func causeOf(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// ask sends the request and follows redirects.
func (d *download) ask(ctx context.Context, cancel context.CancelCauseFunc) (*http.Response, error) {
	timer := time.AfterFunc(d.c.times.answer, func() { cancel(errSlow) })
	defer timer.Stop()
	u := d.named
	for hop := 0; ; hop++ {
		if hop > maxHops {
			return nil, refuse("", "more than %d redirects", maxHops)
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return nil, fmt.Errorf("%w: it cannot be asked for", ErrURL)
		}
		d.header(req.Header)
		resp, err := d.c.via(d.links, d.named, req).RoundTrip(req)
		if err != nil {
			return nil, err
		}
		next, err := redirected(u, resp)
		if err != nil {
			return nil, err
		}
		if next == nil {
			return resp, nil
		}
		if u.Scheme == "https" && next.Scheme == "http" {
			return nil, refuse("", "the server leads from https to plain http at %s", next.Host)
		}
		if err := d.allowed(next); err != nil {
			return nil, err
		}
		u = next
		timer.Reset(d.c.times.answer)
	}
}

// header says what is wanted: the file as it lies on the server, if it is another than the known one, or its rest.
func (d *download) header(h http.Header) {
	h.Set("User-Agent", d.c.cfg.UserAgent)
	h.Set("Accept-Encoding", "identity")
	switch {
	case d.out == nil:
		if d.req.Known.ETag != "" {
			h.Set("If-None-Match", d.req.Known.ETag)
		}
		if d.req.Known.LastModified != "" {
			h.Set("If-Modified-Since", d.req.Known.LastModified)
		}
	case d.done > 0 && d.same != "":
		h.Set("Range", fmt.Sprintf("bytes=%d-", d.done))
		h.Set("If-Range", d.same)
	}
}

// allowed decides about a URL whoever named it, as far as its text goes; the rest is decided when it is dialled.
func (d *download) allowed(u *url.URL) error {
	switch {
	case u.User != nil:
		return refuse("", "the server leads to a URL with credentials in it, at %s", u.Host)
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return refuse("", "the server leads to a %q URL", u.Scheme)
	}
	// A proxy would dial this one for us.
	if a, err := netip.ParseAddr(u.Hostname()); err == nil && netguard.IsLinkLocal(a) {
		return notLinkLocal(a)
	}
	return nil
}

// redirected is where a redirect leads, nil when the answer is none.
func redirected(from *url.URL, resp *http.Response) (*url.URL, error) {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
	default:
		return nil, nil
	}
	location := resp.Header.Get("Location")
	discard(resp)
	next, err := from.Parse(location)
	if err != nil || location == "" {
		return nil, fmt.Errorf("%w: a redirect to no usable place", ErrContent)
	}
	next.Fragment, next.RawFragment = "", ""
	return next, nil
}

// discard ends an answer whose content does not matter; a short one is read so that the connection can be used again.
func discard(resp *http.Response) {
	_, _ = io.CopyN(io.Discard, resp.Body, maxDiscard)
	_ = resp.Body.Close()
}

// retryAfter reads a number of seconds or a date (RFC 9110, 10.2.3); 0 is none, or nonsense.
func retryAfter(value string) time.Duration {
	if secs, err := strconv.ParseUint(value, 10, 32); err == nil {
		return time.Duration(secs) * time.Second
	}
	if t, err := http.ParseTime(value); err == nil {
		return max(time.Until(t), 0)
	}
	return 0
}

// begin prepares for a body from its start.
func (d *download) begin(resp *http.Response) error {
	d.done, d.told, d.total = 0, 0, resp.ContentLength
	if d.total > d.max() {
		return d.tooLarge()
	}
	d.res = Result{Validators: validators(resp.Header)}
	if t, err := http.ParseTime(d.res.LastModified); err == nil && t.Unix() > 0 {
		d.res.Modified = t
	}
	d.same = resumable(resp.Header, d.res)
	out, err := d.req.Open(d.total)
	if err != nil {
		return &sinkError{err}
	}
	d.out = out
	return nil
}

func (d *download) max() int64 {
	if d.req.Max > 0 {
		return min(d.req.Max, d.c.cfg.MaxBody)
	}
	return d.c.cfg.MaxBody
}

func (d *download) tooLarge() error {
	return fmt.Errorf("%w: more than %d bytes", ErrTooLarge, d.max())
}

// validators are those worth keeping: what would not fit into a request line of ordinary size is not.
func validators(h http.Header) Validators {
	v := Validators{ETag: h.Get("ETag"), LastModified: h.Get("Last-Modified")}
	if len(v.ETag) > maxValidator {
		v.ETag = ""
	}
	if len(v.LastModified) > maxValidator {
		v.LastModified = ""
	}
	return v
}

// resumable is the validator by which parts of two answers are known to be of one file (RFC 9110, 8.8.2.2 and 13.1.5).
func resumable(h http.Header, r Result) string {
	if r.ETag != "" && !strings.HasPrefix(r.ETag, "W/") {
		return r.ETag
	}
	sent, err := http.ParseTime(h.Get("Date"))
	if err != nil || r.Modified.IsZero() || sent.Sub(r.Modified) < time.Second {
		return ""
	}
	return r.LastModified
}

// goOn checks that a continued download continues where the last try broke off.
func (d *download) goOn(resp *http.Response) error {
	if d.done == 0 || d.same == "" {
		return fmt.Errorf("%w: a part was sent where the whole was asked for", ErrContent)
	}
	var start, end, total int64
	n, _ := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-%d/%d", &start, &end, &total)
	if n < 2 || start != d.done || n == 3 && d.total >= 0 && total != d.total {
		return d.startOver()
	}
	return nil
}

// startOver makes the next try ask for the whole.
func (d *download) startOver() error {
	d.same = ""
	return errors.New("the rest of a file was not sent as asked for")
}

// copy writes the body. A body that ends too early is an error after which the next try goes on.
func (d *download) copy(r io.Reader) error {
	buf := make([]byte, copyBuffer)
	for {
		n, err := r.Read(buf)
		if d.done+int64(n) > d.max() {
			return d.tooLarge()
		}
		if _, werr := d.out.Write(buf[:n]); werr != nil {
			return &sinkError{werr}
		}
		d.done += int64(n)
		d.progress(false)
		switch {
		case errors.Is(err, io.EOF) && d.total >= 0 && d.done != d.total:
			return io.ErrUnexpectedEOF
		case errors.Is(err, io.EOF):
			d.res.Size = d.done
			d.progress(true)
			return nil
		case err != nil:
			return err
		}
	}
}

func (d *download) progress(end bool) {
	if d.req.Progress == nil || !end && d.done-d.told < progressStep {
		return
	}
	d.told = d.done
	total := d.total
	if end {
		total = d.done
	}
	d.req.Progress(d.done, total)
}

// watched is a body that ends the exchange when the server goes quiet or only drips.
type watched struct {
	r      io.Reader
	idle   time.Duration
	cancel context.CancelCauseFunc
	waited time.Duration // spent in Read since got was zero
	got    int64
}

func (w *watched) Read(p []byte) (int, error) {
	timer := time.AfterFunc(w.idle, func() { w.cancel(errSlow) })
	start := time.Now()
	n, err := w.r.Read(p)
	timer.Stop()
	w.got += int64(n)
	// Only the time spent waiting for the server counts: the writer may be slow too.
	if w.waited += time.Since(start); w.waited > w.idle {
		if w.got < minRate && err == nil {
			w.cancel(errSlow)
			err = errSlow
		}
		w.waited, w.got = 0, 0
	}
	return n, err
}
