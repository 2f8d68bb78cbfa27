# Troupe: see README.md. Everything here works on a fresh Debian or Ubuntu machine as root.

# Build output lives outside the checkout where TROUPE_TARGET_DIR says so.
export CARGO_TARGET_DIR ?= $(or $(TROUPE_TARGET_DIR),$(CURDIR)/target)
IMAGES := $(CARGO_TARGET_DIR)/images
# Whoever wants to see a cluster has it soonest with `quick`; all else is made of `release`.
PROFILE ?= $(if $(filter-out up,$(or $(MAKECMDGOALS),up)),release,quick)
BINARIES = $(CARGO_TARGET_DIR)/$(if $(filter dev,$(PROFILE)),debug,$(PROFILE))
TROUPE = $(BINARIES)/troupe

# How our programs are built, those of the images among them (config/rustc-wrapper.sh); the tests build them along with theirs.
BUILD ?= cargo build --profile $(PROFILE) --workspace --bins

.PHONY: up down test fuzz bench conformance swap lint images build install deps test-deps

## Start a cluster on this machine
up: images
	$(TROUPE) up --detach --image-dir $(IMAGES)

## Stop it (make down PURGE=1 removes its data too)
down:
	$(or $(firstword $(wildcard $(CARGO_TARGET_DIR)/quick/troupe $(TROUPE))),troupe) down $(if $(PURGE),--purge)

build: deps
	$(BUILD)

## The images, as OCI archives
images: build
	$(TROUPE) images build --binaries $(BINARIES) --out $(IMAGES)

## The daemons, their systemd units and the images, for a machine that runs them for good (docs/operations.md)
PREFIX ?= /usr/local
install: images
	install -D -m 0755 $(TROUPE) $(DESTDIR)$(PREFIX)/bin/troupe
	ln -sf troupe $(DESTDIR)$(PREFIX)/bin/troupe-control-plane
	ln -sf troupe $(DESTDIR)$(PREFIX)/bin/troupe-node
	install -d $(DESTDIR)$(PREFIX)/share/troupe/images $(DESTDIR)/etc/systemd/system
	install -m 0644 $(IMAGES)/* $(DESTDIR)$(PREFIX)/share/troupe/images/
	for unit in control-plane node; do sed "s|/usr/local|$(PREFIX)|" config/systemd/troupe-$$unit.service \
		> $(DESTDIR)/etc/systemd/system/troupe-$$unit.service; done

test: test-deps
	./tests/run.sh

## Fuzz everything that takes bytes of others, FUZZ_SECONDS a target (make fuzz TARGETS="json yaml" FUZZ_SECONDS=60)
fuzz: deps
	./fuzz/run.sh $(TARGETS)

bench: deps
	./tests/bench.sh

## Upstream's conformance specs, run by its test binary (make conformance E2E_TEST=/path/e2e.test; see docs/conformance.md)
conformance: test-deps images
	TROUPE=$(TROUPE) IMAGES=$(IMAGES) ./tests/conformance.sh

## Upstream's controllers and scheduler on our API server and ours on upstream's (make swap KUBERNETES=/path; see docs/operations.md)
swap: test-deps build
	TROUPE=$(TROUPE) KUBERNETES=$(KUBERNETES) ./tests/swap.sh

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items
	./tests/dependencies.sh
	./tests/size-report.sh

deps:
	./config/install-packages.sh

test-deps:
	./config/install-packages.sh --for-tests
