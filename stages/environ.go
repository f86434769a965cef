package stages

import "strings"

// environ is an ordered list of K=V entries with an index. It implements the
// lexer's EnvGetter. Stages built on one another share lists: a copy is made
// when one of them writes, so a chain of stages costs no more than its changes.
type environ struct {
	list   []string       // entries, K=V
	index  map[string]int // key to the first entry with that key
	shared bool           // others read list's elements and index
	lent   int            // so many leading elements are in use by steps of the plan
}

// newEnviron indexes entries as they stand, duplicates included: they are an
// image's, and the image keeps them.
func newEnviron(list []string) *environ {
	e := &environ{list: list[:len(list):len(list)], index: make(map[string]int, len(list))}
	for i, kv := range list {
		k, _, _ := strings.Cut(kv, "=")
		if _, ok := e.index[k]; !ok {
			e.index[k] = i
		}
	}
	e.lent = len(list)
	return e
}

// fork returns an environ with the same entries that can be changed without
// changing e, and the other way round.
func (e *environ) fork() *environ {
	e.shared = true
	return &environ{list: e.list[:len(e.list):len(e.list)], index: e.index, shared: true, lent: len(e.list)}
}

// Get returns the value of key and whether it is set.
func (e *environ) Get(key string) (string, bool) {
	i, ok := e.index[key]
	if !ok {
		return "", false
	}
	_, v, _ := strings.Cut(e.list[i], "=")
	return v, true
}

// Keys returns the names in order of first definition.
func (e *environ) Keys() []string {
	keys := make([]string, len(e.list))
	for i, kv := range e.list {
		keys[i], _, _ = strings.Cut(kv, "=")
	}
	return keys
}

// set replaces the entry of key in place, or appends one. It returns how many
// entries had to be copied for it.
func (e *environ) set(key, value string) (copied int) {
	if e.shared {
		index := make(map[string]int, len(e.index)+1)
		for k, i := range e.index {
			index[k] = i
		}
		e.index, e.shared = index, false
		e.list = append(make([]string, 0, len(e.list)+1), e.list...)
		copied, e.lent = len(e.list), 0
	}
	i, ok := e.index[key]
	if !ok {
		e.index[key] = len(e.list)
		e.list = append(e.list, key+"="+value)
		return copied
	}
	if i < e.lent {
		e.list = append(make([]string, 0, len(e.list)+1), e.list...)
		copied, e.lent = copied+len(e.list), 0
	}
	e.list[i] = key + "=" + value
	return copied
}

// lend returns the entries for keeping: later changes do not show in it.
func (e *environ) lend() []string {
	e.lent = len(e.list)
	return e.list[:len(e.list):len(e.list)]
}

// overlay is an environ with a few values replaced, for display.
type overlay struct {
	*environ
	values map[string]string
}

func (o overlay) Get(key string) (string, bool) {
	if v, ok := o.values[key]; ok {
		return v, true
	}
	return o.environ.Get(key)
}
