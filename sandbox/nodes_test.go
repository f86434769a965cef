package sandbox

import (
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"gobuild/internal/treetest"
)

// attributesOfNodes gives each node of /dev in a step the attributes that it has, in every way there is: of the machine's own nodes that
// would show in the time of their last change.
const attributesOfNodes = `
for n in null zero full random urandom tty; do
	chmod $(stat -c %a /dev/$n) /dev/$n || echo BAD mode of $n
	chown $(stat -c %u:%g /dev/$n) /dev/$n || echo BAD owner of $n
	touch -c /dev/$n || echo BAD times of $n
	[ $(stat -c %F /dev/$n | cut -c1-9) = character ] || echo BAD $n
done
echo x > /dev/null && [ $(head -c 3 /dev/zero | wc -c) = 3 ] && [ $(head -c 3 /dev/urandom | wc -c) = 3 ] && ! echo x 2>/dev/null > /dev/full && echo done`

// The nodes of /dev are the step's: it may do with them what it likes, and the machine's are as before.
func TestHostileH70_AttributesOfNodes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	f.guard(t)
	before := treetest.Settings()
	if InUserNamespace() {
		if out, _ := f.sh(t, f.spec(t, "chmod 666 /dev/null 2>/dev/null || echo refused; echo x > /dev/null && echo done")); out != "refused\ndone\n" {
			t.Error(out)
		}
		return
	}
	if out, _ := f.sh(t, f.spec(t, attributesOfNodes)); out != "done\n" {
		t.Error(out)
	}
	if changed := treetest.Changed(before); len(changed) > 0 {
		t.Fatal("what follows would change the machine: ", changed)
	}
	s := f.spec(t, "chmod 600 /dev/null && chown 1000 /dev/zero && stat -c '%a %u' /dev/null /dev/zero; rm /dev/null 2>/dev/null && echo BAD removed; mv /dev/full /dev/x 2>/dev/null && echo BAD moved")
	if out, _ := f.sh(t, s); out != "600 0\n666 1000\n" {
		t.Error(out)
	}
	// The next step has nodes of its own again.
	if out, _ := f.sh(t, f.spec(t, "stat -c '%a %u' /dev/null /dev/zero")); out != "666 0\n666 0\n" {
		t.Error(out)
	}
}

// Where no node can be made, the machine's show, and their attributes cannot be changed.
func TestHostileH70_TheMachinesNodesAreReadOnly(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	f.guard(t)
	c := &child{held: map[int]bool{}}
	_, err := onPrivateThread(func() (int, error) {
		defer c.close()
		nodes, err := c.openDevices()
		if err != nil {
			return -1, err
		}
		for name, fd := range nodes {
			path := "/dev/" + name
			if err := attachAt(fd, path); err != nil {
				return -1, err
			}
			var st unix.Stat_t
			if err := unix.Stat(path, &st); err != nil {
				return -1, err
			}
			if err := unix.Chmod(path, st.Mode&0o7777); !errors.Is(err, unix.EROFS) {
				t.Errorf("mode of %s: %v", path, err)
			}
			if err := unix.Chown(path, int(st.Uid), int(st.Gid)); !errors.Is(err, unix.EROFS) {
				t.Errorf("owner of %s: %v", path, err)
			}
		}
		return -1, os.WriteFile("/dev/null", []byte("x"), 0)
	})
	must(t, err)
}
