package builder

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// contextDir makes files of so many bytes each.
func contextDir(t *testing.T, ignore string, sizes map[string]int) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{".dockerignore": ignore}
	for name, n := range sizes {
		files[name] = strings.Repeat("x", n)
	}
	for name, text := range files {
		full := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(full, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestPain30_ContextSummary(t *testing.T) {
	t.Parallel()
	const ignore = "big\n*.tmp\n!keep.tmp\nnothing\n"
	dir := contextDir(t, ignore, map[string]int{"a": 3, "src/b": 5, "src/c": 7, "big/one": 100, "big/two": 50, "x.tmp": 11, "keep.tmp": 2})
	if err := os.Symlink("a", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	info, err := DescribeContext(t.Context(), Options{Context: dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	n := int64(len(ignore))
	want := &ContextInfo{
		Context: dir, IgnoreFile: filepath.Join(dir, ".dockerignore"),
		In: Amount{6, 17 + n}, Ignored: Amount{3, 161},
		Rules: []RuleUse{
			{Pattern: "big", Line: 1, Matched: true, Amount: Amount{2, 150}}, {Pattern: "*.tmp", Line: 2, Matched: true, Amount: Amount{1, 11}},
			{Pattern: "!keep.tmp", Line: 3, Keeps: true, Matched: true, Amount: Amount{1, 2}}, {Pattern: "nothing", Line: 4},
		},
		Folders: []FolderUse{
			{Name: ".", In: Amount{4, 5 + n}, Ignored: Amount{1, 11}}, {Name: "src", In: Amount{2, 12}}, {Name: "big", Ignored: Amount{2, 150}},
		},
		Largest: []FileSize{{".dockerignore", n}, {"src/c", 7}, {"src/b", 5}, {"a", 3}, {"keep.tmp", 2}},
	}
	if diff := cmp.Diff(want, info); diff != "" {
		t.Error(diff)
	}
}

func TestPain30_OnlyTheLargestFilesAreKept(t *testing.T) {
	t.Parallel()
	sizes := map[string]int{}
	for i := range 30 {
		sizes[fmt.Sprintf("f%02d", i)] = i % 15 // each size twice
	}
	info, err := DescribeContext(t.Context(), Options{Context: contextDir(t, "", sizes)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range info.Largest {
		got = append(got, fmt.Sprintf("%s=%d", f.Path, f.Bytes))
	}
	want := "f14=14 f29=14 f13=13 f28=13 f12=12 f27=12 f11=11 f26=11 f10=10 f25=10"
	if strings.Join(got, " ") != want {
		t.Errorf("%v", got)
	}
}

func TestPain30_PathsAreAnsweredWithTheirRule(t *testing.T) {
	t.Parallel()
	dir := contextDir(t, "out\n**/*.log\n!out/kept\n", map[string]int{"a": 1, "out/x": 2, "out/kept": 4, "d/b.log": 8, "d/c": 16})
	if err := os.Symlink("d", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	paths := []string{"a", "out", "./out//kept", "/d/b.log", "link/b.log", filepath.Join(dir, "d"), "no.log", "no", "a/below", "."}
	info, err := DescribeContext(t.Context(), Options{Context: dir}, paths)
	if err != nil {
		t.Fatal(err)
	}
	n := Amount{1, 23} // the ignore file
	want := []PathAnswer{
		{Path: "a", State: PathIn},
		{Path: "out", State: PathIgnored, Ignored: true, Pattern: "out", Line: 1, Below: &BelowCount{In: Amount{1, 4}, Ignored: Amount{1, 2}}},
		{Path: "out/kept", State: PathIn, Pattern: "!out/kept", Line: 3},
		{Path: "d/b.log", State: PathIgnored, Ignored: true, Pattern: "**/*.log", Line: 2},
		{Path: "link/b.log", Real: "d/b.log", State: PathIgnored, Ignored: true, Pattern: "**/*.log", Line: 2},
		{Path: "d", State: PathIn, Below: &BelowCount{In: Amount{1, 16}, Ignored: Amount{1, 8}}},
		{Path: "no.log", State: PathMissing, Ignored: true, Pattern: "**/*.log", Line: 2},
		{Path: "no", State: PathMissing},
		{Path: "a/below", State: PathMissing},
		{Path: ".", State: PathIn, Below: &BelowCount{In: Amount{4 + n.Files, 21 + n.Bytes}, Ignored: Amount{2, 10}}},
	}
	if diff := cmp.Diff(want, info.Paths); diff != "" {
		t.Error(diff)
	}
	for _, outside := range []string{"..", "../x", "a/../../x"} {
		_, err := DescribeContext(t.Context(), Options{Context: dir}, []string{outside})
		if err == nil || classify(err, CategoryStep).Category != CategoryUsage {
			t.Errorf("%s: %v", outside, err)
		}
	}
}

func TestPain30_TheIgnoreFileIsThatOfTheBuild(t *testing.T) {
	t.Parallel()
	dir := contextDir(t, "a\n", map[string]int{"a": 1, "Dockerfile": 1, "Dockerfile.dockerignore": 0, "sub/Other": 1})
	own := filepath.Join(dir, "sub/Other.dockerignore")
	if err := os.WriteFile(own, []byte("sub\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		opt  Options
		want string
	}{
		{"that of the Dockerfile in the context", Options{}, filepath.Join(dir, "Dockerfile.dockerignore")},
		{"that of the one named", Options{Dockerfile: filepath.Join(dir, "sub/Other")}, own},
		{"of a text from elsewhere the general one", Options{DockerfileText: []byte{}}, filepath.Join(dir, ".dockerignore")},
		{"one that is named", Options{IgnoreFile: own}, own},
	} {
		tt.opt.Context = dir
		info, err := DescribeContext(t.Context(), tt.opt, nil)
		if err != nil || info.IgnoreFile != tt.want {
			t.Errorf("%s: %v, %v", tt.name, info, err)
		}
	}
	if _, err := DescribeContext(t.Context(), Options{Context: dir, IgnoreFile: filepath.Join(dir, "nosuch")}, nil); err == nil {
		t.Error("an ignore file that is not there was passed over")
	}
}
