package stages

import (
	"fmt"
	"reflect"
	"testing"
)

func TestB40_Destination(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ dir, dest, want string }{
		{"/", "/a", "/a"}, {"/", "a", "/a"}, {"/", "/", "/"}, {"/", ".", "/"}, {"/w", ".", "/w/"}, {"/w", "", "/w/"}, {"/w", "./", "/w/"},
		{"/w", "x/", "/w/x/"}, {"/w", "x/.", "/w/x/"}, {"/w", "../x", "/x"}, {"/w", "../../../x", "/x"}, {"/w", "/a//b/../c/", "/a/c/"},
		{"/w", "/..", "/"}, {"/w", "/x/.", "/x/"},
	} {
		if got := destination(tc.dir, tc.dest); got != tc.want {
			t.Errorf("%q in %q: got %q, want %q", tc.dest, tc.dir, got, tc.want)
		}
	}
}

func TestB49_Modes(t *testing.T) {
	t.Parallel()
	for _, m := range []string{"0", "755", "07777", "4755", "u=rwX,go=rX", "+x", "a+rw,o-w", "u+x-w", "g=u", "u=", "+t", "ug+s"} {
		if !validMode(m) {
			t.Errorf("%s is refused", m)
		}
	}
	for _, m := range []string{"", "8", "9z9", "10000", "17777", "-1", "x", "u=rwz", "u+x,", ",u+x", "u", "0x1", "77 7", "g=uo"} {
		if validMode(m) {
			t.Errorf("%q is accepted", m)
		}
	}
}

func TestCopyPlans(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	local := Source{Kind: SourceContext}
	for _, tc := range []struct {
		name, src string
		want      Copy
		created   string
	}{
		{"B40 several", "COPY a b* /d/", Copy{From: local, Paths: []string{"a", "b*"}, Dest: "/d/"}, "COPY a b* /d/ # buildkit"},
		{"H6 destination as written", "COPY a ./x/../y", Copy{From: local, Paths: []string{"a"}, Dest: "/w/y"}, "COPY a ./x/../y # buildkit"},
		{"H6 flags", "COPY --link --parents --exclude=*.o --exclude=!a.o --chown=1 --chmod=u+x a /d/",
			Copy{From: local, Paths: []string{"a"}, Dest: "/d/", Link: true, Parents: true, Chown: "1", Chmod: "u+x", Excludes: []string{"*.o", "!a.o"}},
			"COPY --parents --chown=1 --chmod=u+x a /d/ # buildkit"},
		{"B50 from", "COPY --from=t a /d/", Copy{From: Source{Kind: SourceStage}, Paths: []string{"a"}, Dest: "/d/"}, "COPY a /d/ # buildkit"},
		{"B50 index", "COPY --from=0 a /d/", Copy{From: Source{Kind: SourceStage}, Paths: []string{"a"}, Dest: "/d/"}, ""},
		{"B50 image", "COPY --from=alpine a /d/", Copy{From: Source{Kind: SourceImage, Image: BaseRef{Name: "alpine", Platform: "linux/amd64"}}, Paths: []string{"a"}, Dest: "/d/"}, ""},
		{"A17 with paths", "COPY a <<E /d/\nx\nE", Copy{From: local, Paths: []string{"a"}, Files: []Inline{{"E", "x\n"}}, Dest: "/d/"}, "COPY a <<E /d/ # buildkit"},
		{"B55 archive", "ADD --unpack=false a.tar /d", Copy{Add: true, From: local, Paths: []string{"a.tar"}, Dest: "/d", Unpack: &no}, "ADD a.tar /d # buildkit"},
		{"B56 URL", "ADD --unpack https://h/x.tgz /d/", Copy{Add: true, From: Source{Kind: SourceHTTP}, URLs: []string{"https://h/x.tgz"}, Dest: "/d/", Unpack: &yes}, "ADD https://h/x.tgz /d/ # buildkit"},
		{"B57 git", "ADD --keep-git-dir=true --checksum=abc123 https://h/r.git?ref=v1#:sub /d", Copy{Add: true, From: Source{Kind: SourceGit},
			URLs: []string{"https://h/r.git?ref=v1#:sub"}, Dest: "/d", KeepGit: &yes, Checksum: "abc123"}, "ADD https://h/r.git?ref=v1#:sub /d # buildkit"},
		{"B57 git scheme", "ADD git://h/r /d", Copy{Add: true, From: Source{Kind: SourceGit}, URLs: []string{"git://h/r"}, Dest: "/d"}, ""},
		{"B57 ssh scheme", "ADD SSH://git@h/r /d", Copy{Add: true, From: Source{Kind: SourceGit}, URLs: []string{"SSH://git@h/r"}, Dest: "/d"}, ""},
		{"B57 scp form", "ADD git@h:r /d", Copy{Add: true, From: Source{Kind: SourceGit}, URLs: []string{"git@h:r"}, Dest: "/d"}, ""},
		{"a path with a colon is local", "ADD ./git@h:r github.com/a/b ftp://x /d/", Copy{Add: true, From: local, Paths: []string{"./git@h:r", "github.com/a/b", "ftp://x"}, Dest: "/d/"}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			plan := mustPlan(t, "FROM busybox AS t\nFROM busybox\nWORKDIR /w\n"+tc.src+"\n")
			if c := firstCopy(t, plan); !reflect.DeepEqual(*c, tc.want) {
				t.Errorf("got  %+v\nwant %+v", *c, tc.want)
			}
			if got := createdBy(plan.Target())[1]; tc.created != "" && got != tc.created {
				t.Errorf("history %q, want %q", got, tc.created)
			}
		})
	}
}

func TestCopyErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, src, text, hint string }{
		{"B49", "COPY --chmod=${x:-888} a b", "invalid --chmod=888", "octal"},
		{"B51 name with link", "COPY --link --chown=bob a b", "cannot be resolved with --link", "numbers"},
		{"B51 group with link", "ADD --link --chown=1:staff a b", "cannot be resolved with --link", "numbers"},
		{"B56 COPY of a URL", "COPY http://h/x b", "not in the build context", "use ADD"},
		{"B57 COPY of git", "COPY git@h:r b", "not in the build context", "use ADD"},
		{"B57 conflict", "ADD --keep-git-dir=false https://h/r.git?keep-git-dir=1 b", "contradicts the flag", ""},
		{"B57 checksum conflict", "ADD --checksum=ab https://h/r.git?commit=cd b", "contradicts --checksum", ""},
		{"C9 unknown option", "ADD https://h/r.git?x=1 b", "unknown option", ""},
		{"C9 option twice", "ADD https://h/r.git?ref=1&ref=2 b", "given twice", ""},
		{"B58 local", "ADD --checksum=sha256:00 a b", "only for URLs", ""},
		{"B58 several", "ADD --checksum=sha256:00 http://h/a http://h/b c/", "exactly one source", ""},
		{"B58 not a digest", "ADD --checksum=sha256:00 http://h/a c/", "invalid checksum digest", "sha256:"},
		{"B58 not a commit", "ADD --checksum=XYZ https://h/a.git c/", "not a commit hash", ""},
		{"B58 only ADD", "COPY --checksum=sha256:00 a b", "unknown flag: --checksum", ""},
		{"lone quote", "COPY a' b", "single-quote", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := planOf("FROM busybox\n"+tc.src+"\n", amd64())
			wantError(t, err, 2, tc.text, tc.hint)
		})
	}
}

// rows: B56 B57
func TestB40_SourcesOfSeveralKinds(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, "FROM busybox\nADD --chown=1 a http://h/b http://h/c a2 https://h/d.git <<e /f/\nx\ne\n")
	c := firstCopy(t, plan)
	var got []string
	for _, p := range c.Parts {
		got = append(got, fmt.Sprintf("%s %q %q %d %s %s %v", p.From.Kind, p.Paths, p.URLs, len(p.Files), p.Dest, p.Chown, p.Add))
	}
	want := []string{`context ["a"] [] 0 /f/ 1 true`, `http [] ["http://h/b" "http://h/c"] 0 /f/ 1 true`, `context ["a2"] [] 0 /f/ 1 true`,
		`git [] ["https://h/d.git"] 0 /f/ 1 true`, `inline [] [] 1 /f/ 1 true`}
	if c.From.Kind != SourceMixed || !reflect.DeepEqual(got, want) {
		t.Errorf("%s %q\nwant %q", c.From.Kind, got, want)
	}
	if history := createdBy(plan.Target())[0]; history != "ADD --chown=1 a http://h/b http://h/c a2 https://h/d.git <<e /f/ # buildkit" {
		t.Errorf("history %q", history)
	}
}
