#!/usr/bin/env bash
# The whole test suite: unit tests of every crate, then the integration tests against real parts.
set -euo pipefail
cd "$(dirname "$0")/.."

# Our programs and the images for the integration tests, with the fast profile. They are built with the tests: those
# ask for more features of what both depend on, so that a build of its own would compile much of it a second time.
make --no-print-directory images PROFILE=dev BUILD="cargo build --workspace --bins --tests"

# Attacks come last and one at a time: each watches how others fare meanwhile.
cargo test --workspace --lib --bins --test clients --test fuzz --test integration
cargo test --workspace --test attacks -- --test-threads=1
