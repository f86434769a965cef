package sandbox

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Two steps share a cache mount, and so sockets. One sends its root to the other and ends: its files are at rest, whatever the other
// does with what it has.
func TestHostileH66R02_ARootThatIsSentToAnotherStep(t *testing.T) {
	t.Parallel()
	f := attacked(t, Config{})
	for _, name := range []string{"reading", "writing", "writing by an insecure step"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			what, _, insecure := strings.Cut(name, " ")
			shared := newDir(t, f.dir)
			cache := Mount{Type: MountBind, Source: shared, Target: "/c"}
			taker, sender := f.spec(t, ""), f.spec(t, "")
			taker.Args, taker.Mounts = []string{"/bin/attack", "take", "/c/socket", "/c/over"}, []Mount{cache}
			sender.Args, sender.Mounts = []string{"/bin/attack", "send", "/c/socket", what}, []Mount{cache}
			var out, said bytes.Buffer
			taker.Stdout, sender.Stdout = &out, &said
			var all sync.WaitGroup
			all.Go(func() {
				if res, err := f.Run(t.Context(), taker); err != nil || res.ExitCode != 0 {
					t.Errorf("%+v, %v", res, err)
				}
			})
			sender.Insecure = insecure
			res, err := f.Run(t.Context(), sender)
			if name == "writing" && !errors.Is(err, ErrOpenFiles) || name != "writing" && (err != nil || res.ExitCode != 0 || said.String() != "done\n") {
				t.Errorf("%+v, %v, %s", res, err, said.String())
			}
			before, err := os.Lstat(sender.Upper)
			must(t, err)
			mustMkdir(t, filepath.Join(shared, "over"))
			all.Wait()
			if what == "writing" {
				return // the step has failed, and nobody is to use what it leaves; or it could do to its layer what it liked
			}
			if got, want := out.String(), "bin etc mine root tmp \ndone\n"; got != want {
				t.Errorf("%q, want %q", got, want)
			}
			after, err := os.Lstat(sender.Upper)
			must(t, err)
			data, err := os.ReadFile(filepath.Join(sender.Upper, "mine"))
			if got := tree(t, sender.Upper); got != "etc mine" || err != nil || string(data) != "mine\n" || !after.ModTime().Equal(before.ModTime()) {
				t.Errorf("the layer is %q with %q, %v", got, data, err)
			}
		})
	}
}

// A step that ends while descriptors are on their way through its sockets has not sent them to anybody.
func TestHostileH66R02_FilesOnTheirWayThroughSockets(t *testing.T) {
	t.Parallel()
	f := attacked(t, Config{})
	for range 5 {
		if out, res := f.attack(t, f.spec(t, ""), "loop"); out != "done\n" || res.ExitCode != 0 {
			t.Errorf("%q, %+v", out, res)
		}
	}
}
