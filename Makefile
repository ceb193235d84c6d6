# Rollcall. `make` lists the targets; each installs what it lacks on Debian
# (as root or with sudo) and on macOS (with brew).

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
NATS_SERVERS := $(CURDIR)/.cache/nats-server

# Small enough for CI; `make fuzz FUZZTIME=10m` looks longer.
FUZZTIME ?= 5s
# `make test SHUFFLE=<seed>` repeats the order that a failure printed.
SHUFFLE ?= on

export FUZZTIME SHUFFLE
export ROLLCALL_TEST_NATS_SERVERS := $(NATS_SERVERS)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: dev
dev: ## run everything on this machine: NATS, Postgres, ingest and a store (ARGS=--emulate: a Clerk too)
	@.ci/deps dev
	@$(MAKE) --no-print-directory build
	@exec bin/rollcall dev $(ARGS)

.PHONY: build
build: ## build bin/rollcall and bin/clerkemu
	@# VERSION says it all, and Go's own stamp fails in a checkout that another user owns.
	CGO_ENABLED=0 go build -buildvcs=false -trimpath -ldflags '-X main.version=$(VERSION)' -o bin/ ./cmd/...

# The NATS and Postgres servers of the tests must end with them: orphans fails
# the target if one does not.
.PHONY: test
test: ## run the tests: race detector, PgBouncer, each NATS release, short fuzzing
	@.ci/deps test
	@.ci/nats-servers $(NATS_SERVERS)
	@go run ./.ci/orphans .ci/test

.PHONY: examples
examples: ## run the examples that need node: a web application in a browser, services
	@.ci/deps test examples
	@go run ./.ci/orphans .ci/test examples

.PHONY: soak
soak: ## run the long tests at full size (over an hour)
	@.ci/deps test
	@.ci/nats-servers $(NATS_SERVERS)
	ROLLCALL_SOAK=1 go run ./.ci/orphans go test -tags soak -timeout 80m -run Soak -v ./...

.PHONY: bench
bench: ## print the benchmark table
	@.ci/deps test
	go run ./internal/bench

.PHONY: lint
lint: ## run gofmt, go vet, staticcheck, shellcheck and promtool
	@.ci/deps lint
	@.ci/lint

.PHONY: fuzz
fuzz: ## fuzz each target for FUZZTIME (5s)
	@.ci/deps test
	@go run ./.ci/orphans .ci/test fuzz

# Not part of lint or CI: it downloads the vulnerability database each time, so
# its answer changes without a commit, and it fails where there is no network.
.PHONY: vuln
vuln: ## look for known vulnerabilities (needs the network; not run in CI)
	go run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...

.PHONY: clean
clean: ## remove what was built; keeps .rollcall, the data of make dev
	rm -rf bin .cache
