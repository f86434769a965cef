package main

import (
	"strconv"
	"strings"
)

// kind is the shape of a flag's value.
type kind int

const (
	kindBool   kind = iota // --flag, --flag=false
	kindString             // --flag v; the last one wins
	kindList               // --flag v, as often as wanted
)

// verdict says what a known flag does here (FEATURES N1).
type verdict int

const (
	yes   verdict = iota
	noop          // accepted, without effect: one notice
	no            // an error with the reason
	later         // an error: "not supported yet", with what to use until then
)

// flagSpec is one row of a flag table.
type flagSpec struct {
	name  string
	short string
	kind  kind
	bare  string // value of the flag without one, where it may stand alone
	arg   string // placeholder in the help
	does  verdict
	text  string // yes: help. noop, no, later: why, and what to use.
	// decide gives the verdict by value; "" as text keeps the row's.
	decide func(v string) (verdict, string)
}

// laterUnlessFalse is for a flag whose "off" is what gobuild does anyway.
func laterUnlessFalse(text string) func(string) (verdict, string) {
	return func(v string) (verdict, string) {
		if v == "false" || v == "" {
			return yes, ""
		}
		return later, text
	}
}

// laterUnlessTrue is the same for flags whose "on" is what gobuild does anyway.
func laterUnlessTrue(text string) func(string) (verdict, string) {
	return func(v string) (verdict, string) {
		if v == "true" {
			return yes, ""
		}
		return later, text
	}
}

// anyOf gives a verdict to some values and another to the rest.
func anyOf(values []string, does, rest verdict, text, restText string) func(string) (verdict, string) {
	return func(v string) (verdict, string) {
		for _, x := range values {
			if v == x {
				return does, text
			}
		}
		return rest, restText
	}
}

// globalFlags belong to every command and may stand before its name (N11).
func globalFlags() []flagSpec {
	return []flagSpec{
		{name: "root", kind: kindString, arg: "DIR", text: "state directory (default /var/lib/gobuild, or $XDG_DATA_HOME/gobuild for users)"},
		{name: "config", kind: kindString, arg: "FILE", text: "defaults of flags (default $XDG_CONFIG_HOME/gobuild/gobuild.toml, then /etc/gobuild/gobuild.toml; empty: none)"},
		{name: "log-level", kind: kindString, arg: "LEVEL", text: "show remarks from this level on: info, warn or error"},
		{name: "no-color", kind: kindBool, text: "never use colour"},
		{name: "progress", kind: kindString, arg: "MODE", text: "auto (tty on a terminal, else plain), plain, plain-buildkit, tty, rawjson, quiet or none"},
		{name: "timeout", kind: kindString, arg: "DURATION", text: "give up after this time, e.g. 30m; time that the build is stopped by ^Z counts"},
		{name: "error-format", kind: kindString, arg: "FORMAT", text: "how errors are written: text or json"},
		{name: "log-timestamp", kind: kindBool, text: "begin each line of progress with the time"},
		{name: "authfile", kind: kindString, arg: "FILE", text: "registry credentials (default $REGISTRY_AUTH_FILE, then $DOCKER_CONFIG/config.json)"},
		{name: "creds", kind: kindList, arg: "[HOST=]USER:PASSWORD", text: "credentials for this registry (default that of the names on the command line), before those of any file"},
		{name: "retry", kind: kindString, arg: "N", text: "how often a request to a registry that failed is made again (default 4)"},
		{name: "retry-delay", kind: kindString, arg: "DURATION", text: "wait before the first time, e.g. 500ms; it doubles (default 1s)"},
		{name: "ca", kind: kindString, arg: "FILE", text: "more certificate authorities for registries, PEM"},
		{name: "insecure-registry", kind: kindList, arg: "HOST", text: "speak plain HTTP or unverified TLS with this registry"},
		{name: "tls-verify", kind: kindBool, text: "=false: speak unverified TLS, or plain HTTP, with every registry that is named"},
		{name: "cert-dir", kind: kindString, arg: "DIR", text: "authorities (*.crt) and client certificates (*.cert with *.key) for registries"},
		{name: "registry-mirror", kind: kindList, arg: "[HOST=]MIRROR[/PREFIX]", text: "pull images of this registry (default docker.io) from a mirror first"},
		{name: "registry-config", kind: kindList, arg: "FILE|DIR", text: "registries.toml, podman's registries.conf, or a folder like /etc/containerd/certs.d (default: those of the system and the user)"},
		{name: "registry-token-host", kind: kindList, arg: "HOST", text: "a registry may have its credentials sent to this host for a token"},
		{name: "allow-private", kind: kindBool, text: "let registries send us on to private addresses"},
	}
}

