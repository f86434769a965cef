package cache

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"
)

// Record is what the store keeps for one key.
type Record struct {
	Key     Key
	Slot    string          // what the step was called when it was put, for Nearest
	Created time.Time       // when it was put, UTC
	Payload json.RawMessage // the caller's value
}

const (
	recordHeader = "gobuild record 1\n"
	sumPrefix    = "sum sha256:"
)

// errDamaged marks a file that is not a whole record of ours: a miss, never a failure.
var errDamaged = errors.New("damaged record")

// encodeRecord gives the form described in the package comment.
func encodeRecord(r Record) []byte {
	var body bytes.Buffer
	fmt.Fprintf(&body, "key %s\n", r.Key.Digest())
	fmt.Fprintf(&body, "slot %s\n", strconv.QuoteToASCII(r.Slot))
	fmt.Fprintf(&body, "created %s\n", r.Created.UTC().Format(time.RFC3339Nano))
	fmt.Fprintf(&body, "text %d\n%s", len(r.Key.Text()), r.Key.Text())
	fmt.Fprintf(&body, "payload %d\n%s\n", len(r.Payload), r.Payload)
	return withSum(body.Bytes())
}

// withSum puts the header and the checksum before a body.
func withSum(body []byte) []byte {
	sum := sha256.Sum256(body)
	return append([]byte(recordHeader+sumPrefix+hex.EncodeToString(sum[:])+"\n"), body...)
}

// decodeRecord is the inverse. The checksum is compared before anything is believed; after that each
// line must still have its one form, because a checksum is no proof of who wrote it.
func decodeRecord(data []byte) (Record, error) {
	rest, ok := bytes.CutPrefix(data, []byte(recordHeader))
	if !ok {
		return Record{}, errDamaged
	}
	sumLine, body, ok := bytes.Cut(rest, []byte("\n"))
	sum := sha256.Sum256(body)
	if !ok || string(sumLine) != sumPrefix+hex.EncodeToString(sum[:]) {
		return Record{}, errDamaged
	}
	f := fields{data: body}
	name := f.line("key ")
	slot, slotErr := strconv.Unquote(f.line("slot "))
	created, timeErr := time.Parse(time.RFC3339Nano, f.line("created "))
	text := string(f.block("text "))
	payload := f.block("payload ")
	if f.bad || slotErr != nil || timeErr != nil || string(f.data) != "\n" || !json.Valid(payload) {
		return Record{}, errDamaged
	}
	key, err := ParseKey(text)
	if err != nil || key.Digest().String() != name {
		return Record{}, errDamaged
	}
	return Record{Key: key, Slot: slot, Created: created, Payload: bytes.Clone(payload)}, nil
}

// fields reads a record from the front; bad is set once and for all by the first thing that is not as it should be.
type fields struct {
	data []byte
	bad  bool
}

func (f *fields) line(prefix string) string {
	line, rest, ok := bytes.Cut(f.data, []byte("\n"))
	value, ok2 := bytes.CutPrefix(line, []byte(prefix))
	if !ok || !ok2 {
		f.bad = true
		return ""
	}
	f.data = rest
	return string(value)
}

func (f *fields) block(prefix string) []byte {
	n, err := strconv.Atoi(f.line(prefix))
	if f.bad || err != nil || n < 0 || n > len(f.data) {
		f.bad = true
		return nil
	}
	block := f.data[:n]
	f.data = f.data[n:]
	return block
}
