package stages

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestA16_HeredocInRun(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, run string
		args      []string
		files     []Inline
		created   string
	}{
		{"alone: the body is the command", "RUN <<E\necho $a\nE\n", []string{"/bin/sh", "-c", "echo $a\n"}, nil, "RUN /bin/sh -c echo $a\n # buildkit"},
		{"quoting makes no difference", "RUN <<'E'\necho $a\nE\n", []string{"/bin/sh", "-c", "echo $a\n"}, nil, ""},
		{"tabs are stripped", "RUN <<-E\n\techo\n\tE\n", []string{"/bin/sh", "-c", "echo\n"}, nil, ""},
		{"a script runs without the shell", "RUN <<E\n#!/bin/x\na\nE\n", []string{"/dev/pipes/E"}, []Inline{{"E", "#!/bin/x\na\n"}},
			"RUN /bin/sh -c /dev/pipes/E # buildkit"},
		{"a script with tabs", "RUN <<-E\n\t#!/bin/x\n\tE\n", []string{"/dev/pipes/E"}, []Inline{{"E", "#!/bin/x\n"}}, ""},
		{"with anything else the shell gets it all", "RUN cat <<A 3<<-B > f\na$x\nA\n\tb\n\tB\n",
			[]string{"/bin/sh", "-c", "cat <<A 3<<-B > f\na$x\nA\n\tb\nB"}, nil, ""},
		{"a name that is no file name", "RUN <<a/b\nx\na/b\n", []string{"/bin/sh", "-c", "x\n"}, nil, ""},
		{"exec form has none", "RUN [\"<<E\"]\n", []string{"<<E"}, nil, "RUN <<E # buildkit"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			plan := mustPlan(t, "FROM busybox\n"+tc.run)
			r := firstRun(t, plan)
			if !reflect.DeepEqual(r.Args, tc.args) || !reflect.DeepEqual(r.Files, tc.files) {
				t.Errorf("args %q, files %q", r.Args, r.Files)
			}
			if got := createdBy(plan.Target())[0]; tc.created != "" && got != tc.created {
				t.Errorf("history %q", got)
			}
		})
	}
}

func TestA16_ScriptNameIsAPlainFileName(t *testing.T) {
	t.Parallel()
	_, err := planOf("FROM busybox\nRUN <<../x\n#!/bin/sh\n../x\n", amd64())
	wantError(t, err, 2, "not a plain file name", "")
}

func TestB20_NamelessVariable(t *testing.T) {
	t.Parallel()
	_, err := planOf("FROM busybox\nENV $unset=x\nRUN x\n", amd64())
	wantError(t, err, 3, "variable without a name", "expands to nothing")
}

func u32(n uint32) *uint32 { return &n }

