package stages

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// bestOf lists what a rule of ours finds in a Dockerfile: "line: message".
func bestOf(t *testing.T, rule, src string, facts ContextFacts) []string {
	t.Helper()
	plan := mustPlan(t, src, func(o *Options) { o.AllStages, o.Best, o.Facts = true, BestAll, facts })
	var got []string
	for _, w := range plan.Warnings {
		if w.Rule == rule {
			got = append(got, fmt.Sprint(w.Pos.Start))
		}
	}
	return got
}

// The cases of each rule: a Dockerfile, and the lines at which the rule fires.
func TestBestRules(t *testing.T) {
	t.Parallel()
	run := func(commands ...string) string {
		return "FROM busybox:1\nRUN " + strings.Join(commands, "\nRUN ") + "\nUSER 1\n"
	}
	clutter := ContextFacts{NoIgnoreFile: true, Clutter: []string{".git"}}
	for _, tc := range []struct {
		rule, name, src string
		facts           ContextFacts
		want            string // lines, blank for none
	}{
		{"BestPinBaseImage", "is off unless it is asked for", "FROM busybox:1\n", ContextFacts{}, ""},
		{"BestPinBaseImage", "asked for", "# check=experimental=BestPinBaseImage\nFROM busybox:1\n", ContextFacts{}, "2"},
		{"BestPinBaseImage", "a digest", "# check=experimental=BestPinBaseImage\nFROM busybox@sha256:" + strings.Repeat("a", 64) + "\n", ContextFacts{}, ""},
		{"BestLatestTag", "no tag", "FROM busybox\n", ContextFacts{}, "1"},
		{"BestLatestTag", "latest", "FROM busybox:latest AS a\nFROM a\n", ContextFacts{}, "1"},
		{"BestLatestTag", "a tag, scratch, a stage", "FROM busybox:1 AS a\nFROM scratch\nFROM a\n", ContextFacts{}, ""},

		{"BestAptUpdateAlone", "update alone", run("apt-get update"), ContextFacts{}, "2"},
		{"BestAptUpdateAlone", "exec form", run(`["apt-get", "update"]`, `["sh", "-ec", "apt-get update"]`), ContextFacts{}, "2 3"},
		{"BestAptUpdateAlone", "install alone", run("apt-get install -y git"), ContextFacts{}, "2"},
		{"BestAptUpdateAlone", "together", run("apt-get update && apt-get install -y git", "set -e; apt update; sudo -E apt install git", "if x; then apt-get -q update && apt-get -q install x; fi"), ContextFacts{}, ""},
		{"BestAptUpdateAlone", "a heredoc", "FROM busybox:1\nRUN <<E\napt-get update\nE\nRUN <<E\napt-get update\napt-get install -y x\nE\n", ContextFacts{}, "2"},
		{"BestAptUpdateAlone", "an upgrade uses the lists", run("apt-get update && apt-get upgrade -y"), ContextFacts{}, ""},
		{"BestAptUpdateAlone", "a script may install", run("apt-get update && ./install.sh", "apt-get update && bash x.sh"), ContextFacts{}, ""},
		{"BestAptUpdateAlone", "a package file needs no list", run("apt-get install -y ./x.deb"), ContextFacts{}, ""},
		{"BestAptUpdateAlone", "lists shared by a mount", run("--mount=type=cache,target=/var/lib/apt apt-get update"), ContextFacts{}, ""},
		{"BestAptUpdateAlone", "only said", run("echo apt-get update"), ContextFacts{}, ""},

		{"BestAptOptions", "nothing", run("apt-get update && apt-get install git"), ContextFacts{}, "2"},
		{"BestAptOptions", "no -y", run("apt-get update && apt-get install --no-install-recommends git && rm -rf /var/lib/apt/lists/*"), ContextFacts{}, "2"},
		{"BestAptOptions", "recommendations", run("apt-get update && apt-get install -y git && rm -rf /var/lib/apt/lists/*"), ContextFacts{}, "2"},
		{"BestAptOptions", "lists stay", run("apt-get update && apt-get install -y --no-install-recommends git"), ContextFacts{}, "2"},
		{"BestAptOptions", "all as it should be", run("apt-get update && apt-get install -yq --no-install-recommends git && rm -rf /var/lib/apt/lists/*",
			"apt-get update && apt-get -o APT::Install-Recommends=false -qq install git && rm -rf /var/lib/apt/lists/*"), ContextFacts{}, ""},
		{"BestAptOptions", "lists in a mount", run("--mount=type=cache,target=/var/lib/apt apt-get update && apt-get install -y --no-install-recommends git"), ContextFacts{}, ""},

		{"BestPackageCache", "pip", run("pip install x", "python3 -m pip install x"), ContextFacts{}, "2 3"},
		{"BestPackageCache", "pip without a cache", run("pip install --no-cache-dir x", "PIP_NO_CACHE_DIR=1 pip3 install x", "--mount=type=cache,target=/root/.cache pip install x"), ContextFacts{}, ""},
		{"BestPackageCache", "pip configured", "FROM busybox:1\nENV PIP_NO_CACHE_DIR=1\nRUN pip install x\n", ContextFacts{}, ""},
		{"BestPackageCache", "apk", run("apk add x", "apk add --no-cache x", "apk --no-cache add x", "apk add x && rm -rf /var/cache/apk/*"), ContextFacts{}, "2"},
		{"BestPackageCache", "dnf", run("yum install -y x", "dnf -y install x && dnf clean all", "microdnf install x && rm -rf /var/cache/yum"), ContextFacts{}, "2"},
		{"BestPackageCache", "npm", run("npm ci", "--mount=type=cache,target=/root/.npm npm ci", "npm test", "npm ci && npm cache clean --force"), ContextFacts{}, "2"},
		{"BestPackageCache", "go", run("go build ./...", "go mod download", "--mount=type=cache,target=/x go build", "go version"), ContextFacts{}, "2"},
		{"BestPackageCache", "each program", run("npm ci && apk add x"), ContextFacts{}, "2 2"},

		{"BestCopyBeforeInstall", "npm", "FROM busybox:1\nCOPY . .\nRUN npm ci\n", ContextFacts{}, "2"},
		{"BestCopyBeforeInstall", "manifests first", "FROM busybox:1\nCOPY package.json .\nRUN npm ci\nCOPY . .\nRUN npm ci --omit=dev\n", ContextFacts{}, ""},
		{"BestCopyBeforeInstall", "pip", "FROM busybox:1\nCOPY ./ /src\nRUN pip install -r requirements.txt\n", ContextFacts{}, "2"},
		{"BestCopyBeforeInstall", "the sources are installed", "FROM busybox:1\nCOPY . .\nRUN pip install . && npm install -g x && poetry install && go build .\n", ContextFacts{}, ""},
		{"BestCopyBeforeInstall", "go", "FROM busybox:1\nADD . .\nRUN go mod download && go build\n", ContextFacts{}, "2"},
		{"BestCopyBeforeInstall", "another stage's files", "FROM busybox:1 AS a\nFROM busybox:1\nCOPY --from=a . .\nRUN npm ci\n", ContextFacts{}, ""},

		{"BestSortArgs", "unsorted", run("apk add --no-cache \\\n  b \\\n  a"), ContextFacts{}, "2"},
		{"BestSortArgs", "sorted", run("apk add --no-cache \\\n  a \\\n  b=1.* \\\n  C"), ContextFacts{}, ""},
		{"BestSortArgs", "on one line", run("apk add --no-cache b a"), ContextFacts{}, ""},
		{"BestSortArgs", "groups parted by comments", run("apk add --no-cache \\\n  x \\\n  y \\\n  # tools\n  a \\\n  b"), ContextFacts{}, ""},
		{"BestSortArgs", "an empty word", run("apk add --no-cache \\\n  b \\\n  ''"), ContextFacts{}, ""},
		{"BestSortArgs", "parted by a variable", run("apk add --no-cache \\\n  x \\\n  $more \\\n  a"), ContextFacts{}, ""},
		{"BestSortArgs", "a version does not count", run("pip install --no-cache-dir \\\n  'django>=4' \\\n  django-x"), ContextFacts{}, ""},
		{"BestSortArgs", "a virtual package's name", run("apk add --no-cache --virtual z \\\n  a \\\n  b"), ContextFacts{}, ""},

		{"BestMergeRuns", "three", run("a", "b", "c"), ContextFacts{}, "2"},
		{"BestMergeRuns", "two", run("a", "b"), ContextFacts{}, ""},
		{"BestMergeRuns", "mounts between", run("a", "b", "--mount=type=cache,target=/x c", "d", "e"), ContextFacts{}, ""},
		{"BestMergeRuns", "an earlier stage", "FROM busybox:1\nRUN a\nRUN b\nRUN c\nFROM busybox:1\n", ContextFacts{}, ""},
		{"BestMergeRuns", "not in succession", "FROM busybox:1\nRUN a\nRUN b\nENV x=y\nRUN c\n", ContextFacts{}, ""},

		{"BestUseCopy", "a file", "FROM busybox:1\nADD a.txt b/ /\n", ContextFacts{}, "2"},
		{"BestUseCopy", "what is unpacked or fetched", "FROM busybox:1\nADD a.tar.gz /\nADD x.tgz /\nADD *.tar /\nADD https://x/y /\nADD a* /\nADD --unpack=false a /\nADD <<E /x\nE\n", ContextFacts{}, ""},
		{"BestUseCopy", "an archive under another name", "FROM busybox:1\nADD rootfs /\n", ContextFacts{Archives: []string{"rootfs"}}, ""},

		{"BestNonRoot", "no USER", "FROM scratch\nUSER 1\nFROM scratch\n", ContextFacts{}, "3"},
		{"BestNonRoot", "root", "FROM scratch\nUSER 1\nUSER root\n", ContextFacts{}, "3"},
		{"BestNonRoot", "0", "FROM scratch\nUSER 0:7\n", ContextFacts{}, "2"},
		{"BestNonRoot", "a user", "FROM scratch\nUSER app:app\n", ContextFacts{}, ""},
		{"BestNonRoot", "an entrypoint that steps down", "FROM scratch\nRUN apk add su-exec\nENTRYPOINT [\"e\"]\n", ContextFacts{}, ""},
		{"BestNonRoot", "none to step down, or root on purpose", "FROM busybox:1\nRUN apk add su-exec\nUSER root\nENTRYPOINT [\"e\"]\n", ContextFacts{}, "3"},
		{"BestNonRoot", "the base has one", "FROM rich:1\n", ContextFacts{}, ""},
		{"BestNonRoot", "a stage has one", "FROM scratch AS a\nUSER 5\nFROM a\n", ContextFacts{}, ""},

		{"BestMissingIgnore", "no file", "FROM scratch\nCOPY . /\n", clutter, "2"},
		{"BestMissingIgnore", "nothing to ignore", "FROM scratch\nCOPY . /\n", ContextFacts{NoIgnoreFile: true}, ""},
		{"BestMissingIgnore", "there is one", "FROM scratch\nCOPY . /\n", ContextFacts{Clutter: []string{".git"}}, ""},
		{"BestMissingIgnore", "a part is copied", "FROM scratch\nCOPY src /\n", clutter, ""},

		{"BestPipefail", "a pipe", run("curl x | tar x"), ContextFacts{}, "2"},
		{"BestPipefail", "set", run("set -o pipefail; a | b", "set -euo pipefail && a | b", `["bash", "-o", "pipefail", "-c", "a | b"]`), ContextFacts{}, ""},
		{"BestPipefail", "SHELL", "FROM busybox:1\nSHELL [\"/bin/bash\", \"-eo\", \"pipefail\", \"-c\"]\nRUN a | b\nSHELL [\"/bin/sh\", \"-c\"]\nRUN a | b\n", ContextFacts{}, "5"},
		{"BestPipefail", "no pipe of the shell", run("a || b", "echo 'a | b'", "x $(a | b)", "a \\| b"), ContextFacts{}, ""},
		{"BestPipefail", "a text that is checked or kept", run("echo x | sha256sum -c -", "printf x | tee f"), ContextFacts{}, ""},
		{"BestPipefail", "a text for anything else", run("echo x | sh"), ContextFacts{}, "2"},
		{"BestPipefail", "a code that nobody looks at", run("a | b; c", "a | b || true", "yes | a"), ContextFacts{}, ""},
		{"BestPipefail", "before &&, and with set -e", run("a | b && c", "set -e; a | b; c"), ContextFacts{}, "2 3"},
		{"BestPipefail", "another language", "FROM busybox:1\nSHELL [\"python3\", \"-c\"]\nRUN a | b\nSHELL [\"/bin/sh\", \"-c\"]\nRUN <<E\n#!/usr/bin/env python3\na | b\nE\n", ContextFacts{}, ""},

		{"BestJSONLooksWrong", "single quotes", "FROM busybox:1\nCMD ['a', 'b']\nENTRYPOINT [ \"a\" , 'b' ]\n", ContextFacts{}, "2 3"},
		{"BestJSONLooksWrong", "no quotes", "FROM busybox:1\nENTRYPOINT [nginx, -g]\n", ContextFacts{}, "2"},
		{"BestJSONLooksWrong", "a trailing comma, no comma", "FROM busybox:1\nRUN [\"a\", \"b\",]\nCMD [\"a\" \"b\"]\n", ContextFacts{}, "2 3"},
		{"BestJSONLooksWrong", "COPY and VOLUME", "FROM busybox:1\nCOPY ['a', 'b']\nVOLUME ['/x', '/y']\n", ContextFacts{}, "2 3"},
		{"BestJSONLooksWrong", "HEALTHCHECK", "FROM busybox:1\nHEALTHCHECK --timeout=1s CMD ['a', 'b']\n", ContextFacts{}, "2"},
		{"BestJSONLooksWrong", "valid", "FROM busybox:1\nRUN [\"a\"]\nCMD []\nCOPY [\"a\", \"b\"]\nHEALTHCHECK CMD [\"a\"]\n", ContextFacts{}, ""},
		{"BestJSONLooksWrong", "the command [ and patterns", "FROM busybox:1\nRUN [ -f x ] && y\nRUN [ \"$x\" = y ] || z\nRUN [[ a ]]\nCOPY [ab].txt /\n", ContextFacts{}, ""},

		{"BestEmptyWildcard", "nothing", "FROM scratch\nCOPY *.x *.y /\n", ContextFacts{Unmatched: []ContextSource{{Path: "*.x"}}}, "2"},
		{"BestEmptyWildcard", "something, or not known", "FROM scratch\nCOPY *.x /\n", ContextFacts{}, ""},
		{"BestEmptyWildcard", "of another tree", "FROM scratch AS a\nFROM scratch\nCOPY --from=a *.x /\n", ContextFacts{Unmatched: []ContextSource{{Path: "*.x"}}}, ""},

		{"BestChmodParents", "a directory is made", "FROM scratch\nCOPY --chmod=644 a /etc/x/a\n", ContextFacts{}, "2"},
		{"BestChmodParents", "a heredoc", "FROM scratch\nCOPY --chmod=0600 <<E /etc/x\nE\n", ContextFacts{}, "2"},
		{"BestChmodParents", "a directory is copied", "FROM busybox:1\nCOPY --chmod=644 conf /etc/\n", ContextFacts{Directories: []string{"conf"}}, "2"},
		{"BestChmodParents", "all is copied", "FROM busybox:1\nCOPY --chmod=644 . /etc/\n", ContextFacts{}, "2"},
		{"BestChmodParents", "x, symbols, a directory that is there", "FROM scratch\nWORKDIR /etc/y\nCOPY --chmod=644 a /etc/\nCOPY --chmod=755 a /x/\nCOPY --chmod=u=rw a /z/\nCOPY --chmod=644 a /a\n", ContextFacts{}, ""},
		{"BestChmodParents", "a base image may have it", "FROM busybox:1\nCOPY --chmod=644 a /etc/x/a\n", ContextFacts{}, ""},
		{"BestChmodParents", "made by the COPY before", "FROM scratch\nCOPY b /etc/b\nCOPY --chmod=644 a /etc/a\n", ContextFacts{}, ""},

		{"BestCurlPipe", "pipes", run("curl -sSL https://x | sh", "wget -qO- https://x | sudo -E bash -", "curl x | tee log | python3"), ContextFacts{}, "2 3 4"},
		{"BestCurlPipe", "substitutions", run(`sh -c "$(curl -fsSL https://x)"`, "bash <(curl -s https://x)"), ContextFacts{}, "2 3"},
		{"BestCurlPipe", "no execution", run("curl x | tar xz", "curl -o x https://x && sh ./other", "echo y | sh"), ContextFacts{}, ""},
		{"BestCurlPipe", "checked", run("curl x | tee f | sh && sha256sum -c x"), ContextFacts{}, ""},

		{"BestSudo", "sudo", run("sudo a", "X=y sudo -u z b", "a && /usr/bin/sudo b"), ContextFacts{}, "2 3 4"},
		{"BestSudo", "only named", run("apt-get install -y sudo", "echo sudo", "rm /etc/sudoers"), ContextFacts{}, ""},

		{"BestCdInRun", "alone", run("cd /x", `["cd", "x"]`), ContextFacts{}, "2 3"},
		{"BestCdInRun", "with more", run("cd /x && y", "cd /x; y"), ContextFacts{}, ""},

		{"BestUseradd", "large", run("useradd -u 1000540000 a", "useradd --uid=200000 a", "useradd --uid 200000 a", "useradd -mu 200000 a"), ContextFacts{}, "2 3 4 5"},
		{"BestUseradd", "small, or -l", run("useradd -u 1000 a", "useradd -l -u 200000 a", "useradd -lu 200000 a", "useradd --no-log-init --uid 200000 a", "useradd -u $UID a", "useradd a"), ContextFacts{}, ""},

		{"BestVolumeThenWrite", "RUN and COPY", "FROM busybox:1\nVOLUME /data /x\nRUN mkdir -p /data/a\nCOPY a /data/\nRUN echo >> /x/y\nRUN chown -R 1:1 /data\n", ContextFacts{}, "3 4 5 6"},
		{"BestVolumeThenWrite", "of the stage below", "FROM busybox:1 AS a\nVOLUME [\"/data\"]\nFROM a\nRUN touch /data/x\n", ContextFacts{}, "4"},
		{"BestVolumeThenWrite", "relative", "FROM busybox:1\nVOLUME /data\nWORKDIR /data\nRUN touch x\nRUN cp /data/x /y\n", ContextFacts{}, "4"},
		{"BestVolumeThenWrite", "before, elsewhere, read", "FROM busybox:1\nRUN mkdir /data\nVOLUME /data\nRUN mkdir /database\nRUN cat /data/x > /y\nCOPY a /\n", ContextFacts{}, ""},

		{"BestHeredocBackslash", "in COPY", "FROM scratch\nCOPY <<E /x\na\\nb\nE\n", ContextFacts{}, "2"},
		{"BestHeredocBackslash", "quoted, escaped, in RUN", "FROM busybox:1\nCOPY <<'E' /x\na\\nb\nE\nCOPY <<E /x\n\\$a \\\\ b\nE\nRUN <<E\na\\nb\nE\n", ContextFacts{}, ""},

		{"BestRunChmodDup", "chmod", "FROM busybox:1\nCOPY run.sh /bin/\nRUN chmod +x /bin/run.sh\n", ContextFacts{}, "3"},
		{"BestRunChmodDup", "chown -R", "FROM busybox:1\nWORKDIR /app\nCOPY . .\nENV a=b\nRUN x && chown -R a:b /app\n", ContextFacts{}, "5"},
		{"BestRunChmodDup", "relative, of all below", "FROM busybox:1\nWORKDIR /app\nCOPY a b ./\nRUN chmod -R g=u *\nCOPY c ./\nRUN chmod 755 ./c\n", ContextFacts{}, "6"},
		{"BestRunChmodDup", "other files", "FROM busybox:1\nCOPY a /a\nRUN chmod +x /b && chown 1 /a && chmod 755 /\nRUN chmod +x /a\nCOPY b /x/\nRUN chown -R 1 /y\n", ContextFacts{}, ""},
	} {
		t.Run(tc.rule+"/"+tc.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(strings.Fields(tc.want), append([]string{}, bestOf(t, tc.rule, tc.src, tc.facts)...)); diff != "" {
				t.Errorf("%s\n-want +got:\n%s", tc.src, diff)
			}
		})
	}
}

