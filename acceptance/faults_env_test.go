package acceptance

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// within makes cmd run by a shell, after script has changed something for it: sh -c 'script; exec "$@"'.
func within(cmd *exec.Cmd, script string, before ...string) *exec.Cmd {
	words := append(before, "/bin/sh", "-c", script+"\nexec \"$@\"", "sh")
	wrapped := exec.Command(words[0], append(words[1:], cmd.Args...)...)
	wrapped.Dir, wrapped.Env = cmd.Dir, cmd.Env
	return wrapped
}

// inMounts runs it in a mount namespace of its own, which dies with it.
func inMounts(cmd *exec.Cmd, script string) *exec.Cmd {
	wrapped := within(cmd, "set -e\n"+script)
	wrapped.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	return wrapped
}

// ends wants the digest, or code 3 and the words; "" forbids an error.
func (f *faultWorld) ends(when string, o outcome, words string) {
	f.t.Helper()
	switch {
	case o.code == 0 && o.stdout == f.digest:
	case words == "" || o.code != 3 || !strings.Contains(o.stderr, words) || o.stdout != "":
		f.t.Errorf("%s: exit code %d, %q, want %q\n%s", when, o.code, o.stdout, f.digest, o.stderr)
	}
}

// prune removes all that it may.
func (f *faultWorld) prune() outcome {
	f.t.Helper()
	return f.run(exec.Command(binary, "--root", f.root, "prune", "--all", "--force"))
}

// TestHostileF07F08_DamagedFilesOfTheState: cut, emptied, zeroed, a flipped bit, in each kind of file: found when it is used, and
// made again; for a blob that only an output reads by the next build.
func TestHostileF07F08_DamagedFilesOfTheState(t *testing.T) {
	f := newFaultWorld(t)
	f.build(f.args...)
	kinds := map[string]string{} // folder to a file of it
	err := filepath.WalkDir(f.root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(f.root, p)
		if err != nil || strings.Contains(rel+"/", "/fs/") || strings.HasPrefix(rel, "history") || strings.HasPrefix(rel, "stubs") || strings.HasPrefix(rel, "mounts") {
			return err
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() && info.Size() > 2 {
			words := strings.Split(rel, "/")
			kinds[strings.Join(words[:min(len(words)-1, 3)], "/")+fmt.Sprint(len(kinds)%3)] = rel
		}
		return nil
	})
	if err != nil || len(kinds) < 6 {
		t.Fatalf("%v: %v", kinds, err)
	}
	for i, damage := range []func([]byte) []byte{
		func(data []byte) []byte { return data[:len(data)/2] },
		func([]byte) []byte { return nil },
		func(data []byte) []byte { return make([]byte, len(data)) },
		func(data []byte) []byte { data[len(data)/2] ^= 4; return data },
	} {
		for k, kind := range slices.Sorted(maps.Keys(kinds)) {
			if !*allFaults && k%4 != i {
				continue
			}
			rel := kinds[kind]
			full := filepath.Join(f.root, rel)
			data, err := os.ReadFile(full)
			if err != nil {
				continue // the last build replaced it
			}
			if err := os.WriteFile(full, damage(data), 0o600); err != nil { //nolint:gosec // the state directory is private
				t.Fatal(err)
			}
			out := filepath.Join(f.work, fmt.Sprint("out", i))
			o := f.run(f.command(append(f.args, "-o", "type=oci,tar=false,dest="+out, f.dir)...))
			if o.code == 3 && strings.HasPrefix(rel, "version") || o.code == 3 && strings.Contains(rel, "oci-layout") {
				f.fresh() // what says how to read the rest is not guessed
				f.build(f.args...)
				continue
			}
			if o.code == 3 && o.stdout == "" && strings.Contains(o.stderr, "damaged blob removed") {
				o = f.run(f.command(append(f.args, "-o", "type=oci,tar=false,dest="+out, f.dir)...)) // it is made again by the next build
			}
			if o.code != 0 || o.stdout != f.digest {
				t.Errorf("damage %d of %s: exit code %d, %q, want %q\n%s", i, rel, o.code, o.stdout, f.digest, o.stderr)
			}
			if err := os.RemoveAll(out); err != nil {
				t.Fatal(err)
			}
		}
	}
	f.recovered("damaged files")
}