func TestB21toB27_Mounts(t *testing.T) {
	t.Parallel()
	context := Source{Kind: SourceContext}
	for _, tc := range []struct {
		name, flag string
		want       Mount
	}{
		{"B22 defaults", "target=/x", Mount{Type: MountBind, Target: "/x", From: context, Path: "/", ReadOnly: true}},
		{"B22 source", "dst=/x/../y/,src=a/../b", Mount{Type: MountBind, Target: "/y", From: context, Path: "/b", ReadOnly: true}},
		{"B22 rw", "destination=/x,rw", Mount{Type: MountBind, Target: "/x", From: context, Path: "/"}},
		{"B22 readonly=false", "target=/x,readonly=false", Mount{Type: MountBind, Target: "/x", From: context, Path: "/"}},
		{"B22 stage", "target=/x,from=T", Mount{Type: MountBind, Target: "/x", From: Source{Kind: SourceStage}, Path: "/", ReadOnly: true}},
		{"B22 scratch", "target=/x,from=scratch", Mount{Type: MountBind, Target: "/x", From: Source{Kind: SourceScratch}, Path: "/", ReadOnly: true}},
		{"B22 image", "target=/x,from=alpine:1", Mount{Type: MountBind, Target: "/x", Path: "/", ReadOnly: true,
			From: Source{Kind: SourceImage, Image: BaseRef{Name: "alpine:1", Platform: "linux/amd64"}}}},
		{"B21 relative target", "target=x", Mount{Type: MountBind, Target: "/w/x", From: context, Path: "/", ReadOnly: true}},
		{"B21 keys in any case, quoted", `'"TARGET=/a,b"'`, Mount{Type: MountBind, Target: "/a,b", From: context, Path: "/", ReadOnly: true}},
		{"B22 without target", "source=a", Mount{Type: MountBind, Target: "/w", From: context, Path: "/a", ReadOnly: true}},
		{"B23 defaults", "type=cache,target=/c//d/", Mount{Type: MountCache, Target: "/c/d", ID: "/c/d", Sharing: "shared"}},
		{"B23 relative: id as written", "type=cache,target=./d", Mount{Type: MountCache, Target: "/w/d", ID: "d", Sharing: "shared"}},
		{"B23 all", "type=cache,target=/c,id=i,ro,sharing=LOCKED,from=t,source=s,mode=700,uid=1,gid=2",
			Mount{Type: MountCache, Target: "/c", ID: "i", ReadOnly: true, Sharing: "locked", From: Source{Kind: SourceStage}, Path: "/s", Mode: u32(0o700), UID: u32(1), GID: u32(2)}},
		{"B24", "type=tmpfs,target=/t,size=1m", Mount{Type: MountTmpfs, Target: "/t", Size: 1 << 20}},
		{"B25 id", "type=secret,id=a/b", Mount{Type: MountSecret, ID: "a/b", Target: "/run/secrets/b", ReadOnly: true}},
		{"B25 source", "type=secret,source=s,required", Mount{Type: MountSecret, ID: "s", Target: "/run/secrets/s", ReadOnly: true, Required: true}},
		{"B25 target", "type=secret,target=/a/b", Mount{Type: MountSecret, ID: "b", Target: "/a/b", ReadOnly: true}},
		{"B25 env", "type=secret,id=s,env=V", Mount{Type: MountSecret, ID: "s", Env: "V", ReadOnly: true}},
		{"B25 env and target", "type=secret,id=s,env=V,target=/x,mode=0444", Mount{Type: MountSecret, ID: "s", Env: "V", Target: "/x", ReadOnly: true, Mode: u32(0o444)}},
		{"B26", "type=ssh", Mount{Type: MountSSH, ID: "default", Target: "/run/buildkit/ssh_agent.0", ReadOnly: true}},
		{"B26 id", "type=ssh,id=k,target=/s,required=true", Mount{Type: MountSSH, ID: "k", Target: "/s", ReadOnly: true, Required: true}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := firstRun(t, mustPlan(t, "FROM busybox AS t\nFROM busybox\nWORKDIR /w\nRUN --mount="+tc.flag+" x\n"))
			if !reflect.DeepEqual(r.Mounts[0], tc.want) {
				t.Errorf("got  %+v\nwant %+v", r.Mounts[0], tc.want)
			}
		})
	}
}

func TestMountErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, flag, text, hint string }{
		{"B21 unknown key", "tarrget=/x", "unexpected key 'tarrget'", "did you mean target?"},
		{"H-07 propagation", "target=/x,bind-propagation=shared", "unexpected key 'bind-propagation'", ""},
		{"H-07 relabel", "target=/x,Z", "must be a key=value pair", ""},
		{"B21 root", "target=/", "root directory", ""},
		{"B21 root in disguise", "target=/x/..", "root directory", ""},
		{"B21 unknown type", "type=cach,target=/x", "unsupported mount type", "did you mean cache?"},
		{"B21 CSV", `'"target=/x'`, "csv", ""},
		{"B22 bad bool", "target=/x,rw=maybe", "invalid value", ""},
		{"B23 no target", "type=cache", "target is missing", ""},
		{"B23 sharing", "type=cache,target=/x,sharing=lokced", "unsupported sharing", "did you mean locked?"},
		{"B23 mode", "type=cache,target=/x,mode=9", "invalid value 9 for mode", ""},
		{"B23 source without from", "type=cache,target=/x,source=y", "source needs a from", ""},
		{"B24 from", "type=tmpfs,target=/x,from=busybox", "from is not allowed", ""},
		{"B24 mode", "type=tmpfs,target=/x,mode=700", "mode not allowed", ""},
		{"B25 id and source", "type=secret,id=a,source=b", "both source and id", ""},
		{"B25 nothing", "type=secret,env=X", "one of source, target required", ""},
		{"B25 blank env", "type=secret,id=a,env=", "not the name of a variable", ""},
		{"B25 id is no name", "type=secret,id=..", "names no file", ""},
		{"B26 source", "type=ssh,source=x", "source is not allowed", ""},
		{"B27 uid on bind", "target=/x,uid=1", "uid not allowed", ""},
		{"B27 sharing on bind", "target=/x,sharing=shared", "invalid cache sharing", ""},
		{"B27 required on cache", "type=cache,target=/x,required", "unexpected key 'required'", ""},
		{"B27 size on bind", "target=/x,size=1", "unexpected key 'size'", ""},
		{"B27 env on bind", "target=/x,env=V", "env is not allowed", ""},
		{"B27 from on secret", "type=secret,id=a,from=busybox", "should not have a from", ""},
		{"B27 quirk: type comes first", "required,type=secret,id=a", "unexpected key 'required'", ""},
		{"B27 quirk: type after size", "size=1m,type=tmpfs,target=/x", "unexpected key 'size'", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			_, err := planOf("FROM busybox\nRUN true\nRUN --mount="+tc.flag+" x\n", amd64())
			wantError(t, err, 3, tc.text, tc.hint)
		})
	}
}

func TestB21_MountOrderAndSSH(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, "FROM busybox\nRUN --mount=type=ssh,target=/z --mount=type=ssh --mount=type=tmpfs,target=/a/b --mount=type=tmpfs,target=/a --mount=type=secret,id=s,env=E x $E\nRUN y\n")
	r := plan.Target().Steps[0].Run
	var got []string
	for _, m := range r.Mounts {
		got = append(got, m.Target)
	}
	if s := strings.Join(got, " "); s != " /a /a/b /run/buildkit/ssh_agent.1 /z" {
		t.Errorf("order %q", s)
	}
	if v, _ := lookupEnv(r.Env, "SSH_AUTH_SOCK"); v != "/z" {
		t.Errorf("SSH_AUTH_SOCK is the first given, got %q", v)
	}
	if _, ok := lookupEnv(plan.Target().Steps[1].Run.Env, "SSH_AUTH_SOCK"); ok {
		t.Error("SSH_AUTH_SOCK leaks into the next RUN")
	}
	if text := plan.Target().Steps[0].Text; !strings.HasSuffix(text, " x ****") {
		t.Errorf("text %q", text)
	}
	r = firstRun(t, mustPlan(t, "FROM busybox\nENV SSH_AUTH_SOCK=/own\nRUN --mount=type=ssh x\n"))
	if v, _ := lookupEnv(r.Env, "SSH_AUTH_SOCK"); v != "/own" {
		t.Errorf("the environment's own value stays, got %q", v)
	}
}

