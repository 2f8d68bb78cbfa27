#!/usr/bin/env bash
# Runs every benchmark to its end and prints the project's figures in one table, beside their budgets and what Kubernetes does.
# BUILD=1 also times an incremental build, which touches a source file.
set -euo pipefail
cd "$(dirname "$0")/.."

TROUPE_BENCH_ROWS=$(mktemp)
export TROUPE_BENCH_ROWS
trap 'rm -f "$TROUPE_BENCH_ROWS"' EXIT

cargo bench --workspace --bench '*'

if [ -n "${BUILD:-}" ]; then
    cargo build --bin troupe
    touch src/actors/controllers/deployment/plan.rs
    begun=$(date +%s.%N)
    cargo build --bin troupe
    awk -v begun="$begun" -v ended="$(date +%s.%N)" 'BEGIN {
        took = ended - begun
        printf "incremental build after touching one controller\t%.1f s%s\t≤ 25.0 s\t\n", took, took <= 25 ? "" : " ✘"
    }' >> "$TROUPE_BENCH_ROWS"
fi

echo
{
    printf 'figure\tmeasured\tbudget\tKubernetes v1.36, 2 cores\n'
    printf '%s\t%s\t%s\t%s\n' "------" "--------" "------" "-------------------------"
    cat "$TROUPE_BENCH_ROWS"
} | column -t -s "$(printf '\t')"
