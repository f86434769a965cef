package stages

import (
	"errors"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const testPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// amd64 are the options of a build on an ordinary machine.
func amd64() Options {
	return Options{BuildPlatform: ocispec.Platform{OS: "linux", Architecture: "amd64"}}
}

// testBase makes the images that tests are based on; the tag and the platform
// do not matter.
func testBase(ref BaseRef) (Base, bool) {
	var img Image
	img.OS, img.Architecture, _ = strings.Cut(ref.Platform, "/")
	img.Architecture, img.Variant, _ = strings.Cut(img.Architecture, "/")
	img.Config.Env = []string{testPath}
	img.Config.Cmd = []string{"sh"}
	name, _, _ := strings.Cut(ref.Name, ":")
	name, _, _ = strings.Cut(name, "@")
	switch name {
	case "busybox", "alpine", "docker-image":
	case "bare":
		img.Config = Image{}.Config
	case "rich":
		img.Config.Env = []string{"A=from-base", "NOPATH"}
		img.Config.Entrypoint = []string{"/entry"}
		img.Config.Labels = map[string]string{"base": "1", "both": "base"}
		img.Config.User = "daemon"
		img.Config.WorkingDir = "/var/www"
		img.Config.ExposedPorts = map[string]struct{}{"80/tcp": {}}
		img.Config.Volumes = map[string]struct{}{"/data": {}}
		img.Config.Shell = []string{"/bin/base", "-c"}
	case "triggers":
		img.Config.OnBuild = []string{"RUN echo from-trigger", "ENV TRIGGER=1", "COPY --from=tools /a /b"}
	case "trigger-image":
		img.Config.OnBuild = []string{"COPY --from=nosuch /a /b"}
	case "badtrigger":
		img.Config.OnBuild = []string{"COPY --chmod=9z9 a b"}
	case "doubled":
		img.Config.Env = []string{"A=first", "A=second"}
	case "arm":
		img.Architecture, img.Variant = "arm", "v7"
	default:
		return Base{}, false
	}
	return Base{Image: img}, true
}

// planOf parses and plans, resolving bases as a builder does.
func planOf(src string, opt Options) (*Plan, error) {
	f, err := Parse("Dockerfile", []byte(src), ParseOptions{BuildArgs: opt.BuildArgs})
	if err != nil {
		return nil, err
	}
	bases := map[BaseRef]Base{}
	for range 5 {
		plan, missing, err := f.Plan(opt, bases)
		if err != nil || plan != nil {
			return plan, err
		}
		for _, ref := range missing {
			b, ok := testBase(ref)
			if !ok {
				return nil, f.BaseError(opt, bases, ref, errors.New("image not found"))
			}
			bases[ref] = b
		}
	}
	return nil, errors.New("the plan never had all its bases")
}

func mustPlan(t *testing.T, src string, opts ...func(*Options)) *Plan {
	t.Helper()
	opt := amd64()
	for _, o := range opts {
		o(&opt)
	}
	plan, err := planOf(src, opt)
	if err != nil {
		t.Fatalf("plan of\n%s\n%v", src, err)
	}
	return plan
}

// wantError checks what a user sees of an error.
func wantError(t *testing.T, err error, line int, text, hint string) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want an *Error", err)
	}
	if !strings.Contains(e.Error(), text) {
		t.Errorf("message %q lacks %q", e, text)
	}
	if e.Pos.Start != line {
		t.Errorf("line %d, want %d (%v)", e.Pos.Start, line, e)
	}
	if !strings.Contains(e.Remedy(), hint) || (hint == "" && e.Remedy() != "") {
		t.Errorf("hint %q, want %q (%v)", e.Remedy(), hint, e)
	}
	return e
}

func buildArgs(kv ...string) func(*Options) {
	return func(o *Options) {
		o.BuildArgs = map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			o.BuildArgs[kv[i]] = kv[i+1]
		}
	}
}

func target(name string) func(*Options) { return func(o *Options) { o.Target = name } }

// firstRun is the first RUN of the target.
func firstRun(t *testing.T, plan *Plan) *Run {
	t.Helper()
	for _, st := range plan.Target().Steps {
		if st.Run != nil {
			return st.Run
		}
	}
	t.Fatal("no RUN in the target")
	return nil
}

// firstCopy is the first COPY or ADD of the target.
func firstCopy(t *testing.T, plan *Plan) *Copy {
	t.Helper()
	for _, st := range plan.Target().Steps {
		if st.Copy != nil {
			return st.Copy
		}
	}
	t.Fatal("no COPY in the target")
	return nil
}

func lookupEnv(list []string, key string) (string, bool) {
	for _, kv := range list {
		if k, v, _ := strings.Cut(kv, "="); k == key {
			return v, true
		}
	}
	return "", false
}

func createdBy(st *Stage) []string {
	var texts []string
	for _, h := range st.History {
		texts = append(texts, h.CreatedBy)
	}
	return texts
}