// TestHostileF10_AFileMayNotGrow: RLIMIT_FSIZE, as a quota would.
func TestHostileF10_AFileMayNotGrow(t *testing.T) {
	f := newFaultWorld(t)
	o := f.run(within(f.command(append(f.args, f.dir)...), "ulimit -f 200"))
	if o.code != 3 || !strings.Contains(o.stderr, "file too large") {
		t.Errorf("exit code %d\n%s", o.code, o.stderr)
	}
	f.recovered("a bounded file size")
}

// TestHostileF13_ReadOnly: the state directory cannot be written, or not be made. This is said before any work.
func TestHostileF13_ReadOnly(t *testing.T) {
	f := newFaultWorld(t)
	f.build(f.args...)
	for _, tc := range []struct{ name, script, words string }{
		{"a state directory", "mount --bind " + f.root + " " + f.root + "; mount -o remount,ro,bind " + f.root, "read-only file system"},
		{"the place of one", "rm -rf " + f.root + "; mount --bind " + f.below + " " + f.below + "; mount -o remount,ro,bind " + f.below, "read-only file system"},
	} {
		o := f.run(inMounts(f.command(append(f.args, "--no-cache", f.dir)...), tc.script))
		if o.code != 3 || !strings.Contains(o.stderr, tc.words) || strings.Contains(o.stderr, "Step ") || strings.Contains(o.stderr, "--->") {
			t.Errorf("%s: exit code %d\n%s", tc.name, o.code, o.stderr)
		}
	}
	f.recovered("read-only")
	if err := os.Chmod(f.below, 0o755); err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(f.below, "gobuild") // where others may execute it
	data, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, data, 0o755); err != nil { //nolint:gosec // it is executed by another user
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(f.below), 0o755); err != nil {
		t.Fatal(err)
	}
	denied := []string{"--root", filepath.Join(f.below, "denied")}
	for _, tc := range []struct {
		args  []string
		words []string
	}{
		{append(denied, "images"), []string{"permission denied"}},
		{append(denied, f.dir), []string{"permission denied", "/etc/subuid"}}, // a user without ids of its own gets no further
	} {
		cmd := exec.Command(copied, tc.args...)
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		o := f.run(cmd)
		if o.code != 3 || !slices.ContainsFunc(tc.words, func(w string) bool { return strings.Contains(o.stderr, w) }) {
			t.Errorf("without permission, %v: exit code %d\n%s", tc.args, o.code, o.stderr)
		}
	}
}

// TestHostileF14_FewDescriptors: 256 suffice; with 64 it works or says what lacks.
func TestHostileF14_FewDescriptors(t *testing.T) {
	f := newFaultWorld(t)
	f.ends("256", f.run(within(f.command(append(f.args, f.dir)...), "ulimit -n 256")), "")
	f.fresh()
	f.ends("64", f.run(within(f.command(append(f.args, f.dir)...), "ulimit -n 64")), "too many open files")
	f.fresh()
	f.ends("16", f.run(within(f.command(append(f.args, f.dir)...), "ulimit -n 16")), "too many open files")
	f.recovered("few descriptors")
}

// TestHostileF15_LittleMemory: 256 MiB suffice for a build with its steps; killed by the kernel for its memory it leaves what a kill leaves.
func TestHostileF15_LittleMemory(t *testing.T) {
	f := newFaultWorld(t)
	group := fmt.Sprintf("/sys/fs/cgroup/memory/fault-test-%d", os.Getpid())
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Skip("needs the memory controller of cgroup version 1: ", err)
	}
	limited := func(bytes int) outcome {
		return f.run(within(f.command(append(f.args, f.dir)...), fmt.Sprintf("set -e; echo %d > %s/memory.limit_in_bytes; echo $$ > %s/cgroup.procs", bytes, group, group)))
	}
	f.ends("256 MiB", limited(256<<20), "")
	f.fresh()
	if o := limited(3 << 20); o.code == 0 && o.stdout != f.digest || strings.Contains(o.stderr, "panic") {
		t.Errorf("3 MiB: exit code %d\n%s", o.code, o.stderr)
	}
	f.recovered("too little memory")
	err := os.Remove(group)
	for deadline := time.Now().Add(time.Minute); err != nil && time.Now().Before(deadline); err = os.Remove(group) {
		time.Sleep(10 * time.Millisecond) // the kernel ends the killed ones
	}
	if err != nil {
		t.Errorf("somebody lives in the cgroup: %v", err)
	}
}

