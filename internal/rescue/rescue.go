package rescue

import (
	"fmt"
	"runtime/debug"
)

// Do is work, with a panic as an error that says where.
func Do(work func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &Panic{Value: p, Stack: debug.Stack()}
		}
	}()
	return work()
}

// A Panic is what a goroutine has panicked with.
type Panic struct {
	Value any
	Stack []byte // for who debugs it; not part of the error's text, which users see
}

func (p *Panic) Error() string { return fmt.Sprintf("internal error: %v", p.Value) }
