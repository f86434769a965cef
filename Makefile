# What can be done here, one line each. CI calls these targets and nothing else (.ci/run).
SHELL       := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := build

GO           ?= go
PREFIX       ?= /usr/local
CASES        ?= ../shared/cases
LINTCASES    ?= ../shared/lint
FUZZTIME     ?= 5m
LINT_VERSION := v2.15.0
LINT         := .bin/golangci-lint-$(LINT_VERSION)
TEST_NEEDS   := git openssh-client bzip2 xz-utils zstd curl python3 rpm db-util gcc libc6-dev busybox-static docker-registry skopeo umoci strace e2fsprogs uidmap
VM_NEEDS     := qemu-system-x86 busybox-static
DEMO_NEEDS   := busybox-static docker-registry skopeo umoci curl ca-certificates
BENCH_NEEDS  := busybox-static tar curl pigz zstd docker-registry skopeo runc

.PHONY: build binary install demo test test-vm packages vet tidy unit race cases lintcases fuzz fuzz-short lint example bench generate check clean

build:      ; CGO_ENABLED=0 $(GO) build -trimpath -o bin/gobuild ./cmd/build
install:    build ; install -D -m 0755 bin/gobuild $(DESTDIR)$(PREFIX)/bin/gobuild
demo:       ; .ci/packages $(DEMO_NEEDS) && $(MAKE) --no-print-directory build && examples/demo.sh
test:       packages vet tidy example binary lint race cases lintcases fuzz-short
test-vm:    ; .ci/packages $(VM_NEEDS) && .ci/step vm .ci/vm
packages:   ; .ci/packages $(TEST_NEEDS)
vet:        ; .ci/step vet $(GO) vet ./...
tidy:       ; .ci/step tidy $(GO) mod tidy -diff && .ci/step verify $(GO) mod verify
example:    ; .ci/step example $(GO) -C examples/httpserver test ./...
binary:     ; .ci/step build $(MAKE) --no-print-directory build
unit:       ; $(GO) test -shuffle=on -json ./... | $(GO) run ./internal/verdict tests testdata/skips.txt
race:       ; $(GO) test -race -shuffle=on -timeout=25m -json ./... | $(GO) run ./internal/verdict tests testdata/skips.txt
cases:      build ; .ci/cases $(CASES) testdata/cases-not-passing.txt testdata/cases-rows.txt
lintcases:  build ; .ci/step lintcases .ci/lintcases $(LINTCASES)
fuzz:       ; .ci/fuzz $(FUZZTIME) && .ci/step differential $(GO) test ./acceptance -count=1 -timeout=0 -run=TestI1_CacheEqualsNoCache -differential=$(FUZZTIME) && .ci/step faults $(GO) test ./acceptance -count=1 -timeout=0 -run=TestHostileF -faults && .ci/step leftovers $(GO) test ./acceptance -count=1 -timeout=0 -run=ManyBuildsLeaveNothing -many
fuzz-short: ; .ci/fuzz 10s
lint:       $(LINT) ; .ci/step lint $(LINT) run ./...
bench:      build ; .ci/packages $(BENCH_NEEDS) && $(GO) run ./bench -gobuild bin/gobuild $(BENCHFLAGS)
generate:   ; $(GO) generate ./...
check:      vet tidy example ; f=$$(gofmt -l $$(find . -path './.*' -prune -o -name '*.go' -print)); test -z "$$f" || { echo "not gofmt-ed:" $$f; false; }; $(GO) test .
clean:      ; rm -rf bin .demo bench/out.json

$(LINT):    ; GOBIN=$(CURDIR)/.bin $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION) && mv .bin/golangci-lint $@
