package main

import "strings"

// Rows of flags that are to come: a switch, one value, several values.
func laterBool(name, text string) flagSpec {
	return flagSpec{name: name, kind: kindBool, does: later, text: text, decide: laterUnlessFalse(text)}
}

func laterString(name, text string) flagSpec {
	return flagSpec{name: name, kind: kindString, does: later, text: text}
}

func laterList(name, text string) flagSpec {
	return flagSpec{name: name, kind: kindList, does: later, text: text}
}

// Words that several rows share.
const (
	useCompression = "use -o type=oci,dest=FILE with compression= and compression-level="
	useStateCache  = "use --cache-from and --cache-to"
	useInsecure    = "name the registry: --insecure-registry HOST"
	useSBOM        = "use --sbom: the bill of materials is beside the image, or beside the files of -o type=local"
)

// laterDockerFlags are of docker and buildx (N2): known, meant to work some day, and until then an error.
func laterDockerFlags() []flagSpec {
	return []flagSpec{
		laterList("policy", "there are no source policies; pin bases by digest"),
	}
}

// laterBuildahFlags are of buildah and podman (N5).
func laterBuildahFlags() []flagSpec {
	return []flagSpec{
		laterString("os-version", "it is taken from the base image"),
		laterList("os-feature", "it is taken from the base image"),
		laterString("compression-format", useCompression),
		laterString("compression-level", useCompression),
		laterBool("force-compression", useCompression),
		laterBool("disable-compression", "use -o type=oci,dest=FILE,compression=uncompressed"),
		{name: "created-annotation", kind: kindBool, does: later, text: "no annotation is added", decide: laterUnlessFalse("no annotation is added")},
		{name: "format", kind: kindString, does: later, text: "images are written in the OCI format",
			decide: anyOf([]string{"oci"}, yes, later, "", "images are written in the OCI format; -o type=docker makes a file that docker load reads")},
		laterString("from", "use --build-context NAME=docker-image://REF to replace a base"),
		laterList("group-add", "put the groups into the image's /etc/group"),
		laterBool("identity-label", "use --label"),
		{name: "inherit-labels", kind: kindBool, does: later, text: "labels of the base are always kept", decide: laterUnlessTrue("labels of the base are always kept")},
		{name: "layers", kind: kindBool, text: "--layers=false is the same as --no-cache; each step is a layer in any case"},
		laterList("layer-label", "use --label"),
		laterString("logfile", "redirect standard error"),
		laterBool("logsplit", "redirect standard error"),
		laterBool("omit-history", "the history is part of the image"),
		{name: "rewrite-timestamp", kind: kindBool, does: later, text: "layers always follow --source-date-epoch",
			decide: laterUnlessTrue("layers always follow --source-date-epoch; use -o ...,rewrite-timestamp=false")},
		{name: "skip-unused-stages", kind: kindBool, does: later, text: "stages that the target does not need are left out",
			decide: laterUnlessTrue("stages that the target does not need are left out; build them with --target")},
		laterBool("stdin", "steps read nothing; use a heredoc"),
		laterList("userns-uid-map", "the mapping is chosen by gobuild"),
		laterList("userns-gid-map", "the mapping is chosen by gobuild"),
		laterList("userns-uid-map-user", "the mapping is chosen by gobuild"),
		laterList("userns-gid-map-group", "the mapping is chosen by gobuild"),
		{name: "volume", short: "v", kind: kindList, does: later, text: "use --build-context NAME=DIR and RUN --mount=type=bind,from=NAME"},
		laterString("cache-ttl", "use gobuild prune --unused-for DURATION"),
		{name: "isolation", kind: kindString, does: later, text: "the sandbox is chosen by gobuild", decide: isolationVerdict},
	}
}

// laterOwnFlags are gobuild's own, and those of buildah that have an own row elsewhere in FEATURES.
func laterOwnFlags() []flagSpec {
	return []flagSpec{
		laterList("mount", "use RUN --mount"),
		laterList("sbom-output", useSBOM),
		laterList("sbom-image-output", useSBOM),
		laterList("sbom-purl-output", useSBOM),
		laterList("sbom-image-purl-output", useSBOM),
		laterString("sbom-merge-strategy", useSBOM),
		laterString("sbom-preset", useSBOM),
		laterList("sbom-scanner-command", useSBOM),
		laterString("sbom-scanner-image", useSBOM),
		laterString("cgroup-driver", "groups are made as directories; use --cgroup-parent"),
		laterString("debug-image", "install busybox-static: an image without a shell gets it"),
		laterBool("watch", "run gobuild again"),
	}
}

func isolationVerdict(v string) (verdict, string) {
	switch v {
	case "default", "":
		return noop, "there is one kind of sandbox"
	case "hyperv", "process":
		return no, "it is for Windows; leave it out"
	case "chroot", "rootless", "oci":
		return later, "the sandbox is chosen by gobuild"
	}
	return no, "leave it out"
}

func securityOptVerdict(v string) (verdict, string) {
	key, value, _ := strings.Cut(strings.Replace(v, ":", "=", 1), "=")
	switch key {
	case "seccomp", "no-new-privileges":
		return yes, ""
	case "apparmor", "label":
		if value == "unconfined" || value == "disable" {
			return noop, "steps have no " + key + " confinement"
		}
		return no, "steps are not labelled; leave it out"
	}
	return noop, "it has no meaning for a build"
}

