package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// oneID is a user without a range of ids.
func oneID(t *testing.T) *rootless {
	t.Helper()
	r := newRootless(t)
	r.ids("")
	return r
}

// A user without a range makes the image that root makes, to the byte, where a step does not look at owners.
func TestG8_OneIDMakesTheImagesOfRoot(t *testing.T) {
	t.Parallel()
	r := oneID(t)
	layout := r.ownersLayout()
	for name, dockerfile := range map[string]string{
		"owners": `FROM scratch
COPY --from=base / /
RUN echo x > /owned && chown 5:7 /owned && mkdir -m 2775 /shared && chown 1000:50 /shared && echo y > /shared/y && mkdir /shared/d && echo z > /shared/d/z
RUN echo s > /set && chmod 4755 /set && chown 0:0 /set && echo t > /t && chmod 6755 /t && chown 3:3 /t && echo u > /u && chown 4:4 /u && chmod 4755 /u
RUN ln -s /etc/passwd /link && chown -h 8:9 /link && chown 6:6 /link && mkfifo /fifo && chown 1:2 /fifo && cd /shared && chown -R 12:13 d
COPY --chown=1000:65534 . /home/user/
USER user
WORKDIR /home/user/work
RUN id -u > id && id -g > gid && whoami > name && ln -s id link && mkfifo fifo && mkdir -p a/b && echo > a/b/c && rm -f /tmp/none; ! chown 0:0 id 2>/dev/null
USER root:user
RUN echo x > /of-group
`,
		"above a base": `FROM image
RUN chown 77:78 /var/spool/mine && rm -r /srv/gone && echo more >> /srv/kept && chmod 600 /srv/kept && mv /srv/moved /srv/there && echo x > /grp/new
COPY --from=image /srv /again
COPY --from=image --chown=1:1 /srv/kept /
RUN --mount=type=cache,target=/c,uid=5 --mount=type=tmpfs,target=/t --mount=type=bind,from=image,target=/i cp /i/srv/kept /c/ && cp /c/kept /copied
`,
		"platforms": `FROM --platform=$BUILDPLATFORM image AS tools
RUN mkdir /out && echo made > /out/made && chown 9:9 /out/made
FROM scratch
COPY --from=tools /out /
`,
	} {
		dir := r.context(strings.ReplaceAll(name, " ", "-"), map[string]string{"Dockerfile": dockerfile, "file": "content\n"})
		if err := os.Symlink("file", filepath.Join(dir, "link")); err != nil {
			t.Fatal(err)
		}
		args := []string{"build", "-q", "--build-context", "base=" + r.base, "--build-context", "image=oci-layout://" + layout, "--source-date-epoch=1000000000", dir}
		user, root := r.must(args...), r.asRoot(args...)
		if user != root || !strings.HasPrefix(user, "sha256:") {
			t.Errorf("%s: %s as a user, %s as root", name, user, root)
		}
	}
}

// ownersLayout is an image with files of several owners.
func (r *rootless) ownersLayout() string {
	r.Helper()
	dir := filepath.Join(filepath.Dir(r.home), "layout")
	from := r.context("image", map[string]string{"Dockerfile": `FROM scratch
COPY --from=base / /
RUN mkdir -p /var/spool/mine /srv/gone /grp && echo 1 > /srv/gone/1 && echo 2 > /srv/kept && echo 3 > /srv/moved && ln -s kept /srv/link && chown -R 33:34 /srv && chown -h 35:36 /srv/link && chown 0:50 /grp && chmod 2755 /grp
`})
	r.asRoot("build", "-q", "--build-context", "base="+r.base, "-o", "type=oci,tar=false,dest="+dir, from)
	err := filepath.WalkDir(dir, func(path string, _ os.DirEntry, err error) error {
		return errors.Join(err, os.Chmod(path, 0o755))
	})
	if err != nil {
		r.Fatal(err)
	}
	return dir
}

// What is less than with a range is said, and what of the files can be seen.
func TestG8_OneIDIsSaid(t *testing.T) {
	t.Parallel()
	r := oneID(t)
	dir := r.context("ctx", map[string]string{"Dockerfile": `FROM scratch
COPY --from=base / /
RUN echo x > /f && chown 5:7 /f && chown 6 /etc/passwd && stat -c 'seen %u:%g' /f && stat -c %a /dev/pts
USER 1000:1000
RUN echo "me $(id -u)"; grep -E '^(CapEff|NoNewPrivs)' /proc/self/status; chown 5:5 /f || echo "not by a user"
`})
	const why = "map ids into a user namespace: /etc/subuid gives user nobody none, and an image's files belong to several users"
	out := filepath.Join(r.home, "out")
	_, errOut, code := r.run(r.command("build", "--progress=plain", "--build-context", "base="+r.base, "-o", out, dir))
	for _, want := range []string{
		"notice: the build has one user id, and records who owns what: " + why + " (sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 nobody)\n",
		"] seen 0:0\n", "] me 1000\n", "] CapEff: 0000000000000000\n", "] not by a user\n",
	} {
		if code != 0 || !strings.Contains(errOut, want) {
			t.Errorf("exit code %d, no %q in\n%s", code, want, errOut)
		}
	}
	if _, err := os.Stat(filepath.Join(out, "f")); err != nil {
		t.Error(err)
	}
	doctor, _, code := r.run(r.command("doctor"))
	for _, want := range []string{"limited  RUN steps          run as root of a user namespace with one id\n", "ok       file owners        any owner can be recorded\n", "limited  subordinate ids    one id\n", why} {
		if code != 0 || !strings.Contains(doctor, want) {
			t.Errorf("exit code %d, no %q in\n%s", code, want, doctor)
		}
	}
	// The state belongs to the rung, for commands that touch its files.
	r.ids("nobody:200000:65536\n")
	_, errOut, code = r.run(r.command("build", dir))
	if code != exitEnvironment || !strings.Contains(errOut, "it was made in a user namespace with one id, and has the owners of files as records\nhint: name another state directory with --root, or remove this one: rm -r "+r.home) {
		t.Errorf("exit code %d\n%s", code, errOut)
	}
	r.must("images")
	r.must("build", "-q", "--build-context", "base="+r.base, "--root", filepath.Join(r.home, "other"), dir)
	r.ids("")
	_, errOut, code = r.run(r.command("build", "--root", filepath.Join(r.home, "other"), dir))
	if code != exitEnvironment || !strings.Contains(errOut, "its files belong to several ids, and this user namespace has one\nhint: name another state directory with --root\n") {
		t.Errorf("exit code %d\n%s", code, errOut)
	}
}

// apt becomes a user of its own unless it is told that there is none. Nothing of that stays in the image.
func TestG8_OneIDTellsApt(t *testing.T) {
	t.Parallel()
	r := oneID(t)
	dir := r.context("ctx", map[string]string{"Dockerfile": "FROM scratch\nCOPY --from=base / /\nRUN mkdir -p /etc/apt/apt.conf.d\nRUN cat /etc/apt/apt.conf.d/*\nRUN ls /etc/apt/apt.conf.d > /list\n"})
	out := filepath.Join(r.home, "out")
	_, errOut, code := r.run(r.command("build", "--progress=plain", "--build-context", "base="+r.base, "-o", out, dir))
	if code != 0 || !strings.Contains(errOut, `] APT::Sandbox::User "root";`) {
		t.Errorf("exit code %d\n%s", code, errOut)
	}
	if list, err := os.ReadDir(filepath.Join(out, "etc/apt/apt.conf.d")); err != nil || len(list) != 0 {
		t.Errorf("%v, %v", list, err)
	}
}
