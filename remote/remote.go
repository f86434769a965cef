package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// Config tells a Client how to reach servers. The zero value reaches any that a user names, directly.
type Config struct {
	CAFile       string        // PEM certificates trusted beside the system's
	AllowPrivate bool          // servers may lead to private addresses
	UserAgent    string        // "" for gobuild
	Tries        int           // of one URL in all; 0 for 5
	Delay        time.Duration // before the second try, doubling after; 0 for 1 s
	MaxBody      int64         // 0 for MaxBody

	// Proxy chooses the proxy of a request, as http.Transport.Proxy does; nil uses none.
	Proxy func(*http.Request) (*url.URL, error)
}

// Client fetches files. Make one with New.
type Client struct {
	cfg   Config
	times times
	sleep func(context.Context, time.Duration) error

	mu    sync.Mutex
	links *links // nil before the first request
}

// times are the bounds on waiting.
type times struct{ dial, answer, idle, git time.Duration }

// New returns a Client. It does no I/O.
func New(cfg Config) (*Client, error) {
	if cfg.Tries < 0 || cfg.Delay < 0 || cfg.MaxBody < 0 {
		return nil, errors.New("remote: negative tries, delay or bound")
	}
	if cfg.Tries == 0 {
		cfg.Tries = defaultTries
	}
	if cfg.Delay == 0 {
		cfg.Delay = defaultDelay
	}
	if cfg.MaxBody == 0 {
		cfg.MaxBody = MaxBody
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "gobuild"
	}
	return &Client{cfg: cfg, times: times{dialTime, answerTime, idleTime, gitAskTime}, sleep: sleep}, nil
}

// Close closes idle connections. Running calls are not ended.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.links == nil {
		return
	}
	for _, t := range c.links.all() {
		t.CloseIdleConnections()
	}
}

// Validators are what a server said by which it knows a version of a file again. They are kept with its bytes.
type Validators struct {
	ETag         string
	LastModified string // as sent
}

// Request says what to fetch.
type Request struct {
	URL   string
	Known Validators // of the bytes that the caller has; the answer may be that they are still right
	Max   int64      // of the body, below Config.MaxBody; 0: that one

	// Open gives the writer for the body. It is called once an answer has one, and again when a download has to start
	// over: what was written before is then void. The caller closes what it opened.
	// It is told how long the body is, -1 where the server does not say.
	Open func(size int64) (io.Writer, error)
	// Progress, if set, is told how much came of how much (-1: unknown), from the goroutine of Fetch.
	Progress func(done, total int64)
	// Waiting, if set, is told why a try failed and how long it is to the next.
	Waiting func(why error, wait time.Duration)
}

// Result is what came.
type Result struct {
	NotModified bool // the bytes that Request.Known belongs to are still right; the other fields are zero
	Validators
	Modified time.Time // Last-Modified, zero when the server named none
	Size     int64
}

// Fetch gets a file whole, or fails.
func (c *Client) Fetch(ctx context.Context, req Request) (Result, error) {
	d := &download{c: c, req: req, total: -1}
	err := d.prepare()
	for try := 1; err == nil; try++ {
		if err = d.attempt(ctx); err == nil {
			return d.res, nil
		}
		if ctx.Err() != nil {
			return Result{}, context.Cause(ctx)
		}
		if final(err) {
			break
		}
		if try == c.cfg.Tries {
			err = fmt.Errorf("%w: given up after %d tries: %w", ErrUnavailable, try, err)
			break
		}
		wait := c.pause(try, err)
		if req.Waiting != nil {
			req.Waiting(err, wait)
		}
		if err = c.sleep(ctx, wait); err != nil {
			return Result{}, err
		}
	}
	e := &Error{URL: Redact(req.URL), Status: d.status, Err: err}
	e.hint = remedy(e)
	return Result{}, e
}

// pause is how long to wait after a try, which the server may have a say in.
func (c *Client) pause(try int, err error) time.Duration {
	var status *statusError
	if errors.As(err, &status) && status.after > 0 {
		return min(status.after, maxRetryAfter)
	}
	d := min(c.cfg.Delay<<(try-1), maxDelay)
	return d/2 + rand.N(d/2+1) // many builds that failed at once should not come back at once
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
