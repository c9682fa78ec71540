# SPDX-License-Identifier: Apache-2.0
#
# Everything a developer runs. Nothing is downloaded but Go modules and Debian
# packages; tools are pinned in tools/go.mod and tools/lint/go.mod and built
# once into a cache outside the tree.

SHELL := /bin/bash
.SHELLFLAGS := -euc
.DEFAULT_GOAL := build
.DELETE_ON_ERROR:
.NOTPARALLEL:

# The version is the newest heading of the change log; a package says which source it was made of.
VERSION  ?= $(shell awk '/^.. [0-9]/ {print $$2; exit}' CHANGELOG.md)
REVISION ?= $(shell git describe --always --dirty --abbrev=12 --exclude='*' 2>/dev/null || echo unknown)
ARCH     ?= $(shell go env GOARCH)
FUZZTIME ?= 30s
RUN      ?= .
export FUZZTIME

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/volseal-tools
sum    = $(shell sha256sum $(1) | cut -c1-16)
TOOLS := $(CACHE)/$(call sum,tools/go.sum)
LINT  := $(CACHE)/$(call sum,tools/lint/go.sum)
PROMTOOL := $(CACHE)/promtool
PROMETHEUS := $(CACHE)/prometheus

# One set of flags for building, vetting, linting and testing, so that all of
# them share one build cache: the EC2 client alone takes minutes to compile.
export CGO_ENABLED := 0
export GOFLAGS     := -trimpath -buildvcs=false

GOBUILD := go build
LDFLAGS := -X main.version=$(VERSION) -X main.revision=$(REVISION)

