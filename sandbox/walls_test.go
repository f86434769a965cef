package sandbox

import (
	"os"
	"strings"
	"testing"
)

// kernelFiles are settings of the machine by which a step could reach it.
var kernelFiles = []string{
	"/proc/sys/kernel/core_pattern", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug", "/proc/sys/vm/panic_on_oom", "/proc/sys/fs/file-max",
	"/proc/sys/kernel/panic", "/proc/irq/default_smp_affinity", "/sys/kernel/uevent_helper",
}

// A step as root with Docker's capabilities writes to the machine's settings in each way that a shell has: what they are already, so
// that nothing comes of it where there is no wall.
func TestHostileH69_SettingsOfTheMachine(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	f.guard(t)
	before := map[string]string{}
	for _, name := range kernelFiles {
		if data, err := os.ReadFile(name); err == nil {
			before[name] = string(data)
		}
	}
	if len(before) < 3 {
		t.Fatalf("only %v are here", before)
	}
	out, _ := f.sh(t, f.spec(t, `
for f in `+strings.Join(kernelFiles, " ")+`; do
	v=$(cat $f 2>/dev/null) || continue
	(echo "$v" > $f) 2>/dev/null && echo BAD write $f
	chmod $(stat -c %a $f) $f 2>/dev/null && echo BAD chmod $f
	ln $f /tmp/link 2>/dev/null && echo BAD link $f
done
for f in /proc/sysrq-trigger /proc/sys/fs/binfmt_misc/register /proc/acpi/wakeup; do
	(echo > $f) 2>/dev/null && echo BAD write $f
done
for f in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug /proc/latency_stats; do
	[ -e $f ] && [ "$(head -c 16 $f 2>/dev/null | wc -c)" != 0 ] && echo BAD read $f
done
for d in $(find /sys/fs/cgroup -maxdepth 3 -type d 2>/dev/null); do
	mkdir $d/made 2>/dev/null && rmdir $d/made && echo BAD mkdir $d
	for f in release_agent notify_on_release devices.allow cgroup.procs cgroup.subtree_control; do
		[ -e $d/$f ] && (: >> $d/$f) 2>/dev/null && echo BAD write $d/$f
	done
done
for p in /proc/1 /proc/self; do
	[ -e $p/root/tmp ] && [ -e $p/root/proc/1/root/etc/shadow ] && echo BAD root of $p
done
umount /proc/sys 2>/dev/null && echo BAD umount
mount -o remount,rw /proc/sys 2>/dev/null && echo BAD remount
mount -t proc proc /tmp 2>/dev/null && echo BAD proc
echo done
`))
	if out != "done\n" {
		t.Error(out)
	}
	for name, value := range before {
		if data, err := os.ReadFile(name); err != nil || string(data) != value {
			t.Errorf("%s was %q, is %q, %v", name, value, data, err)
		}
	}
}

// Nodes of devices may be made, and belong in an image, but open nowhere.
func TestHostileH70_DeviceNodesOpenNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	f.guard(t)
	out, _ := f.sh(t, f.spec(t, `
n=0
for dir in / /tmp /dev /dev/shm /root; do
	for node in b:7:0 b:8:0 b:254:0 b:259:0 c:1:1 c:1:2 c:1:4 c:1:11 c:10:200 c:10:229 c:10:232 c:10:237 c:5:1; do
		IFS=: read kind major minor <<-END
		$node
		END
		rm -f $dir/node
		mknod $dir/node $kind $major $minor 2>/dev/null || continue
		n=$((n+1))
		# Nothing is written: opening is what must fail.
		(: < $dir/node) 2>/dev/null && echo BAD reads $dir $node
		(: >> $dir/node) 2>/dev/null && echo BAD writes $dir $node
	done
	rm -f $dir/node
done
[ $n -gt 0 ] || echo BAD nothing was tried
mknod /tmp/null c 1 3 && (echo > /tmp/null) 2>/dev/null && echo BAD a node of null outside of /dev
echo > /dev/null && head -c 4 /dev/urandom | wc -c
`))
	if out != "4\n" {
		t.Error(out)
	}
}

// What a step leaves behind, or does to its init, ends nothing but the step.
func TestHostileH77_SignalsAndDaemons(t *testing.T) {
	t.Parallel()
	f := newFixture(t, Config{})
	f.guard(t)
	for name, script := range map[string]string{
		"a daemon that keeps the output": "setsid sh -c 'trap \"\" TERM HUP INT; sleep 1000 & sleep 1000' & echo fine",
		"a double fork":                  "(setsid sh -c 'setsid sleep 1000 & exit' &) ; echo fine",
		"init is killed":                 "trap '' TERM; kill -9 1; kill -STOP 1; kill -TERM 1 2>/dev/null; echo fine",
		"a tree that is stopped":         "for i in 1 2 3; do sh -c 'kill -STOP $$' & done; echo fine",
	} {
		s := f.spec(t, script)
		out, res := f.sh(t, s)
		if out != "fine\n" || res.ExitCode != 0 {
			t.Errorf("%s: %q, %+v", name, out, res)
		}
		assertGone(t, s)
	}
	s := f.spec(t, "trap '' TERM; kill -9 -1 2>/dev/null; echo fine")
	out, res := f.sh(t, s)
	if res.ExitCode == 0 && out != "fine\n" {
		t.Errorf("kill -9 -1: %q, %+v", out, res)
	}
	assertGone(t, s)
}