// noopFlags are accepted because they ask for what gobuild does anyway, or for something it has no use for (N3, N6).
func noopFlags() []flagSpec {
	b := func(name, text string) flagSpec { return flagSpec{name: name, kind: kindBool, does: noop, text: text} }
	s := func(name, text string) flagSpec {
		return flagSpec{name: name, kind: kindString, does: noop, text: text}
	}
	const noRuntime = "steps run in gobuild's own sandbox"
	const noStorage = "gobuild keeps its state below --root"
	return []flagSpec{
		b("rm", "no container is left behind"),
		b("force-rm", "no container is left behind"),
		b("compress", "the context is not sent anywhere"),
		b("disable-content-trust", "there is no content trust to disable"),
		s("builder", "there is no daemon to choose"),
		s("node", "there is no daemon to choose"),
		s("runtime", noRuntime),
		{name: "runtime-flag", kind: kindList, does: noop, text: noRuntime},
		{name: "hooks-dir", kind: kindList, does: noop, text: noRuntime},
		s("cgroupns", noRuntime),
		hostNamespace("ipc"),
		hostNamespace("uts"),
		hostNamespace("pid"),
		{name: "userns", kind: kindString, does: noop, text: noRuntime,
			decide: anyOf([]string{"host"}, later, noop, "the mapping is chosen by gobuild", noRuntime)},
		b("compat-volumes", "volumes keep what RUN writes, as in Docker"),
		s("storage-driver", noStorage),
		s("signature-policy", "images are checked by digest"),
		b("stage-labels", "labels of a stage are kept in it"),
		b("no-hostname", "no /etc/hostname is made in steps"),
		b("save-stages", "every stage is kept in the cache"),
		b("no-push", "nothing is pushed without --push"),
	}
}

// hostNamespace is --ipc, --uts or --pid: private is what steps have, host would take the sandbox away (N6, N7).
func hostNamespace(name string) flagSpec {
	return flagSpec{name: name, kind: kindString, does: noop, text: "steps always have their own",
		decide: func(v string) (verdict, string) {
			if v == "host" || hasAnyPrefix(v, "container:", "ns:") {
				return no, "steps always have their own namespace; leave it out"
			}
			return noop, "steps always have their own"
		}}
}

// noFlags are known and will not come (N4, N7).
func noFlags() []flagSpec {
	return []flagSpec{
		{name: "print", kind: kindString, does: no, text: "use gobuild plan"},
		{name: "cpp-flag", kind: kindList, does: no, text: "run cpp on the file first"},
		{name: "cw", kind: kindString, does: no, text: "confidential workloads are not offered"},
		{name: "decryption-key", kind: kindList, does: no, text: "encrypted images are not offered; decrypt the base first"},
		{name: "sign-by", kind: kindString, does: no, text: "sign what is pushed with --sign"},
	}
}

// kanikoFlags are the executor's, which gobuild executor will take (N8). Here each names its equivalent.
func kanikoFlags() []flagSpec {
	ignored := func(name string, k kind) flagSpec {
		return flagSpec{name: name, kind: k, does: noop, text: "it steers what only kaniko does"}
	}
	return []flagSpec{
		laterString("dockerfile", "use -f FILE"),
		laterString("context", "give the context directory as the argument"),
		{name: "destination", short: "d", kind: kindList, does: later, text: "use -t NAME --push"},
		laterString("tar-path", "use -o type=docker,dest=FILE"),
		laterString("oci-layout-path", "use -o type=oci,tar=false,dest=DIR"),
		laterString("custom-platform", "use --platform"),
		laterList("registry-map", "use --registry-mirror HOST=MIRROR"),
		laterList("registry-certificate", "use --ca FILE"),
		laterList("registry-client-cert", "use --cert-dir DIR"),
		laterBool("insecure", useInsecure),
		laterBool("insecure-pull", useInsecure),
		laterBool("skip-tls-verify", useInsecure),
		laterBool("skip-tls-verify-pull", useInsecure),
		laterList("skip-tls-verify-registry", useInsecure),
		laterString("push-retry", "use --retry N"),
		laterString("image-download-retry", "use --retry N"),
		{name: "cache", kind: kindBool, does: noop, text: "the cache is always used",
			decide: unlessTrueNoop("the cache is always used", "use --no-cache")},
		laterString("cache-repo", useStateCache),
		laterBool("no-push-cache", useStateCache),
		laterBool("reproducible", "use --source-date-epoch=0"),
		laterBool("single-snapshot", "use --squash"),
		laterString("compression", "use -o type=oci,dest=FILE,compression=..."),
		{name: "verbosity", kind: kindString, does: later, text: "use --log-level"},
		laterString("log-format", "use --progress=rawjson"),
		ignored("snapshot-mode", kindString),
		ignored("use-new-run", kindBool),
		ignored("cleanup", kindBool),
		ignored("force", kindBool),
		ignored("ignore-var-run", kindBool),
		ignored("ignore-path", kindList),
		ignored("cache-copy-layers", kindBool),
		ignored("cache-run-layers", kindBool),
		ignored("cache-dir", kindString),
		ignored("compressed-caching", kindBool),
		ignored("kaniko-dir", kindString),
		ignored("force-build-metadata", kindBool),
		ignored("image-fs-extract-retry", kindString),
		ignored("skip-push-permission-check", kindBool),
		{name: "bucket", kind: kindString, does: no, text: "fetch the context first, and give its directory"},
	}
}

// unlessTrueNoop is for a flag whose "on" has no effect and whose "off" has another spelling.
func unlessTrueNoop(on, off string) func(string) (verdict, string) {
	return func(v string) (verdict, string) {
		if v == "true" {
			return noop, on
		}
		return later, off
	}
}