// TestHostileF20_EditsThatHide: same size and the same times as before: the change is seen, each time.
func TestHostileF20_EditsThatHide(t *testing.T) {
	w := newWorld(t, "FROM scratch\nCOPY data /\n", map[string]string{"data": "0"})
	seen := map[string]string{}
	full := filepath.Join(w.dir, "data")
	old := time.Unix(1700000000, 0)
	for i := range 12 {
		text := fmt.Sprint(i % 6)
		w.write("data", text)
		if i%2 == 0 { // else: in the same tick as the one before, maybe
			if err := os.Chtimes(full, old, old); err != nil {
				t.Fatal(err)
			}
		}
		digest := w.build("--source-date-epoch", "86400").stdout
		for other, d := range seen {
			if (other == text) != (d == digest) {
				t.Fatalf("edit %d: content %s has %s, content %s has %s", i, text, digest, other, d)
			}
		}
		seen[text] = digest
	}
}

// names are all files below a directory.
func names(t *testing.T, dir string) string {
	t.Helper()
	var list []string
	if err := filepath.WalkDir(dir, func(p string, _ fs.DirEntry, err error) error {
		list = append(list, p)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return strings.Join(list, "\n")
}

// TestHostileF29_ADeadNetwork: no route, no name server, a proxy that is gone: exit code 4 that says which host.
func TestHostileF29_ADeadNetwork(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, base, host string
		env              []string
	}{
		{"no route", "192.0.2.1:5000/x:1", "192.0.2.1", nil},
		{"no route, IPv6", "[2001:db8::1]:5000/x:1", "2001:db8::1", nil},
		{"no name server", "registry.example.com/x:1", "registry.example.com", nil},
		{"a dead proxy", "registry.example.com/x:1", "registry.example.com", []string{"HTTPS_PROXY=http://127.0.0.1:1"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, "FROM "+tc.base+"\n", nil)
			w.env = tc.env
			cmd := w.command(w.dir)
			cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNET}
			if o := w.run(cmd); o.code != 4 || !strings.Contains(o.stderr, tc.host) {
				t.Errorf("exit code %d\n%s", o.code, o.stderr)
			}
		})
	}
}

// TestHostileF35_OddSurroundings: the same digest.
func TestHostileF35_OddSurroundings(t *testing.T) {
	f := newFaultWorld(t)
	for _, tc := range []struct{ name, script, words string }{
		{"no HOME", "unset HOME XDG_DATA_HOME USER LOGNAME", ""},
		{"no environment", "exec env -i \"$@\"", ""},
		{"a folder that is gone", "mkdir gone && cd gone && rmdir ../gone", ""},
		{"nobody may", "umask 0777", ""},
		{"everybody may", "umask 0", ""},
		{"HOME is no folder", "HOME=/dev/null; export HOME", "/dev/null/.docker"},
		{"TMPDIR does not exist", "TMPDIR=/nowhere; export TMPDIR", ""},
	} {
		f.ends(tc.name, f.run(within(f.command(append(f.args, f.dir)...), tc.script)), tc.words)
		f.recovered(tc.name)
		f.fresh()
	}
}

// TestHostileF36_InsideAContainer: a step of gobuild's own is the container. Inside, a build works or says what it lacks.
func TestHostileF36_InsideAContainer(t *testing.T) {
	w := newWorld(t, baseDockerfile+`COPY gobuild /bin/gobuild
COPY inner /inner
RUN mkdir /state && chmod 700 /state; gobuild --root /state --network none /inner; code=$?; echo "inner code $code"; test $code = 0 || test $code = 3
RUN gobuild --root /state2 -f /inner/plain /inner; code=$?; echo "plain code $code"; test $code = 0 || test $code = 3
`, map[string]string{"inner/Dockerfile": "FROM scratch\nCOPY busybox /bin/sh\nRUN [\"/bin/sh\", \"-c\", \"exit 0\"]\n", "inner/plain": "FROM scratch\nCOPY Dockerfile /\n"})
	for from, to := range map[string]string{binary: "gobuild", "/bin/busybox": "inner/busybox"} {
		data, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(w.dir, to), data, 0o755); err != nil { //nolint:gosec // programs
			t.Fatal(err)
		}
	}
	o := w.build()
	if !strings.Contains(o.stderr, "inner code ") || !strings.Contains(o.stderr, "plain code ") {
		t.Errorf("the inner build did not run\n%s", o.stderr)
	}
	if strings.Contains(o.stderr, "inner code 3") && !strings.Contains(o.stderr, "error: ") {
		t.Errorf("no reason was told\n%s", o.stderr)
	}
}