// buildFlags is every flag that build and plan know: the union of FEATURES N2
// to N8 and gobuild's own.
func buildFlags() []flagSpec {
	var all []flagSpec
	for _, group := range [][]flagSpec{whatFlags(), resultFlags(), runFlags(), gcFlags(), lintFlags(), laterDockerFlags(), laterBuildahFlags(), laterOwnFlags(), noopFlags(), noFlags(), kanikoFlags()} {
		all = append(all, group...)
	}
	return all
}

// whatFlags choose what is built.
func whatFlags() []flagSpec {
	return []flagSpec{
		{name: "file", short: "f", kind: kindString, arg: "FILE", text: "Dockerfile; - reads it from standard input (default Dockerfile in the context)"},
		{name: "ignorefile", kind: kindString, arg: "FILE", text: "ignore file in place of .dockerignore"},
		{name: "context-sub-path", kind: kindString, arg: "DIR", text: "a folder of the context that is the context instead, also of a repository or an archive"},
		{name: "target", kind: kindString, arg: "STAGE", text: "stage to build, by name or number (default the last)"},
		{name: "build-arg", kind: kindList, arg: "NAME[=VALUE]", text: "value of an ARG; without = it is taken from the environment"},
		{name: "build-arg-file", kind: kindList, arg: "FILE", text: "file of NAME=VALUE lines, each as a --build-arg"},
		{name: "build-context", kind: kindList, arg: "NAME=SOURCE", text: "named context: a directory, docker-image://REF, oci-layout://DIR, target:STAGE, an http(s) URL or a git repository"},
		{name: "platform", kind: kindList, arg: "OS/ARCH", text: "platforms of the result, by comma or repeated (default this machine's); several make an index"},
		{name: "emulator", kind: kindList, arg: "[ARCH=]FILE", text: "static emulator for RUN of another architecture where this machine has no handler, e.g. qemu-aarch64-static"},
		{name: "all-platforms", kind: kindBool, text: "build for all platforms for which the base images exist"},
		{name: "arch", kind: kindString, arg: "ARCH", text: "architecture of the result, as part of --platform"},
		{name: "os", kind: kindString, arg: "OS", text: "operating system of the result, as part of --platform"},
		{name: "variant", kind: kindString, arg: "VARIANT", text: "variant of the architecture, as part of --platform"},
		{name: "pull", kind: kindString, bare: "always", arg: "POLICY", text: "ask the registry for bases: missing (default), always, newer or never"},
		{name: "offline", kind: kindBool, text: "ask nothing of other machines: what is not here already is an error"},
		{name: "lock", kind: kindString, arg: "FILE", text: "write down there what each base image, URL and git ref was"},
		{name: "locked", kind: kindBool, text: "end with status 2 where one of them is not what the file of --lock says (default gobuild.lock)"},
		{name: "no-cache", kind: kindBool, text: "run every step, whatever the cache holds"},
		{name: "no-cache-filter", kind: kindList, arg: "STAGE", text: "run every step of these stages"},
		{name: "cutoff", kind: kindBool, text: "where a step that ran again left the same files as before, take the steps behind it from the cache"},
		{name: "cache-from", kind: kindList, arg: "REF|type=registry,ref=REF|type=local,src=DIR", text: "take steps from a cache that other machines fill; mounts=true: of a folder, cache mounts too"},
		{name: "cache-to", kind: kindList, arg: "REF|type=...[,mode=max]", text: "put this build's steps there: those of the image, or with mode=max of all stages; type=inline: into the image itself; compression=, and for a folder mounts=true: cache mounts too"},
		{name: "jobs", kind: kindString, arg: "N", text: "RUN steps at a time (default the number of CPUs)"},
		{name: "secret", kind: kindList, arg: "id=ID[,src=FILE|env=VAR]", text: "secret for RUN --mount=type=secret"},
		{name: "deny-secret-leak", kind: kindBool, text: "refuse an image of which a layer holds the value of a --secret, with status 5; without it that is a warning"},
		{name: "ssh", kind: kindList, arg: "ID[=SOCKET]", text: "SSH agent for RUN --mount=type=ssh (default $SSH_AUTH_SOCK)"},
		{name: "label", kind: kindList, arg: "KEY=VALUE", text: "label of the image"},
		{name: "unsetlabel", kind: kindList, arg: "KEY", text: "label that the image does not have, though its base or the Dockerfile gives it one"},
		{name: "env", kind: kindList, arg: "NAME[=VALUE]", text: "variable of the image, not of its steps; without = it is taken from the environment"},
		{name: "unsetenv", kind: kindList, arg: "NAME", text: "variable that the image does not have, though its base or the Dockerfile gives it one"},
		{name: "annotation", kind: kindList, arg: "[TYPE:]KEY=VALUE", text: "annotation of the manifest, or of what TYPE[PLATFORM] says: manifest, manifest-descriptor, index, index-descriptor"},
		{name: "inherit-annotations", kind: kindBool, text: "take over the base image's annotations, and name it in org.opencontainers.image.base.name and .digest"},
		{name: "unsetannotation", kind: kindList, arg: "KEY", text: "annotation that is not taken over"},
		{name: "provenance", kind: kindString, arg: "MODE", bare: "true", text: "say beside the image how it was made: true, false, or mode=min|max[,version=v1|v0.2][,builder-id=][,reproducible=][,inline-only=][,filename=]"},
		{name: "sbom", kind: kindString, arg: "BOOL|generator=IMAGE", bare: "true", text: "say beside the image which software it has (SPDX): true, false, or an image that finds out"},
		{name: "attest", kind: kindList, arg: "type=provenance|sbom[,KEY=VALUE]", text: "the same as --provenance and --sbom"},
		{name: "squash", kind: kindBool, text: "make one layer of those that this build adds"},
		{name: "squash-all", kind: kindBool, text: "make one layer of those and the base image's"},
		{name: "layer-xattrs", kind: kindString, arg: "KIND", text: "extended attributes in layers beside security.capability: none (default) or user"},
		{name: "source-date-epoch", kind: kindString, arg: "TIME", text: "latest time of everything the build makes: seconds since 1970, context, a named context or a stage (default $SOURCE_DATE_EPOCH)"},
		{name: "timestamp", kind: kindString, arg: "TIME", text: "the same as --source-date-epoch"},
		{name: "ignore-syntax", kind: kindBool, text: "build although a \"# syntax=\" line names another frontend"},
		{name: "explain", kind: kindString, bare: "text", arg: "FORMAT", text: "say of each step why the cache was used or not: text (default), or json on standard output", decide: explainVerdict},
		{name: "debug-on-failure", kind: kindBool, text: "open a shell where a RUN failed, as gobuild debug does"},
		{name: "with-secrets", kind: kindBool, text: "with --debug-on-failure and gobuild debug: the shell has the step's secrets and SSH agents"},
		{name: "debug", short: "D", kind: kindBool, text: "say where each setting came from"},
	}
}

