package rescue

import (
	"errors"
	"strings"
	"testing"
)

func TestHostileR31_APanicIsAnError(t *testing.T) {
	t.Parallel()
	err := Do(func() error { panic("that") })
	var p *Panic
	if !errors.As(err, &p) || err.Error() != "internal error: that" || !strings.Contains(string(p.Stack), "rescue_test.go") {
		t.Errorf("%v", err)
	}
	want := errors.New("its own")
	if err := Do(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("%v", err)
	}
}