// TestHostileF39_AStepThatCrashes: exit code 1 that names the signal; no core file anywhere.
func TestHostileF39_AStepThatCrashes(t *testing.T) {
	for _, sig := range []string{"SEGV", "SYS", "ABRT"} {
		w := newWorld(t, baseDockerfile+"RUN ulimit -c; kill -"+sig+" $$\n", nil)
		o := w.run(w.command(w.dir))
		if o.code != 1 || !strings.Contains(o.stderr, "Dockerfile:4") || !strings.Contains(o.stderr, "SIG"+sig) {
			t.Errorf("%s: exit code %d\n%s", sig, o.code, o.stderr)
		}
		if list := names(t, filepath.Dir(w.root)); strings.Contains(list, "/core") {
			t.Errorf("a core file is left:\n%s", list)
		}
	}
}

// TestHostileF40_PruneAndRemoveAfterAKill: prune takes all that a killed build left, and rm takes the rest.
func TestHostileF40_PruneAndRemoveAfterAKill(t *testing.T) {
	f := newFaultWorld(t)
	total := f.count(changing, f.mine)
	for _, n := range sample(total, 17) {
		_, hit := f.disturb(changing, f.mine, n, func(pid int) answer {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			return answer{}
		})
		if _, err := os.Stat(filepath.Join(f.root, "version")); err == nil {
			if o := f.prune(); o.code != 0 {
				t.Errorf("%s: prune ends with %d\n%s", hit, o.code, o.stderr)
			}
		}
		if list := f.unfinished(); len(list) > 0 {
			t.Errorf("%s: prune leaves %v", hit, list)
		}
		f.fresh()
	}
}

// TestHostileF08_AStateDirectoryThatWasCopied: elsewhere, with its attributes or without, which are what makes a layer hide what is
// below it: what they are missing from is made again, never taken as it is.
func TestHostileF08_AStateDirectoryThatWasCopied(t *testing.T) {
	w := newWorld(t, baseDockerfile, nil)
	const text = baseDockerfile + "RUN mkdir /d; echo 1 > /d/a\nRUN rm -r /d; mkdir /d; echo 2 > /d/b\n"
	build := func(root, last string) outcome {
		w.write("Dockerfile", text+last)
		o := w.run(w.command("--root", root, "--source-date-epoch", "86400", w.dir))
		if o.code != 0 {
			t.Fatalf("exit code %d\n%s", o.code, o.stderr)
		}
		return o
	}
	const first, last = "RUN ls -R /d > /first\n", "RUN ls -R /d > /last\n"
	want := build(filepath.Join(w.work, "fresh"), last).stdout
	build(w.root, first)
	for name, tc := range map[string]struct {
		copy string
		kept bool // the attributes
	}{
		"cp -a":               {"cp -a", true},
		"as rsync -a would":   {"cp -r --preserve=mode,ownership,timestamps,links", false},
		"cp -r, private only": {"cp -r", false},
	} {
		to := filepath.Join(w.work, strings.ReplaceAll(name, " ", "-"))
		if out, err := exec.Command("sh", "-c", tc.copy+` "$1" "$2" && chmod 700 "$2"`, "sh", w.root, to).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		verify := func() outcome { return w.run(exec.Command(binary, "--root", to, "cache", "verify")) }
		if o := verify(); (o.code == 0) != tc.kept || strings.Contains(o.stdout+o.stderr, "without its extended attributes") == tc.kept {
			t.Errorf("%s: verify ends with %d\n%s%s", name, o.code, o.stdout, o.stderr)
		}
		if o := build(to, last); o.stdout != want || !strings.Contains(o.stderr, "cached 4/5") { // layers have blobs, too
			t.Errorf("%s: %s, want %s\n%s", name, o.stdout, want, o.stderr)
		}
	}
}
