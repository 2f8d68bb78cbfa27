#!/usr/bin/env bash
# The whole test suite: unit tests of every crate, then the integration tests against real parts.
set -euo pipefail
cd "$(dirname "$0")/.."

# Static executables and images for the integration tests, with the fast profile for our own binary. It is built with the tests:
# they ask for more features of what both depend on, so that a build of its own would compile much of it a second time.
make --no-print-directory images PROFILE=dev BUILD="cargo test --workspace --no-run"

# Attacks come last and one at a time: each watches how others fare meanwhile.
cargo test --workspace --lib --bins --test clients --test fuzz --test integration
cargo test --workspace --test attacks -- --test-threads=1
