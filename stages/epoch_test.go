package stages

import (
	"reflect"
	"strings"
	"testing"
)

func TestB11_WhereTheEpochComesFrom(t *testing.T) {
	t.Parallel()
	secs := func(n int64) *int64 { return &n }
	stage := "FROM scratch AS Src\nARG V=1\nADD https://h/$V.tar /\n"
	for _, tc := range []struct {
		name, src string
		args      []string
		want      Epoch
	}{
		{"nowhere", "FROM busybox\n", nil, Epoch{}},
		{"a global ARG", "ARG SOURCE_DATE_EPOCH=12\nFROM busybox\n", nil, Epoch{Seconds: secs(12)}},
		{"not an ARG of a stage", "FROM busybox\nARG SOURCE_DATE_EPOCH=12\n", nil, Epoch{}},
		{"the argument comes first", "ARG SOURCE_DATE_EPOCH=12\nFROM busybox\n", []string{"SOURCE_DATE_EPOCH", "0"}, Epoch{Seconds: secs(0)}},
		{"an empty argument hides the default", "ARG SOURCE_DATE_EPOCH=12\nFROM busybox\n", []string{"SOURCE_DATE_EPOCH", ""}, Epoch{}},
		{"an argument that nobody declares", "FROM busybox\n", []string{"SOURCE_DATE_EPOCH", "context"}, Epoch{Main: true}},
		{"expanded", "ARG A=1\nARG SOURCE_DATE_EPOCH=${A}2\nFROM busybox\n", nil, Epoch{Seconds: secs(12)}},
		{"a named context", "ARG SOURCE_DATE_EPOCH=dir\nFROM busybox\n", nil, Epoch{Context: "dir"}},
		{"a named context before a stage", "ARG SOURCE_DATE_EPOCH=dir\nFROM busybox AS dir\n", nil, Epoch{Context: "dir"}},
		{"a stage", "ARG SOURCE_DATE_EPOCH=src\n" + stage, nil, Epoch{URL: "https://h/1.tar"}},
		{"a stage and an argument", "ARG SOURCE_DATE_EPOCH=src\n" + stage, []string{"V", "2"}, Epoch{URL: "https://h/2.tar"}},
		{"a stage by a named context", "ARG SOURCE_DATE_EPOCH=other\n" + stage, nil, Epoch{URL: "https://h/1.tar"}},
		{"a stage from git", "ARG SOURCE_DATE_EPOCH=s\nARG B=scratch\nFROM $B AS s\nADD --checksum=abc https://h/a.git#x /\n", nil,
			Epoch{URL: "https://h/a.git#x", Git: true, Checksum: "abc"}},
	} {
		f, err := Parse("Dockerfile", []byte(tc.src), ParseOptions{})
		if err != nil {
			t.Fatal(err)
		}
		opt := amd64()
		buildArgs(tc.args...)(&opt)
		opt.Contexts = map[string]Context{"dir": {Dir: true}, "other": {Target: "src"}}
		if !strings.Contains(tc.src, "Src") {
			delete(opt.Contexts, "other")
		}
		if got, err := f.Epoch(opt); err != nil || !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: %+v, %v, want %+v", tc.name, got, err, tc.want)
		}
	}
}

func TestB11_WhatNoEpochCanComeFrom(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, src, text string
		line            int
	}{
		{"a word", "ARG SOURCE_DATE_EPOCH=yesterday\nFROM busybox\n", "is not a time", 1},
		{"before 1970", "ARG SOURCE_DATE_EPOCH=-1\nFROM busybox\n", "no time that files can have", 1},
		{"a stage with a base", "ARG SOURCE_DATE_EPOCH=s\nFROM busybox AS s\nADD https://h/x /\n", "not FROM scratch", 2},
		{"a stage with another instruction", "ARG SOURCE_DATE_EPOCH=s\nFROM scratch AS s\nADD https://h/x /\nCOPY a /\n", "COPY", 4},
		{"a stage without an ADD", "ARG SOURCE_DATE_EPOCH=s\nFROM scratch AS s\nARG x\n", "no ADD", 2},
		{"a stage with two", "ARG SOURCE_DATE_EPOCH=s\nFROM scratch AS s\nADD https://h/x /\nADD https://h/y /\n", "more than one ADD", 4},
		{"two sources", "ARG SOURCE_DATE_EPOCH=s\nFROM scratch AS s\nADD https://h/x https://h/y /\n", "more than one source", 3},
		{"a local source", "ARG SOURCE_DATE_EPOCH=s\nFROM scratch AS s\nADD x /\n", "neither a URL", 3},
		{"a bad checksum", "ARG SOURCE_DATE_EPOCH=s\nFROM scratch AS s\nADD --checksum=x https://h/x /\n", "--checksum=x", 3},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := planOf(tc.src+"FROM busybox\n", amd64())
			hint := "such a stage is FROM scratch"
			if tc.line == 1 {
				hint = "seconds since 1970"
			}
			wantError(t, err, tc.line, tc.text, hint)
		})
	}
}

// What was found out is the value of the argument, and only where it was given or declared.
func TestB11_TheEpochAsAnArgument(t *testing.T) {
	t.Parallel()
	src := "ARG SOURCE_DATE_EPOCH=context\nFROM busybox\nARG SOURCE_DATE_EPOCH\nRUN x\n"
	for _, tc := range []struct {
		src   string
		args  []string
		epoch string
		want  string
		set   bool
	}{
		{src, nil, "12", "12", true},
		{src, nil, "", "", false},
		{src, []string{"SOURCE_DATE_EPOCH", "context"}, "12", "12", true},
		{src, []string{"SOURCE_DATE_EPOCH", "context"}, "", "", false},
		{"FROM busybox\nARG SOURCE_DATE_EPOCH\nRUN x\n", []string{"SOURCE_DATE_EPOCH", "context"}, "12", "12", true},
		{"FROM busybox\nRUN x\n", []string{"SOURCE_DATE_EPOCH", "context"}, "12", "", false},
	} {
		plan := mustPlan(t, tc.src, buildArgs(tc.args...), func(o *Options) { o.Epoch = &tc.epoch })
		if got, set := lookupEnv(firstRun(t, plan).Env, "SOURCE_DATE_EPOCH"); got != tc.want || set != tc.set {
			t.Errorf("%+v: %q, %v", tc, got, set)
		}
	}
}
