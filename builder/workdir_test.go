package builder

import "testing"

// A folder made for WORKDIR belongs to USER, whom nothing but a RUN checks (B60, B61).
func TestB60_OwnerOfTheFolder(t *testing.T) {
	const passwd, group = "web:x:33:34::/:/bin/sh\n", "www:x:35:\n"
	for _, tc := range []struct{ name, user, owner string }{
		{"a number is user and group", "1000", "1000:1000"},
		{"a number with an entry too", "33", "33:33"},
		{"two numbers", "7:8", "7:8"},
		{"a name brings its group", "web", "33:34"},
		{"names", "web:www", "33:35"},
		{"name and number", "web:9", "33:9"},
		{"root needs no entry", "root", "0:0"},
		{"a name that the image lacks", "nobody", "0:0"},
		{"a group that the image lacks", "web:nogroup", "33:34"},
		{"a name that the image lacks, with a group", "nobody:9", "0:9"},
		{"no user", ":9", "0:9"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			p := newProject(t, "FROM scratch\nCOPY etc /etc\nUSER "+tc.user+"\nWORKDIR /a/b/\n",
				map[string]string{"etc/passwd": passwd, "etc/group": group})
			got, err := p.tree()
			if err != nil {
				t.Fatal(err)
			}
			want := lines("a 0755 "+tc.owner+" /", "a/b 0755 "+tc.owner+" /", "etc 0755 0:0 /", "etc/group 0644 0:0 10", "etc/passwd 0644 0:0 23")
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
	p := newProject(t, "FROM scratch\nUSER 99999999999\nWORKDIR /a\n", nil)
	if _, err := p.tree(); err == nil {
		t.Error("a number out of range became an owner (H08)")
	}
}

func TestB60_WorkdirOfSlashes(t *testing.T) {
	t.Parallel()
	p := newProject(t, "FROM scratch\nWORKDIR //\nWORKDIR /./\nWORKDIR /\n", nil)
	if got, err := p.tree(); err != nil || got != "" {
		t.Errorf("%q, %v: the root is there", got, err)
	}
}
