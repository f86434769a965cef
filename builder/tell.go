package builder

import (
	"io"
	"time"
)

// tellEvery is how often a transfer says how far it is.
const tellEvery = 200 * time.Millisecond

// telling is a stream that says how far it is. Its beginning and its end are told by whoever made it.
type telling struct {
	io.ReadCloser
	em    *emitter
	name  string // of the transfer
	total int64
	done  int64
	told  time.Time
}

func (t *telling) Read(p []byte) (int, error) {
	n, err := t.ReadCloser.Read(p)
	t.done += int64(n)
	if now := time.Now(); n > 0 && t.done < t.total && now.Sub(t.told) >= tellEvery {
		t.told = now
		t.em.emit(Event{Type: EventTransfer, Text: t.name, Bytes: t.done, Total: t.total})
	}
	return n, err
}
