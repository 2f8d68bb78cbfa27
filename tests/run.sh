#!/usr/bin/env bash
# The whole test suite: unit tests of every crate, then the integration tests against real parts.
set -euo pipefail
cd "$(dirname "$0")/.."

# Static executables and images for the integration tests, with the fast profile for our own binary.
make --no-print-directory images PROFILE=dev

cargo test --workspace