func TestBestRules_EachHasCasesForAndAgainst(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile("best_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range bestRules {
		fires := regexp.MustCompile(`\{"` + r.name + `",.*"[0-9 ]+"\}`).Match(src)
		silent := regexp.MustCompile(`\{"` + r.name + `",.*""\}`).Match(src)
		if !fires || !silent {
			t.Errorf("%s: fires %v, silent %v", r.name, fires, silent)
		}
	}
}

func TestE40_SkippedByNameAndByComment(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ name, src string }{
		{"directive", "# check=skip=BestSudo\nFROM busybox:1\nRUN sudo a\n"},
		{"comment", "FROM busybox:1\n# check=skip=BestSudo\nRUN sudo a\n"},
		{"all", "# check=skip=all\nFROM busybox:1\nRUN sudo a\n"},
	} {
		if got := bestOf(t, "BestSudo", tc.src, ContextFacts{}); len(got) > 0 {
			t.Errorf("%s: fires at %v", tc.name, got)
		}
	}
	if got := bestOf(t, "BestLatestTag", "# check=skip=BestLatestTag\nFROM busybox\n", ContextFacts{}); len(got) > 0 {
		t.Errorf("FROM: fires at %v", got)
	}
}

func TestBestRules_BuildsWarnOfTheMarkedOnesOnly(t *testing.T) {
	t.Parallel()
	src := "FROM busybox\nRUN apt-get update\nRUN sudo a | b\nCMD ['a', 'b']\nCOPY --chmod=644 . /x/\nCOPY <<E /y\na\\nb\nE\nCOPY *.x /z/\n"
	plan := mustPlan(t, src, func(o *Options) {
		o.Best, o.Facts = BestBuild, ContextFacts{NoIgnoreFile: true, Clutter: []string{".git"}, Unmatched: []ContextSource{{Path: "*.x"}}}
	})
	var got []string
	for _, w := range plan.Warnings {
		if strings.HasPrefix(w.Rule, "Best") {
			got = append(got, w.Rule)
		}
		if strings.Contains(w.Message, "\n") {
			t.Errorf("%s: a build shows one line: %q", w.Rule, w.Message)
		}
	}
	sort.Strings(got)
	want := []string{"BestAptUpdateAlone", "BestChmodParents", "BestEmptyWildcard", "BestHeredocBackslash", "BestJSONLooksWrong", "BestMissingIgnore"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if plan := mustPlan(t, src); slices.ContainsFunc(plan.Warnings, func(w Warning) bool { return strings.HasPrefix(w.Rule, "Best") }) {
		t.Error("a plan that asks for none has some")
	}
}

func TestBestRules_TriggersOfABaseAreNotTheUsersFault(t *testing.T) {
	t.Parallel()
	src := "FROM busybox:1 AS a\nONBUILD RUN [\"sudo\", \"x\"]\nFROM a\nUSER 1\n"
	if got := bestOf(t, "BestSudo", src, ContextFacts{}); len(got) > 0 {
		t.Errorf("fires at %v", got)
	}
}

func TestBestRules_Fixes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		rule, src string
		want      []string
	}{
		{"BestAptOptions", "RUN apt-get update && apt-get install git 'x=1'", []string{`RUN apt-get update && apt-get install -y --no-install-recommends git "x=1" \`, "    && rm -rf /var/lib/apt/lists/*"}},
		{"BestSortArgs", "RUN apk add \\\n  b=2 \\\n  a", []string{"    a \\", "    b=2 \\"}},
		{"BestMergeRuns", "RUN a\nRUN b && c\nRUN d", []string{`RUN a && \`, `    b && c && \`, "    d"}},
		{"BestMergeRuns", "RUN cd x\nRUN b\nRUN d", nil},
		{"BestMergeRuns", "RUN a || b\nRUN c\nRUN d", nil},
		{"BestUseCopy", "ADD --chown=1 a /b", []string{"COPY --chown=1 a /b"}},
		{"BestRunChmodDup", "COPY a /a\nRUN chmod 755 /a", []string{"COPY --chmod=755 a /a"}},
		{"BestCopyBeforeInstall", "COPY . .\nRUN pip install -r a.txt -r b.txt", []string{"COPY a.txt b.txt ./", "RUN pip install ...", "COPY . ."}},
		{"BestCdInRun", "RUN cd /x", []string{"WORKDIR /x"}},
	} {
		plan := mustPlan(t, "FROM busybox:1\n"+tc.src+"\n", func(o *Options) { o.Best = BestAll })
		i := slices.IndexFunc(plan.Warnings, func(w Warning) bool { return w.Rule == tc.rule })
		if i < 0 {
			t.Errorf("%s does not fire on %q", tc.rule, tc.src)
			continue
		}
		if diff := cmp.Diff(tc.want, plan.Warnings[i].Fix); diff != "" {
			t.Errorf("%s on %q (-want +got):\n%s", tc.rule, tc.src, diff)
		}
	}
}

func TestCheck_UnknownBase(t *testing.T) {
	t.Parallel()
	f, err := Parse("Dockerfile", []byte("FROM nosuch:1\nENV A=$FROM_BASE\nWORKDIR x\n"), ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	opt := amd64()
	opt.Best = BestAll
	ref := BaseRef{Name: "nosuch:1", Platform: "linux/amd64"}
	plan, _, err := f.Plan(opt, map[BaseRef]Base{ref: {Unknown: true}})
	if err != nil || plan == nil {
		t.Fatalf("%v %v", plan, err)
	}
	var got []string
	for _, w := range plan.Warnings {
		got = append(got, w.Rule)
	}
	if want := []string{"BestNonRoot", "WorkdirRelativePath"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q: the base may set variables", got, want)
	}
}

func TestWarningsComeWithAParseError(t *testing.T) {
	t.Parallel()
	_, err := Parse("Dockerfile", []byte("FROM scratch as X\nMAINTAINER x\nXYZZYXYZZY\n"), ParseOptions{})
	e := wantError(t, err, 3, "unknown instruction", "")
	if len(e.Warnings) != 3 {
		t.Errorf("warnings %+v", e.Warnings)
	}
}

// Good practice, in the styles that people follow: no rule may find anything there,
// of the reference's or our own.
func TestBestRules_NoFalseAlarmInGoodPractice(t *testing.T) {
	t.Parallel()
	names, err := filepath.Glob("testdata/clean/*.Dockerfile")
	if err != nil || len(names) < 30 {
		t.Fatalf("%d files, %v", len(names), err)
	}
	for _, name := range names {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		plan := planUnknown(t, name, src)
		for _, w := range plan.Warnings {
			t.Errorf("%s:%d: %s: %s", name, w.Pos.Start, w.Rule, w.Message)
		}
		if out, changes := fixed(t, string(src)); out != string(src) {
			t.Errorf("%s: fixed %+v", name, changes)
		}
	}
}

// planUnknown plans all stages with every rule, of bases that nobody knows.
func planUnknown(t *testing.T, name string, src []byte) *Plan {
	t.Helper()
	f, err := Parse(name, src, ParseOptions{})
	if err != nil {
		t.Fatal(err)
	}
	opt := amd64()
	opt.AllStages, opt.Best = true, BestAll
	known := map[BaseRef]Base{}
	plan, missing, err := f.Plan(opt, known)
	for _, ref := range missing {
		known[ref] = Base{Unknown: true}
	}
	if err == nil && plan == nil {
		plan, _, err = f.Plan(opt, known)
	}
	if err != nil || plan == nil {
		t.Fatalf("%s: %v", name, err)
	}
	return plan
}

// The examples show how it is done: no rule may find anything there. The
// stand-ins for base images leave the user to the images built on them.
func TestBestRules_NoFalseAlarmInTheExamples(t *testing.T) {
	t.Parallel()
	for name, except := range map[string]string{
		"httpserver/Dockerfile": "", "bases/busybox.Dockerfile": "BestNonRoot", "bases/golang.Dockerfile": "BestNonRoot",
	} {
		src, err := os.ReadFile("../examples/" + name)
		if err != nil {
			t.Fatal(err)
		}
		plan := planUnknown(t, name, src)
		for _, w := range plan.Warnings {
			if w.Rule != except {
				t.Errorf("%s:%d: %s: %s", name, w.Pos.Start, w.Rule, w.Message)
			}
		}
	}
}
