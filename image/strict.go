package image

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// Errors about documents and content from outside.
var (
	// ErrMalformed says that a document is not what its name says, or means different things to different readers.
	ErrMalformed = errors.New("malformed")
	// ErrTooLarge says that a document crosses a bound of limits.go.
	ErrTooLarge = errors.New("beyond a safety limit")
	// ErrContent says that content does not have the size or digest of its descriptor.
	ErrContent = errors.New("content does not match its descriptor")
)

// decode unmarshals a JSON document into v after checking what encoding/json
// leaves open: it lets the last of two equal keys win and matches keys without regard
// to case, so a document could mean one thing here and another to a registry's scanner.
// Unknown fields are ignored, as the image-spec demands.
func decode(b []byte, v any) error {
	if len(b) > maxDocument {
		return fmt.Errorf("document of more than %d bytes: %w", maxDocument, ErrTooLarge)
	}
	w := walker{dec: json.NewDecoder(bytes.NewReader(b))}
	if err := w.value(reflect.TypeOf(v).Elem(), 0); err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil { // refuses a second document, too
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

// walker reads a document token by token beside the Go type it is meant for.
type walker struct {
	dec    *json.Decoder
	values int
}

func (w *walker) token() (json.Token, error) {
	t, err := w.dec.Token()
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return t, nil
}

// value checks one value. t is nil where the type does not matter.
func (w *walker) value(t reflect.Type, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("nested deeper than %d: %w", maxDepth, ErrTooLarge)
	}
	if w.values++; w.values > maxValues {
		return fmt.Errorf("more than %d values: %w", maxValues, ErrTooLarge)
	}
	tok, err := w.token()
	if err != nil {
		return err
	}
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch tok {
	case json.Delim('{'):
		return w.object(t, depth)
	case json.Delim('['):
		return w.array(t, depth)
	default:
		return nil
	}
}

func (w *walker) array(t reflect.Type, depth int) error {
	if t != nil && t.Kind() == reflect.Slice {
		t = t.Elem()
	} else {
		t = nil
	}
	for w.dec.More() {
		if err := w.value(t, depth+1); err != nil {
			return err
		}
	}
	_, err := w.token()
	return err
}

func (w *walker) object(t reflect.Type, depth int) error {
	var fields map[string]reflect.Type
	var elem reflect.Type
	if t != nil && t.Kind() == reflect.Struct {
		fields = jsonFields(t)
	} else if t != nil && t.Kind() == reflect.Map {
		elem = t.Elem()
	}
	seen := map[string]struct{}{}
	for w.dec.More() {
		tok, err := w.token()
		if err != nil {
			return err
		}
		key, _ := tok.(string) // Token returns only strings where a key must stand
		if _, twice := seen[key]; twice {
			return fmt.Errorf("key %q twice: %w", key, ErrMalformed)
		}
		seen[key] = struct{}{}
		next := elem
		if fields != nil {
			if next, err = field(fields, key); err != nil {
				return err
			}
		}
		if err := w.value(next, depth+1); err != nil {
			return err
		}
	}
	_, err := w.token()
	return err
}

// field finds the type of a key, nil for an unknown one. A key that only differs in
// case from a known one is refused: encoding/json would take it.
func field(fields map[string]reflect.Type, key string) (reflect.Type, error) {
	if t, ok := fields[key]; ok {
		return t, nil
	}
	for name := range fields {
		if strings.EqualFold(name, key) {
			return nil, fmt.Errorf("key %q must be spelled %q: %w", key, name, ErrMalformed)
		}
	}
	return nil, nil
}

// jsonFields lists the keys of a struct with their types. Outer fields shadow
// those of embedded structs, as in encoding/json.
func jsonFields(t reflect.Type) map[string]reflect.Type {
	m := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && name == "" {
			for k, v := range jsonFields(f.Type) {
				if _, ok := m[k]; !ok {
					m[k] = v
				}
			}
			continue
		}
		if name == "" {
			name = f.Name
		}
		m[name] = f.Type // after the embedded ones of a type that lists them first, so it shadows them
	}
	return m
}
