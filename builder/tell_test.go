package builder

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"
	"time"
)

func TestO4_TransfersSayHowFarTheyAre(t *testing.T) {
	t.Parallel()
	var events []Event
	em := newEmitter(func(e Event) { events = append(events, e) }, time.Now)
	data := bytes.Repeat([]byte("x"), 100)
	tell := &telling{ReadCloser: io.NopCloser(iotest.OneByteReader(bytes.NewReader(data))), em: em, name: "layer", total: 100}
	got, err := io.ReadAll(tell)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if len(events) == 0 || len(events) == 100 { // the first byte comes long after nothing was told; then not each
		t.Fatalf("%d events", len(events))
	}
	for i, e := range events {
		if e.Type != EventTransfer || e.Text != "layer" || e.Total != 100 || e.Bytes >= 100 || i > 0 && e.Bytes <= events[i-1].Bytes {
			t.Errorf("event %d: %+v", i, e)
		}
	}
}
