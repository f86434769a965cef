package stages

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestH6_HistoryTexts(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		src, want string
		empty     bool
	}{
		{"RUN a  b", "RUN /bin/sh -c a  b # buildkit", false},
		{`RUN ["a", "b c"]`, "RUN a b c # buildkit", false},
		{"WORKDIR a/../b", "WORKDIR /b", false},
		{"WORKDIR /x//y/./z/", "WORKDIR /x//y/./z/", false},
		{"WORKDIR /", "WORKDIR /", true},
		{`ENV a=b c="d e"`, "ENV a=b c=d e", true},
		{"ENV a b  c", "ENV a=b  c", true},
		{"LABEL a=b", "LABEL a=b", true},
		{"ARG a b=c", "ARG a b=c", true},
		{"CMD a b", `CMD ["/bin/sh" "-c" "a b"]`, true},
		{`CMD []`, `CMD []`, true},
		{`ENTRYPOINT ["a", "b\"c"]`, `ENTRYPOINT ["a" "b\"c"]`, true},
		{"EXPOSE 81 80/UDP", "EXPOSE [80/udp 81/tcp]", true},
		{"VOLUME /a /b", "VOLUME [/a /b]", true},
		{"USER a b", "USER a b", true},
		{"STOPSIGNAL SIGTERM", "STOPSIGNAL SIGTERM", true},
		{`SHELL ["/bin/bash", "-c"]`, "SHELL [/bin/bash -c]", true},
		{"HEALTHCHECK --interval=30s --retries=3 CMD [\"x\"]", "HEALTHCHECK {Test:[CMD x] Interval:30s Timeout:0s StartPeriod:0s StartInterval:0s Retries:3}", true},
		{"HEALTHCHECK NONE", "HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}", true},
		{"MAINTAINER x y", "MAINTAINER x y", true},
		{"ONBUILD RUN x", "", true},
	} {
		t.Run(tc.src, func(t *testing.T) {
			t.Parallel()
			st := mustPlan(t, "FROM busybox\n"+tc.src+"\n").Target()
			if tc.want == "" {
				if len(st.History) != 0 {
					t.Errorf("history %+v", st.History)
				}
				return
			}
			if want := []History{{CreatedBy: tc.want, Comment: "buildkit.dockerfile.v0", Empty: tc.empty}}; !reflect.DeepEqual(st.History, want) {
				t.Errorf("got %+v, want %+v", st.History, want)
			}
			if (len(st.Steps) == 0) != tc.empty {
				t.Errorf("%d steps", len(st.Steps))
			}
		})
	}
}

func TestStepHistoryIndex(t *testing.T) {
	t.Parallel()
	st := mustPlan(t, "FROM busybox\nENV a=b\nRUN x\nUSER u\nWORKDIR /w\nCOPY a b\n").Target()
	for i, want := range []int{1, 3, 4} {
		if s := st.Steps[i]; s.History != want || st.History[s.History].Empty {
			t.Errorf("step %d has entry %d, want %d", i, s.History, want)
		}
	}
	if w := st.Steps[1].Workdir; w.Path != "/w" || w.User != "u" {
		t.Errorf("B60: %+v", w)
	}
}

func TestB1_ScratchAndPath(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		base, workdir string
		env           []string
	}{
		{"scratch", "/", []string{testPath}},
		{"bare", "", []string{testPath}},
		{"rich", "/var/www", []string{"A=from-base", "NOPATH", testPath}},
	} {
		cfg := mustPlan(t, "FROM "+tc.base+"\n").Target().Image.Config
		if !reflect.DeepEqual(cfg.Env, tc.env) || cfg.WorkingDir != tc.workdir {
			t.Errorf("%s: %q %q", tc.base, cfg.Env, cfg.WorkingDir)
		}
	}
}

