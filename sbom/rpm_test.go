package sbom

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// rpmTree has a database that rpm itself wrote: of a package with an epoch, and of a key, which rpm keeps as a package.
func rpmTree(t *testing.T, release string, at string) string {
	t.Helper()
	const spec = "Name: base\nVersion: 1.0\nRelease: 2.el9\nEpoch: 3\nSummary: s\nLicense: MIT\nURL: https://example.com/base\nVendor: Example Inc.\nBuildArch: noarch\n%description\nd\n%files\n" +
		"%package -n gpg-pubkey\nSummary: k\n%description -n gpg-pubkey\nk\n%files -n gpg-pubkey\n"
	dir := tree(t, map[string]string{"etc/os-release": release})
	work := tree(t, map[string]string{"x.spec": spec})
	run := func(name string, args ...string) {
		t.Helper()
		if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %q: %v\n%s", name, args, err, out)
		}
	}
	run("rpmbuild", "-bb", "--quiet", "--define", "_topdir "+work+"/top", work+"/x.spec")
	files, err := filepath.Glob(work + "/top/RPMS/noarch/*.rpm")
	must(t, err)
	run("rpm", append([]string{"--root", dir, "--define", "_dbpath " + at, "--define", "_db_backend sqlite", "--justdb", "--nodeps", "-i"}, files...)...)
	return dir
}

func TestM4_PackagesOfRpm(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ release, at, purl, distro string }{
		{"ID=\"rhel\"\nVERSION_ID=\"9.4\"\n", "/var/lib/rpm", "pkg:rpm/redhat/base", "rhel-9.4"},
		{"ID=\"opensuse-leap\"\nVERSION_ID=\"15.6\"\n", "/usr/lib/sysimage/rpm", "pkg:rpm/opensuse/base", "opensuse-leap-15.6"},
	} {
		t.Run(tc.distro, func(t *testing.T) {
			t.Parallel()
			dir := rpmTree(t, tc.release, tc.at)
			found := scanDir(t, dir)
			want := []Package{{
				Kind: "rpm", Name: "base", Version: "3:1.0-2.el9", License: "MIT", Supplier: "Example Inc.", Homepage: "https://example.com/base",
				PURL: tc.purl + "@1.0-2.el9?arch=noarch&distro=" + tc.distro + "&epoch=3&upstream=base-1.0-2.el9.src.rpm", Found: []string{tc.at + "/rpmdb.sqlite"},
			}}
			if diff := cmp.Diff(want, found.Packages); diff != "" || len(found.Notes) > 0 {
				t.Errorf("%s\nnotes %q", diff, found.Notes)
			}
		})
	}
}

func TestM4_AnRpmDatabaseWithChangesBesideItIsNotComplete(t *testing.T) {
	t.Parallel()
	dir := tree(t, map[string]string{"var/lib/rpm/rpmdb.sqlite": "SQLite format 3\x00", "var/lib/rpm/rpmdb.sqlite-wal": "frames"})
	if notes := strings.Join(scanDir(t, dir).Notes, "\n"); !strings.Contains(notes, "/var/lib/rpm/rpmdb.sqlite-wal: 6 bytes of changes") || !strings.Contains(notes, "it ends before byte 100") {
		t.Errorf("notes %s", notes)
	}
}
