package needles

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
)

// Forms are a value as programs write it: as it is, in base64 wherever it lies in what is encoded, in hexadecimal digits, and
// escaped for URLs and JSON. Line ends after it are not part of it. Forms that are no longer than Shortest-1 are left out.
func Forms(value []byte) [][]byte {
	value = bytes.TrimRight(value, "\r\n")
	if len(value) < Shortest {
		return nil
	}
	lower := hex.EncodeToString(value)
	quoted, _ := json.Marshal(string(value)) // a string always has a JSON form
	texts := []string{
		string(value), lower, strings.ToUpper(lower), url.QueryEscape(string(value)), url.PathEscape(string(value)), strings.Trim(string(quoted), `"`),
	}
	for _, enc := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		for before := range 3 {
			texts = append(texts, inBase64(enc, value, before))
		}
	}
	slices.Sort(texts)
	var list [][]byte
	for _, t := range slices.Compact(texts) {
		if len(t) >= Shortest {
			list = append(list, []byte(t))
		}
	}
	return list
}

// inBase64 are the digits that depend on the value alone when so many bytes, modulo 3, come before it.
func inBase64(enc *base64.Encoding, value []byte, before int) string {
	text := enc.EncodeToString(append(make([]byte, before), value...))
	first := (before*8 + 5) / 6
	return text[first : (before+len(value))*8/6]
}