func TestB28toB30_Entitlements(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, flag string
		opt        func(*Options)
		hint       string // "" when allowed
	}{
		{"network none", "--network=none", func(*Options) {}, ""},
		{"network default", "--network=default", func(*Options) {}, ""},
		{"network host", "--network=host", func(*Options) {}, "--allow network.host"},
		{"network host allowed", "--network=host", func(o *Options) { o.Allow = []string{"network.host"} }, ""},
		{"network host by the build", "--network=host", func(o *Options) { o.Network = "host" }, ""},
		{"sandbox", "--security=sandbox", func(*Options) {}, ""},
		{"insecure", "--security=insecure", func(o *Options) { o.Allow = []string{"network.host"} }, "--allow security.insecure"},
		{"insecure allowed", "--security=insecure", func(o *Options) { o.Allow = []string{"security.insecure"} }, ""},
		{"device", "--device=v/c=n", func(*Options) {}, "--allow device=v/c=n"},
		{"any device allowed", "--device=v/c=n,required", func(o *Options) { o.Allow = []string{"device"} }, ""},
		{"another device allowed", "--device=v/c=n", func(o *Options) { o.Allow = []string{"device=v/c=m"} }, "--allow device=v/c=n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			opt := amd64()
			tc.opt(&opt)
			_, err := planOf("FROM busybox\nRUN "+tc.flag+" x\n", opt)
			if tc.hint == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if wantError(t, err, 2, tc.flag, tc.hint); !errors.Is(err, ErrNotAllowed) {
				t.Errorf("%v is not ErrNotAllowed", err)
			}
			// A stage that is not built asks for nothing.
			opt.Target = "ok"
			if _, err := planOf("FROM busybox AS no\nRUN "+tc.flag+" x\nFROM busybox AS ok\n", opt); err != nil {
				t.Error(err)
			}
		})
	}
	r := firstRun(t, mustPlan(t, "FROM busybox\nRUN --network=default --security=sandbox --device=name=v/c=n,required --device=v/c=m x\n",
		func(o *Options) { o.Allow = []string{"device"} }))
	if want := []Device{{"v/c=n", true}, {"v/c=m", false}}; r.Network != "" || r.Security != "" || !reflect.DeepEqual(r.Devices, want) {
		t.Errorf("got %+v", r)
	}
}

func TestB10_BuildArgsThatPlanningReads(t *testing.T) {
	t.Parallel()
	r := firstRun(t, mustPlan(t, "FROM busybox\nARG BUILDKIT_SBOM_SCAN_STAGE=true\nRUN --mount=type=cache,target=/c x\n", buildArgs("BUILDKIT_CACHE_MOUNT_NS", "ns")))
	if m := r.Mounts[0]; m.Namespace != "ns" || m.ID != "/c" {
		t.Errorf("mount %+v", m)
	}
	if _, ok := lookupEnv(r.Env, "BUILDKIT_SBOM_SCAN_STAGE"); ok {
		t.Error("scan arguments are never exported")
	}
	_, err := Parse("Dockerfile", []byte("FROM a\n"), ParseOptions{BuildArgs: map[string]string{"BUILDKIT_DOCKERFILE_CHECK": "nope"}})
	wantError(t, err, 0, "invalid check option", "skip=")
}

func TestB9_ProxyNeedsArgForExpansion(t *testing.T) {
	t.Parallel()
	args := buildArgs("HTTP_PROXY", "http://p")
	r := firstRun(t, mustPlan(t, "FROM busybox\nENV p=$HTTP_PROXY\nRUN x\n", args))
	if v, _ := lookupEnv(r.Env, "p"); v != "" {
		t.Errorf("p = %q", v)
	}
	if _, ok := lookupEnv(r.Env, "HTTP_PROXY"); ok {
		t.Error("undeclared proxies are not part of the plan")
	}
	r = firstRun(t, mustPlan(t, "FROM busybox\nARG HTTP_PROXY\nENV p=$HTTP_PROXY\nRUN x\n", args))
	if v, _ := lookupEnv(r.Env, "p"); v != "http://p" {
		t.Errorf("p = %q", v)
	}
}

func TestB20_RunText(t *testing.T) {
	t.Parallel()
	plan := mustPlan(t, "FROM busybox\nENV a=1\nrun echo \"$a\" '$a' \\$a $unset ${a:-x} \\\n  next\nRUN echo ${ broken\ncopy  $a   /x\n")
	for i, want := range []string{`RUN echo "1" '$a' \$a $unset 1   next`, "RUN echo ${ broken", "COPY  1   /x"} {
		if got := plan.Target().Steps[i].Text; got != want {
			t.Errorf("text %q, want %q", got, want)
		}
	}
}

func TestRunOnWindowsIsUnsupported(t *testing.T) {
	t.Parallel()
	_, err := planOf("FROM --platform=windows/amd64 bare\nRUN x\n", amd64())
	if wantError(t, err, 2, "not supported", ""); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
}