func TestB12B13_EnvAndLabel(t *testing.T) {
	t.Parallel()
	st := mustPlan(t, "FROM rich\nENV z=1 A=2 z=3\nLABEL both=mine a=1 a=2\nLABEL b c d\n", func(o *Options) {
		o.Labels = map[string]string{"a": "cli", "e": "f"}
	}).Target()
	if want := []string{"A=2", "NOPATH", testPath, "z=3"}; !reflect.DeepEqual(st.Image.Config.Env, want) {
		t.Errorf("env %q, want %q", st.Image.Config.Env, want)
	}
	if want := map[string]string{"base": "1", "both": "mine", "a": "cli", "b": "c d", "e": "f"}; !reflect.DeepEqual(st.Image.Config.Labels, want) {
		t.Errorf("labels %v, want %v", st.Image.Config.Labels, want)
	}
	if len(st.History) != 3 {
		t.Errorf("--label has no entry: %q", createdBy(st))
	}
	plan := mustPlan(t, "FROM busybox AS a\nFROM a\n", func(o *Options) { o.Labels = map[string]string{"l": "1"} })
	if len(plan.Stages[0].Image.Config.Labels) != 0 || len(plan.Stages[1].Image.Config.Labels) != 1 {
		t.Error("--label is for the target only")
	}
}

func TestB12B13_NameThatExpandsToNothing(t *testing.T) {
	t.Parallel()
	st := mustPlan(t, "FROM busybox\nENV $unset=x\nLABEL $unset=y\n").Target()
	if _, ok := lookupEnv(st.Image.Config.Env, ""); !ok || st.Image.Config.Labels[""] != "y" {
		t.Errorf("env %q, labels %q: the reference keeps them", st.Image.Config.Env, st.Image.Config.Labels)
	}
	for _, src := range []string{"ENV =x", "LABEL =x", "LABEL \"\"=x\nFROM busybox\nENV $unset=x\nRUN true"} {
		if _, err := planOf("FROM busybox\n"+src+"\n", amd64()); err == nil {
			t.Errorf("%s is accepted", src)
		}
	}
}

func TestB63_Expose(t *testing.T) {
	t.Parallel()
	st := mustPlan(t, "FROM rich\nEXPOSE 9000-9002 53/UDP 1/tcp 1/sctp 80 127.0.0.1:8080:81 [::1]:5-6:82-83 84/\n").Target()
	var want = map[string]struct{}{}
	for _, p := range strings.Fields("80/tcp 9000/tcp 9001/tcp 9002/tcp 53/udp 1/tcp 1/sctp 81/tcp 82/tcp 83/tcp 84/tcp") {
		want[p] = struct{}{}
	}
	if !reflect.DeepEqual(st.Image.Config.ExposedPorts, want) {
		t.Errorf("ports %v", st.Image.Config.ExposedPorts)
	}
	for _, tc := range []struct{ spec, text string }{
		{"65536", "not a port number"}, {"-1", "no port"}, {"2-1", "invalid range"}, {"80/icmp", "invalid protocol"}, {"x", "not a port number"},
		{"/tcp", "no port"}, {"a:80", "host port"}, {"1.2.3:80:80", "invalid IP"}, {"1-2:3-5", "differ in length"},
	} {
		_, err := planOf("FROM busybox\nEXPOSE "+tc.spec+"\n", amd64())
		if err == nil {
			t.Errorf("%s is accepted", tc.spec)
			continue
		}
		if !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%s: %v, want %q", tc.spec, err, tc.text)
		}
	}
}

func TestB64B65B66_Commands(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, src       string
		cmd, entrypoint []string
		escaped         bool
	}{
		{"shell form", "CMD a b", []string{"/bin/sh", "-c", "a b"}, nil, true},
		{"SHELL in force", "SHELL [\"/s\", \"-x\"]\nCMD a", []string{"/s", "-x", "a"}, nil, true},
		{"SHELL later does not count", "CMD a\nSHELL [\"/s\"]", []string{"/bin/sh", "-c", "a"}, nil, true},
		{"exec form sets ArgsEscaped too", `CMD ["a"]`, []string{"a"}, nil, true},
		{"ENTRYPOINT clears an inherited CMD", `ENTRYPOINT ["e"]`, nil, []string{"e"}, false},
		{"but not one of this stage", "CMD [\"c\"]\nENTRYPOINT [\"e\"]", []string{"c"}, []string{"e"}, true},
		{"CMD []", "CMD []", []string{}, nil, true},
		{"ENTRYPOINT []", "ENTRYPOINT []", nil, nil, false},
		{"the last wins", "CMD a\nCMD [\"b\"]", []string{"b"}, nil, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cfg := mustPlan(t, "FROM busybox\n"+tc.src+"\n").Target().Image.Config
			if !reflect.DeepEqual(cfg.Cmd, tc.cmd) || !reflect.DeepEqual(cfg.Entrypoint, tc.entrypoint) || cfg.ArgsEscaped != tc.escaped { //nolint:staticcheck // see B64
				t.Errorf("cmd %q entrypoint %q escaped %v", cfg.Cmd, cfg.Entrypoint, cfg.ArgsEscaped) //nolint:staticcheck // see B64
			}
		})
	}
	plan := mustPlan(t, "FROM busybox AS a\nCMD c\nFROM a\nENTRYPOINT e\n")
	if plan.Target().Image.Config.Cmd != nil {
		t.Error("a CMD of the parent stage is inherited, so it is cleared")
	}
}

