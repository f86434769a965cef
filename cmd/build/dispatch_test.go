package main

import (
	"slices"
	"strings"
	"testing"
)

func TestN1_Commands(t *testing.T) {
	t.Chdir(t.TempDir())
	tests := []struct {
		args string
		name string
		rest string
		fail string // part of the error or its remedy
	}{
		{args: "", name: "build"},
		{args: ".", name: "build", rest: "."},
		{args: "build .", name: "build", rest: "."},
		{args: "-t x .", name: "build", rest: "-t x ."},
		{args: "-t images", name: "build", rest: "-t images"},
		{args: "-", name: "build", rest: "-"},
		{args: "-- images", name: "build", rest: "-- images"},
		{args: "buildx build -t x .", name: "build", rest: "-t x ."},
		{args: "buildx b .", name: "build", rest: "."},
		{args: "builder build .", name: "build", rest: "."},
		{args: "bud -f x .", name: "build", rest: "-f x ."},
		{args: "images", name: "images"},
		{args: "--root /x images -q", name: "images", rest: "--root /x -q"},
		{args: "--root=/x --no-color images", name: "images", rest: "--root=/x --no-color"},
		{args: "--root images", name: "build", rest: "--root images"},
		{args: "buildx --progress plain du", name: "du", rest: "--progress plain"},
		{args: "cache prune --all", name: "prune", rest: "--all"},
		{args: "builder prune -f", name: "prune", rest: "-f"},
		{args: "help build", name: "help", rest: "build"},
		{args: "help biuld", fail: "did you mean gobuild build"},
		{args: "buildx create --use", fail: "no daemon to manage"},
		{args: "buildx inspect x", fail: "no daemon to manage"},
		{args: "use x", fail: "no daemon to manage"},
		{args: "buildx bake", fail: "gobuild buildx bake is not supported yet"},
		{args: "buildx pruen", fail: "did you mean prune"},
		{args: "buildx", fail: "a command is missing"},
		{args: "cache verify --repair", name: "cache", rest: "verify --repair"},
		{args: "cache export-mount id f", name: "cache", rest: "export-mount id f"},
		{args: "cache rm-muont id", fail: "did you mean rm-mount"},
		{args: "buildx verify", fail: "unknown command"}, // buildx has none
		{args: "doctor", name: "doctor"},
		{args: "explain ^1", name: "explain", rest: "^1"},
		{args: "buildx history ls", name: "history", rest: "ls"},
		{args: "lint .", name: "lint", rest: "."},
		{args: "check --format=json .", name: "check", rest: "--format=json ."},
	}
	for _, tt := range tests {
		inv, err := resolve(strings.Fields(tt.args))
		if tt.fail != "" {
			wantUsage(t, err, tt.fail)
			continue
		}
		if err != nil || inv.name != tt.name || !slices.Equal(inv.args, strings.Fields(tt.rest)) {
			t.Errorf("%q: %+v, %v", tt.args, inv, err)
		}
	}
}

func TestN9_EveryCommandIsKnown(t *testing.T) {
	t.Chdir(t.TempDir())
	const row = `build check lint plan inspect history diff tag untag images rmi push pull copy save load login logout tags catalog
		context ps logs explain report du prune debug doctor version record executor`
	for _, name := range strings.Fields(row) {
		inv, err := resolve([]string{name})
		if err == nil && inv.name != name {
			t.Errorf("%s is taken for the context of %s", name, inv.name)
		}
		if err != nil && !strings.Contains(err.Error(), name) {
			t.Errorf("%s: the error does not name it: %v", name, err)
		}
	}
}

func TestN1_ADirectoryBeatsACommandThatDoesNotExistYet(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	mkdir(t, "bake")
	inv, err := resolve([]string{"bake"})
	if err != nil || inv.name != "build" || !slices.Equal(inv.args, []string{"bake"}) {
		t.Errorf("%+v, %v", inv, err)
	}
}

func TestN5_BudTakesDForDisableCompression(t *testing.T) {
	for bud, want := range map[bool]string{false: "debug", true: "disable-compression"} {
		table := buildFlags()
		if bud {
			swapD(table)
		}
		for _, s := range table {
			if s.short == "D" && s.name != want {
				t.Errorf("bud %v: -D is --%s", bud, s.name)
			}
		}
	}
}

func TestCommandTable(t *testing.T) {
	t.Parallel()
	for _, c := range commands() {
		if c.short == "" || c.group == "" || c.run == nil {
			t.Errorf("%s has an unfinished row", c.name)
		}
		if _, ok := missing()[c.name]; ok {
			t.Errorf("%s is both there and missing", c.name)
		}
		f := newApp(t, nil)
		f.cobraCommand(c, false) // panics when a flag is there twice
	}
}