// resultFlags choose what becomes of the result.
func resultFlags() []flagSpec {
	return []flagSpec{
		{name: "tag", short: "t", kind: kindList, arg: "NAME[:TAG]", text: "name of the image"},
		{name: "manifest", kind: kindString, arg: "NAME[:TAG]", text: "make an index, also of one platform, and name it so; one that has the name loses it"},
		{name: "output", short: "o", kind: kindList, arg: "OUTPUT", text: "result: type=image|registry|oci|docker|local|tar|cacheonly[,dest=PATH], a directory, or - for a tar"},
		{name: "push", kind: kindBool, text: "push the image under its -t names"},
		{name: "push-chunk", kind: kindString, arg: "SIZE", text: "upload larger blobs in chunks of this size, e.g. 16m, for proxies that limit requests (default: whole, and in chunks when that fails)"},
		{name: "push-ignore-immutable-tag-errors", kind: kindBool, text: "push by digest, with a notice, where a tag is there and the registry lets nobody move it"},
		{name: "sign", kind: kindString, arg: "KEYFILE", text: "sign what is pushed with this private key, as cosign does; the password of an encrypted one is $COSIGN_PASSWORD, or asked for"},
		{name: "load", kind: kindString, bare: "auto", arg: "TOOL", text: "hand the image to docker load or podman load"},
		{name: "dry-run", kind: kindBool, text: "say of each step whether it would come from the cache or run, and do neither; --explain=json as JSON"},
		{name: "quiet", short: "q", kind: kindBool, text: "print only the image id"},
		{name: "iidfile", kind: kindString, arg: "FILE", text: "write the image id to a file"},
		{name: "iidfile-raw", kind: kindString, arg: "FILE", text: "the same without \"sha256:\""},
		{name: "report", kind: kindString, arg: "FILE", text: "write what the build did as a page (FILE.html) or as JSON (FILE.json), also when it fails"},
		{name: "summary", kind: kindBool, text: "add a table of the steps to the summary of the job, the file of $GITHUB_STEP_SUMMARY"},
		{name: "metadata-file", kind: kindString, arg: "FILE", text: "write what the build did to a JSON file, also when it fails"},
		{name: "digest-file", kind: kindString, arg: "FILE", text: "write the manifest's digest to a file"},
		{name: "image-name-with-digest-file", kind: kindString, arg: "FILE", text: "write NAME@DIGEST of every tag to a file"},
		{name: "image-name-tag-with-digest-file", kind: kindString, arg: "FILE", text: "write NAME:TAG@DIGEST of every tag to a file"},
		{name: "exit-code-from-step", kind: kindBool, text: "exit with the code of the failed RUN rather than 1"},
	}
}