RULES   = $(wildcard packaging/prometheus/*.yml packaging/prometheus/*.yaml packaging/prometheus/*.rules)
RULETESTS = $(wildcard packaging/prometheus/tests/*.yml packaging/prometheus/tests/*.yaml)
METRICS = $(wildcard internal/metrics/testdata/*.prom)

##@ Building

.PHONY: build
build: bin/volseal bin/lab bin/labctl bin/labguest bin/ec2-metadata-mock bin/jq ## All binaries, under bin/

# go build knows better than make whether there is something to do.
.PHONY: FORCE
FORCE:

bin/volseal: FORCE
	$(GOBUILD) -ldflags '$(LDFLAGS)' -o $@ ./cmd/agent

bin/lab bin/labctl bin/labguest: bin/%: FORCE
	$(GOBUILD) -o $@ ./test/lab/cmd/$*

bin/ec2-metadata-mock: $(TOOLS)/ec2-metadata-mock
	install -D -m 0755 $< $@

# For the guest: Debian's jq compiles its own library at each start, most of a second there.
bin/jq: $(TOOLS)/gojq
	install -D -m 0755 $< $@

.PHONY: package
package: bin/volseal $(TOOLS)/nfpm ## .deb and .rpm, under dist/
	rm -rf dist && mkdir dist
	export VERSION='$(VERSION)' ARCH='$(ARCH)' SOURCE_DATE_EPOCH="$$(git log -1 --format=%ct)"; \
	for kind in deb rpm; do \
		$(TOOLS)/nfpm package --config packaging/nfpm.yaml --packager $$kind --target dist/; \
	done

.PHONY: clean
clean: ## Remove what was built here; the caches of tools and guest images stay
	rm -rf bin dist

##@ Checking

.PHONY: test
test: check e2e ## Everything

.PHONY: check
check: ## All that needs no virtual machine
	@tools/timed.sh check fmt-check vet lint unit race promtool vuln

.PHONY: fmt
fmt: $(TOOLS)/gofumpt ## Format all Go code
	$(TOOLS)/gofumpt -w .

.PHONY: fmt-check
fmt-check: $(TOOLS)/gofumpt
	@unformatted=$$($(TOOLS)/gofumpt -l .); \
	[ -z "$$unformatted" ] || { echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; }

.PHONY: vet
vet:
	go vet ./...

.PHONY: lint
lint: $(LINT)/golangci-lint ## golangci-lint with .golangci.yml
	$(LINT)/golangci-lint run

# Tests that use a program of the host skip where it is absent; here none does.
.PHONY: test-tools
test-tools:
	@tools/need.sh cryptsetup-bin:cryptsetup systemd:systemd-analyze awscli:/usr/bin/aws \
		mandoc:mandoc shellcheck:shellcheck

.PHONY: unit
unit: test-tools bin/ec2-metadata-mock
	go test $(GOTESTFLAGS) ./...

# Concurrency lives in internal/; the race detector needs a C compiler. The one test
# that is left out visits millions of facts in a pure function.
.PHONY: race
race: test-tools
	@tools/need.sh gcc:gcc libc6-dev:gcc
	CGO_ENABLED=1 go test -race -skip "^TestNextKeepsItsPromises$$" $(GOTESTFLAGS) ./internal/...

.PHONY: promtool
promtool: $(PROMTOOL) $(PROMETHEUS)
	@[ -z "$(RULES)" ] || $(PROMTOOL) check rules $(RULES)
	@[ -z "$(RULETESTS)" ] || $(PROMTOOL) test rules $(RULETESTS)
	@for golden in $(METRICS); do echo "checking $$golden"; $(PROMTOOL) check metrics <"$$golden"; done
	@echo "checking the dashboard's queries"; PATH="$(CACHE):$$PATH" go test -run '^TestDashboardQueriesParse$$' ./packaging
	@echo "checking that each panel shows something"; PATH="$(CACHE):$$PATH" go test -run '^TestEveryPanelShows$$' ./test/dashboard

# Exit status 3 means "found some"; any other failure is one of looking them up.
.PHONY: vuln
vuln: $(TOOLS)/govulncheck ## Known vulnerabilities, where the database can be reached
	@status=0; out=$$(timeout 120 $(TOOLS)/govulncheck ./... 2>&1) || status=$$?; \
	case $$status in \
	0|3) echo "$$out"; exit $$status;; \
	*) echo "govulncheck: skipped, the vulnerability database could not be read: $$(tail -n 1 <<<"$$out" | cut -c1-160)";; \
	esac

.PHONY: e2e
e2e: build package lab-tools ## The lab's scenarios on a real kernel; RUN=regexp for some
	@test/lab/e2e.sh '$(RUN)'

.PHONY: demo
demo: build package lab-tools ## The main job, told step by step
	@bin/lab run test/lab/demo/*.sh
	@echo 'demo: ok'

.PHONY: lab-tools
lab-tools:
	@tools/need.sh qemu-system-x86:qemu-system-x86_64 qemu-utils:qemu-img mmdebstrap:mmdebstrap \
		socat:socat e2fsprogs:mke2fs

.PHONY: fuzz
fuzz: ## Each fuzz target for FUZZTIME
	@tools/fuzz.sh

.PHONY: bench
bench: build package lab-tools ## Benchmarks, beside what they are compared to
	go test -run '^$$' -bench . -benchmem ./internal/... ./cmd/agent
	go test -c -o bin/luks.test ./internal/volume/luks
	bin/lab run --carry bin/luks.test test/lab/bench/*.sh

.PHONY: fleet
fleet: ## Simulate ten thousand hosts against one KMS quota; writes the figures of docs/fleet.md
	go test ./test/fleet -run '^TestFigures$$' -fleet.full -timeout 60m -v

.PHONY: dashboard
dashboard: $(PROMTOOL) $(PROMETHEUS) ## Draw the dashboard over a scripted fleet in a real Prometheus; writes the pictures of docs/metrics.md
	PATH="$(CACHE):$$PATH" go test ./test/dashboard -dashboard.write -v

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^##@/ {print "\n" substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  %-10s %s\n", $$1, $$2}' Makefile

##@ Tools

# tool_NAME: the package in tools/go.mod that builds it.
tool_gofumpt           := mvdan.cc/gofumpt
tool_nfpm              := github.com/goreleaser/nfpm/v2/cmd/nfpm
tool_ec2-metadata-mock := github.com/aws/amazon-ec2-metadata-mock/cmd/ec2-metadata-mock
tool_gojq              := github.com/itchyny/gojq/cmd/gojq
tool_govulncheck       := golang.org/x/vuln/cmd/govulncheck

$(TOOLS)/%:
	@echo "building $* (once)"
	cd tools && CGO_ENABLED=0 go build -trimpath -o $@ $(tool_$*)

$(LINT)/golangci-lint:
	@echo "building golangci-lint (once, some minutes)"
	cd tools/lint && CGO_ENABLED=0 go build -trimpath -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

$(PROMTOOL) $(PROMETHEUS):
	tools/prometheus.sh $(CACHE)
