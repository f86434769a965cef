#!/bin/sh
# What a CI job runs. Two jobs share nothing but the registry: the state directory is new and thrown away.
#
#   REGISTRY=registry.example.com/team COMMIT=$(git rev-parse HEAD) examples/ci/build.sh [CONTEXT]
#
# build.json then holds the digest that was pushed, and what each step cost or that it came from the cache.
set -eu
: "${REGISTRY:?is where images and cache are, as HOST/PATH}" "${COMMIT:?is the tag of the image}"
gobuild=${GOBUILD:-gobuild}
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT

"$gobuild" --root "$root" --progress "${PROGRESS:-plain}" --build-arg REGISTRY="$REGISTRY" \
	--cache-from "type=registry,ref=$REGISTRY/app-cache" \
	--cache-to "type=registry,ref=$REGISTRY/app-cache,mode=max" \
	-t "$REGISTRY/app:$COMMIT" --push --metadata-file build.json \
	"${1:-examples/ci/app}"
