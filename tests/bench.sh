#!/usr/bin/env bash
# Prints the project's performance figures, as ratios where a peer or a limit is at hand.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo bench --workspace --benches
