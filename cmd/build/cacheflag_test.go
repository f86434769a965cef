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
		{text: "type=registry,ref=x,compression=zstd,compression-level=3,force-compression=true", export: true, want: builder.CacheShare{Type: "registry", Ref: "x", Compression: "zstd", Level: "3", Force: true}},
		{text: "type=registry,ref=x,registry.insecure=true", want: builder.CacheShare{Type: "registry", Ref: "x", Insecure: true}},
		{text: "type=local,dest=/c,reset=true", export: true, want: builder.CacheShare{Type: "local", Dir: "/c", Reset: true}},
		{text: "type=local,src=/c,digest=sha256:" + strings.Repeat("a", 64), want: builder.CacheShare{Type: "local", Dir: "/c", Tag: "sha256:" + strings.Repeat("a", 64)}},
		{text: "type=local,src=/c,mounts=true", want: builder.CacheShare{Type: "local", Dir: "/c", Mounts: true}},
		{text: "type=local,dest=/c,mounts=true", export: true, want: builder.CacheShare{Type: "local", Dir: "/c", Mounts: true}},
		{text: "type=registry,ref=x,mounts=true", export: true, err: "type=local"},
		{text: "type=local,src=/c,digest=sha256:a", err: "want sha256"},
		{text: "type=local,src=/c,compression=zstd", err: "unknown key"},
		{text: "type=local,dest=/c,registry.insecure=true", export: true, err: "type=registry"},
		{text: "type=registry,ref=x,reset=true", export: true, err: "type=local"},
		{text: "type=inline,compression=zstd", export: true, err: "layers of the image"},
		{text: "type=registry,ref=x,force-compression=perhaps", export: true, err: "true or false"},
		{text: "type=registry,ref=x,tag=y", err: "ref= has them"},
		{text: "type=registry,ref=x,oci-mediatypes=false", export: true, err: "OCI artifact"},
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