// runFlags shape and limit the RUN steps, and the process of gobuild run.
func runFlags() []flagSpec {
	return []flagSpec{
		{name: "allow", kind: kindList, arg: "ENTITLEMENT", text: "let steps have more: network.host, security.insecure, device or device=NAME; onbuild.secret, onbuild.ssh: triggers of base images may use them"},
		{name: "network", kind: kindString, arg: "MODE", text: "network of RUN steps: default, bridge, host, none, container:PID or ns:PATH", decide: networkVerdict},
		{name: "network-strict", kind: kindBool, text: "fail rather than fall back to the host's network"},
		{name: "http-proxy", kind: kindBool, text: "give RUN steps the proxy variables of the environment"},
		{name: "add-host", kind: kindList, arg: "NAME:IP", text: "line of /etc/hosts in RUN steps"},
		{name: "dns", kind: kindList, arg: "IP", text: "name server in RUN steps; none leaves the image's /etc/resolv.conf"},
		{name: "dns-search", kind: kindList, arg: "DOMAIN", text: "search domain in RUN steps"},
		{name: "dns-option", kind: kindList, arg: "OPTION", text: "resolver option in RUN steps"},
		{name: "no-hosts", kind: kindBool, text: "leave the image's /etc/hosts in RUN steps"},
		{name: "cap-add", kind: kindList, arg: "CAPABILITY", text: "capability that RUN steps have beside the default ones, or ALL; some need --allow security.insecure"},
		{name: "cap-drop", kind: kindList, arg: "CAPABILITY", text: "capability that RUN steps do not have, or ALL"},
		{name: "device", kind: kindList, arg: "DEVICE", text: "device of RUN steps, /dev/NAME[:/PATH][:rwm] or a CDI name VENDOR/CLASS=NAME; needs --allow device"},
		{name: "security-opt", kind: kindList, arg: "OPTION", text: "no-new-privileges; seccomp=FILE or seccomp=unconfined with --allow security.insecure", decide: securityOptVerdict},
		{name: "hostname", kind: kindString, arg: "NAME", text: "host name in RUN steps (default buildkitsandbox)"},
		{name: "shm-size", kind: kindString, arg: "SIZE", text: "size of /dev/shm (default 64m)"},
		{name: "ulimit", kind: kindList, arg: "NAME=SOFT[:HARD]", text: "resource limit of RUN steps, e.g. nofile=1024"},
		{name: "memory", short: "m", kind: kindString, arg: "SIZE", text: "memory limit of each RUN step, e.g. 512m"},
		{name: "memory-swap", kind: kindString, arg: "SIZE", text: "limit of memory plus swap, -1 for no limit"},
		{name: "cpus", kind: kindString, arg: "N", text: "CPUs that each RUN step may use, e.g. 1.5"},
		{name: "cpu-shares", short: "c", kind: kindString, arg: "N", text: "CPU weight, 2 to 262144 (1024 is normal)"},
		{name: "cpu-period", kind: kindString, arg: "USEC", text: "period of the CPU quota"},
		{name: "cpu-quota", kind: kindString, arg: "USEC", text: "CPU time in each period"},
		{name: "cpuset-cpus", kind: kindString, arg: "LIST", text: "CPUs to run on, e.g. 0-3,7"},
		{name: "cpuset-mems", kind: kindString, arg: "LIST", text: "memory nodes to use"},
		{name: "pids-limit", kind: kindString, arg: "N", text: "processes that each RUN step may have, -1 for no limit"},
		{name: "blkio-weight", kind: kindString, arg: "N", text: "share of block devices, 10 to 1000"},
		{name: "device-read-bps", kind: kindList, arg: "DEVICE:SIZE", text: "bytes that each RUN step may read from a block device in a second, e.g. /dev/sda:10m"},
		{name: "device-write-bps", kind: kindList, arg: "DEVICE:SIZE", text: "bytes that each RUN step may write to a block device in a second"},
		{name: "device-read-iops", kind: kindList, arg: "DEVICE:N", text: "reads of a block device in a second"},
		{name: "device-write-iops", kind: kindList, arg: "DEVICE:N", text: "writes to a block device in a second"},
		{name: "resource", kind: kindList, arg: "KEY=VALUE,...", text: "the limits above in one flag, e.g. memory=2g,cpu-quota=50000"},
		{name: "cgroup-parent", kind: kindString, arg: "PATH", text: "control group to run steps below, a path or NAME.slice"},
		{name: "step-timeout", kind: kindString, arg: "DURATION", text: "end a RUN step that takes longer, e.g. 10m: TERM, and KILL after 10s; time that it is stopped by ^Z does not count"},
		{name: "best-effort-limits", kind: kindBool, text: "only say so when a limit cannot be set"},
	}
}

func networkVerdict(v string) (verdict, string) {
	pid, container := strings.CutPrefix(v, "container:")
	path, joined := strings.CutPrefix(v, "ns:")
	switch {
	case v == "default" || v == "private" || v == "bridge" || v == "host" || v == "none" || v == "":
		return yes, ""
	case container && isPID(pid):
		return yes, ""
	case container:
		return no, "there is no daemon that knows containers by name; give the number of a process in it, container:PID"
	case joined && strings.HasPrefix(path, "/"):
		return yes, ""
	case joined:
		return no, "give the absolute path of a network namespace, e.g. ns:/run/netns/NAME"
	}
	return no, "the networks are default, bridge, host, none, container:PID and ns:PATH"
}

// isPID accepts the number of a process as the kernel writes it.
func isPID(s string) bool {
	n, err := strconv.ParseInt(s, 10, 32)
	return err == nil && n > 0 && strconv.FormatInt(n, 10) == s
}

func explainVerdict(v string) (verdict, string) {
	switch v {
	case "text", "json", "true", "false", "":
		return yes, ""
	}
	return no, "the formats are text and json"
}

// explained says whether --explain is on.
func explained(f flags) bool {
	v := f.str("explain")
	return v != "" && v != "false"
}
