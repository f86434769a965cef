#!/usr/bin/env bash
# Shows gobuild at work on examples/httpserver: a build, a cached build, a build after an edit, an OCI archive, a push, a pull, and
# the pulled image serving a request. `make demo` installs what it needs and builds bin/gobuild first.
#
# Nothing outside this machine is contacted. The base images are made here with gobuild, from busybox-static and the Go toolchain,
# and served by a registry on a loopback port, as a user's registry would. They stay in .demo, so the next run is shorter.
set -euo pipefail
cd "$(dirname "$0")/.."

gobuild=bin/gobuild
state=.demo
go_version=$(go env GOVERSION | sed 's/^go//; s/ .*//')
busybox_version=$(busybox | sed -n '1s/^BusyBox v\([0-9.]*\).*/\1/p')
bases=$state/bases-go$go_version-busybox$busybox_version-$(go env GOARCH) # another toolchain gets other bases
work=$state/work
export GOBUILD_ROOT=$bases/root # as --root
export no_proxy=127.0.0.1        # curl would ask a proxy even for loopback
pids=()

say() { printf '\n=== %s\n' "$*"; }
run() { printf '$ %s\n' "$*"; "$@"; }
fail() { echo "demo: $*" >&2; exit 1; }

# Ends what this script started, by process id, also when a step fails.
finish() {
	status=$?
	trap - EXIT
	for pid in "${pids[@]}"; do
		kill -TERM "$pid" 2>/dev/null || continue
		wait "$pid" 2>/dev/null || true
	done
	[ "$status" -eq 0 ] || echo "demo: failed with status $status; logs are in $work" >&2
	exit "$status"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# listening LOG PID: waits until the log says "listening on ADDRESS", and prints the address.
listening() {
	local i address
	for ((i = 0; i < 300; i++)); do
		address=$(sed -n 's/.*listening on \([0-9.]*:[0-9]*\).*/\1/p' "$1" | head -n 1)
		if [ -n "$address" ]; then
			echo "$address"
			return
		fi
		kill -0 "$2" 2>/dev/null || break
		sleep 0.1
	done
	cat "$1" >&2
	return 1
}

# seconds COMMAND...: runs it and sets $took to its time in seconds.
seconds() {
	local start=$EPOCHREALTIME
	run "$@"
	took=$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f", b - a }')
}

[ -x "$gobuild" ] || fail "bin/gobuild is missing: run make build, or make demo"
began=$SECONDS
rm -rf "$work"
mkdir -p "$work" "$bases"

say "A registry on loopback"
cat >"$work/registry.yml" <<-YML
	version: 0.1
	log: {level: info, accesslog: {disabled: true}}
	storage: {filesystem: {rootdirectory: $PWD/$bases/registry}}
	http: {addr: "127.0.0.1:0"}
YML
: >"$work/registry.log"
docker-registry serve "$work/registry.yml" >"$work/registry.log" 2>&1 &
pids+=($!)
registry=$(listening "$work/registry.log" "${pids[-1]}") || fail "the registry did not start"
echo "docker-registry listens on $registry"

busybox_image=$registry/busybox:$busybox_version
golang_image=$registry/golang:$go_version
busybox_context=busybox:$busybox_version=docker-image://$busybox_image
golang_context=golang:$go_version=docker-image://$golang_image

if [ -e "$bases/complete" ]; then
	say "Base images: kept from an earlier run"
else
	say "Base images, made with gobuild from busybox-static and Go $go_version, and pushed"
	tree=$work/busybox
	mkdir -p "$tree"/{bin,etc,root,tmp,var,usr/local/bin}
	chmod 1777 "$tree/tmp"
	cp /bin/busybox "$tree/bin/busybox"
	/bin/busybox --list | while read -r applet; do [ "$applet" = busybox ] || ln -s busybox "$tree/bin/$applet"; done
	echo 'root:x:0:0:root:/root:/bin/sh' >"$tree/etc/passwd"
	echo 'root:x:0:' >"$tree/etc/group"
	: >"$tree/etc/shadow"
	maker=$work/maker # a state directory of its own, so that the build below has to pull
	run "$gobuild" build --root "$maker" -f examples/bases/busybox.Dockerfile -t "$busybox_image" "$tree"
	run "$gobuild" push --root "$maker" "$busybox_image"
	run "$gobuild" build --root "$maker" -f examples/bases/golang.Dockerfile -t "$golang_image" \
		--build-arg "BUSYBOX_VERSION=$busybox_version" --build-context "$busybox_context" "$(go env GOROOT)"
	run "$gobuild" push --root "$maker" "$golang_image"
	touch "$bases/complete"
fi

say "The build: examples/httpserver/Dockerfile"
cat examples/httpserver/Dockerfile
cp -r examples/httpserver "$work/httpserver"
image=$registry/httpserver:1.0
build=("$gobuild" build -t "$image"
	--build-arg "GO_VERSION=$go_version" --build-arg "BUSYBOX_VERSION=$busybox_version"
	--build-context "$golang_context" --build-context "$busybox_context")
seconds "${build[@]}" --no-cache "$work/httpserver"
first=$took

say "The same build again: nothing changed"
seconds "${build[@]}" "$work/httpserver"
cached=$took
echo "(took $cached s)"

say "One source line edited: what runs again, and why"
greeting="hello at $(date +%T)" # a text that no earlier demo built, or it would be cached
run sed -i "s/hello from gobuild/$greeting/" "$work/httpserver/main.go"
seconds "${build[@]}" --explain "$work/httpserver"
edited=$took

say "An OCI archive, read by other tools"
archive=$work/httpserver.tar
run "${build[@]}" -q -o "type=oci,dest=$archive" "$work/httpserver"
run skopeo --insecure-policy inspect "oci-archive:$archive"
mkdir "$work/layout"
tar -C "$work/layout" -xf "$archive"
tag=$(umoci ls --layout "$work/layout" | head -n 1)
run umoci unpack --image "$work/layout:$tag" "$work/bundle"
run ls -l "$work/bundle/rootfs/usr/local/bin/server"
grep -q '^app:' "$work/bundle/rootfs/etc/passwd" || fail "the unpacked image lacks the user that RUN added"

say "A push over HTTP"
run "$gobuild" push "$image"
run curl -fsS "http://$registry/v2/_catalog"
curl -fsS "http://$registry/v2/_catalog" | grep -q '"httpserver"' || fail "the registry does not list the image"

say "The pushed image, pulled into an empty state directory and started in gobuild's sandbox"
fresh=$work/fresh
run "$gobuild" pull --root "$fresh" "$image"
: >"$work/server.log"
echo "\$ $gobuild run --root $fresh --network=host $image server 127.0.0.1:0 &"
"$gobuild" run --root "$fresh" --network=host "$image" server 127.0.0.1:0 >"$work/server.log" 2>&1 &
pids+=($!)
server=$(listening "$work/server.log" "${pids[-1]}") || fail "the server did not start"
echo "\$ curl http://$server/"
answer=$(curl -fsS --max-time 10 "http://$server/")
echo "$answer"
[ "$answer" = "$greeting, as user 10001" ] || fail "unexpected answer: $answer"

say "Summary"
cat <<TEXT
first build        $first s
fully cached       $cached s
after one edit     $edited s
OCI archive        $(stat -c %s "$archive") bytes, read by skopeo and umoci
pushed and pulled  $image
its server said    $answer
whole demo         $((SECONDS - began)) s
TEXT
