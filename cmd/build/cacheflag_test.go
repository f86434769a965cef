package main

import (
	"reflect"
	"strings"
	"testing"

	"gobuild/builder"
)

func TestI10_CacheFlags(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		text   string
		export bool
		want   builder.CacheShare
		err    string
	}{
		{text: "example.com/cache:main", want: builder.CacheShare{Type: "registry", Ref: "example.com/cache:main"}},
		{text: "type=registry,ref=r/c,mode=max,ignore-error=true", export: true, want: builder.CacheShare{Type: "registry", Ref: "r/c", Max: true, IgnoreError: true}},
		{text: "type=local,src=/c,tag=x", want: builder.CacheShare{Type: "local", Dir: "/c", Tag: "x"}},
		{text: "type=local,dest=/c,mode=min", export: true, want: builder.CacheShare{Type: "local", Dir: "/c"}},
		{text: "type=local", err: "src= is missing"},
		{text: "type=registry", err: "ref= is missing"},
		{text: "ref=x", err: "type= is missing"},
		{text: "type=gha", err: "not supported yet"},
		{text: "type=nfs", err: "unknown type"},
		{text: "type=local,dest=/c", err: "unknown key"},
		{text: "type=registry,ref=x,mode=most", export: true, err: "min or max"},
		{text: "type=registry,ref=x,ref=y", err: "twice"},
		{text: "type=registry,ref=x,compression=zstd", export: true, err: "not supported yet"},
	} {
		got, err := cacheShare(tc.text, tc.export)
		switch {
		case tc.err != "":
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%s: %v, want %q", tc.text, err, tc.err)
			}
		case err != nil || !reflect.DeepEqual(got, tc.want):
			t.Errorf("%s: %+v, %v", tc.text, got, err)
		}
	}
}