func TestB67_Healthcheck(t *testing.T) {
	t.Parallel()
	h := mustPlan(t, "FROM busybox\nHEALTHCHECK NONE\nHEALTHCHECK --interval=1m30s --timeout=0 --start-period=1ms --start-interval=2s CMD a  b\n").Target().Image.Config.Healthcheck
	if want := []string{"CMD-SHELL", "a  b"}; !reflect.DeepEqual(h.Test, want) || h.Interval != 90*time.Second || h.Timeout != 0 ||
		h.StartPeriod != time.Millisecond || h.StartInterval != 2*time.Second {
		t.Errorf("%+v", h)
	}
}

func TestB68_Signals(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"9", "64", "TERM", "SIGTERM", "sigterm", "RTMIN", "SIGRTMIN+3", "RTMAX-14"} {
		if got := mustPlan(t, "FROM busybox\nSTOPSIGNAL "+s+"\n").Target().Image.Config.StopSignal; got != s {
			t.Errorf("%s is stored as %q", s, got)
		}
	}
	for _, tc := range []struct{ sig, hint string }{{"0", ""}, {"65", ""}, {"-1", ""}, {"SIGTREM", "did you mean TERM?"}, {"RTMIN+16", ""}, {"RTMIN+x", ""}, {"SIG", ""}} {
		_, err := planOf("FROM busybox\nSTOPSIGNAL "+tc.sig+"\n", amd64())
		wantError(t, err, 2, "is not a signal", tc.hint)
	}
}

func TestB60_Workdir(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ src, want, dir string }{
		{"WORKDIR /a\nWORKDIR b", "/a/b", "/a/b"}, {"WORKDIR a b", "/a b", "/a b"}, {"WORKDIR ../../x", "/x", "/x"},
		{"WORKDIR /a\nWORKDIR $unset", "/a", "/a"}, {"WORKDIR /a\nWORKDIR .", "/a", "/a"},
		// Absolute paths are stored as written, and cleaned where they are used.
		{"WORKDIR /app/", "/app/", "/app"}, {"WORKDIR /x//y/./z/", "/x//y/./z/", "/x/y/z"}, {"WORKDIR /a/../b", "/a/../b", "/b"},
		{"WORKDIR /a/\nWORKDIR b/", "/a/b", "/a/b"}, {"WORKDIR /a/\nWORKDIR $unset", "/a/", "/a"}, {"WORKDIR /a/\nWORKDIR .", "/a", "/a"},
	} {
		st := mustPlan(t, "FROM busybox\n"+tc.src+"\nRUN x\n").Target()
		if got := st.Image.Config.WorkingDir; got != tc.want {
			t.Errorf("%s: %q, want %q", tc.src, got, tc.want)
		}
		n := len(st.Steps)
		if made, run := st.Steps[n-2].Workdir.Path, st.Steps[n-1].Run.Dir; made != tc.dir || run != tc.dir {
			t.Errorf("%s: makes %q, runs in %q, want %q", tc.src, made, run, tc.dir)
		}
	}
}

func TestB62_Volume(t *testing.T) {
	t.Parallel()
	_, err := planOf("FROM busybox\nVOLUME /a $unset\n", amd64())
	wantError(t, err, 2, "empty string", "")
	plan := mustPlan(t, "FROM rich AS a\nVOLUME /b\nFROM a\nVOLUME /c\n")
	if a, b := plan.Stages[0].Image.Config.Volumes, plan.Stages[1].Image.Config.Volumes; len(a) != 2 || len(b) != 3 {
		t.Errorf("volumes %v, %v", a, b)
	}
}
