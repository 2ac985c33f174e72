# seedpod: everything that is done with this project, one target each. `make` alone lists them.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PREFIX ?= /usr/local
DESTDIR ?=
ARCH := $(shell uname -m)
BIN := target/bin

# musl or gnu; by default musl, where its target is installed or rustup can get it.
TARGET ?= $(shell scripts/static-target)
TRIPLE := $(ARCH)-unknown-linux-$(TARGET)

# Debian packages: for building and testing, and the peers that `make bench` compares with.
PACKAGES := gcc libc6-dev musl-tools libseccomp-dev busybox-static user-mode-linux kmod iproute2 \
	e2fsprogs util-linux mount procps patchelf
PEERS := runc crun

# A terminal sees cargo's progress; a log sees only what is wrong.
QUIET := $(shell [ -t 2 ] || echo --quiet)

say = @printf '\033[1m%s\033[0m\n' "$(1)"

# `setup build` is an order.
.NOTPARALLEL:
.PHONY: help setup setup-bench build demo test unit bench lint format clean install uninstall

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing: Debian packages and the musl target of Rust
	@scripts/install-missing $(PACKAGES)
	@scripts/static-target >/dev/null

setup-bench: setup ## the same, and the peers that `make bench` compares with
	@scripts/install-missing $(PEERS)

build: ## static release programs in target/bin (TARGET=musl or TARGET=gnu)
	$(call say,building for $(TRIPLE) (some minutes the first time))
	@CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static" \
	 CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUSTFLAGS="-C target-feature=+crt-static" \
		cargo build $(QUIET) --release --bins --target $(TRIPLE)
	@mkdir -p $(BIN)
	@for name in seedpod podctl; do \
		install -m 755 target/$(TRIPLE)/release/$$name $(BIN)/$$name; \
		printf '  %-20s %s KiB, static\n' $(BIN)/$$name $$(( $$(stat -c %s $(BIN)/$$name) / 1024 )); \
		! readelf -l $(BIN)/$$name | grep -q INTERP || { echo "$$name is not static" >&2; exit 1; }; \
	done

demo: setup build ## show a pod from its manifest to its end (needs root; installs what is missing)
	@examples/demo.sh

test: setup build ## every test: unit and golden, then kernel features here and in test kernels
	@tests/run

unit: ## only the tests that need no root
	@tests/run --only unit

bench: setup-bench build ## compare with the peers: interleaved, medians and ratios
	@benches/run.sh

lint: ## formatting, clippy, documentation
	$(call say,rustfmt)
	@cargo fmt --check
	$(call say,clippy)
	@cargo clippy --quiet --all-targets -- -D warnings
	$(call say,rustdoc)
	@RUSTDOCFLAGS="-D warnings" cargo doc --quiet --no-deps --document-private-items

format: ## rustfmt
	@cargo fmt

clean: ## remove what was built
	@cargo clean --quiet

# Not after `build`, for whoever builds as a user and installs as root.
install: ## what was built, into DESTDIR and PREFIX (/usr/local)
	@[ -x $(BIN)/seedpod ] && [ -x $(BIN)/podctl ] || { echo "nothing is built yet: make build" >&2; exit 1; }
	@install -D -m 755 -t $(DESTDIR)$(PREFIX)/bin $(BIN)/seedpod $(BIN)/podctl
	@echo "  $(DESTDIR)$(PREFIX)/bin/{seedpod,podctl}"

uninstall: ## what install put there
	@rm -f $(DESTDIR)$(PREFIX)/bin/seedpod $(DESTDIR)$(PREFIX)/bin/podctl
