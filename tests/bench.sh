#!/usr/bin/env bash
# Runs every benchmark to its end and prints the project's figures in one table, beside their budgets and what Kubernetes does.
# INCREMENTAL=1 also times an incremental build, which touches a source file.
set -euo pipefail
cd "$(dirname "$0")/.."

TROUPE_BENCH_ROWS=$(mktemp)
export TROUPE_BENCH_ROWS
trap 'rm -f "$TROUPE_BENCH_ROWS"' EXIT

# Images for the whole-cluster benchmark, made by the program that is built with the benchmarks: they ask for more features of
# what both depend on, so that a build of its own would compile much of it a second time.
make --no-print-directory images BUILD="cargo build --release --workspace --bins --bench '*'"

# The table tells what was measured, also where something did not come to its end.
failed=0
cargo bench --workspace --bench '*' --no-fail-fast || failed=$?

if [ -n "${INCREMENTAL:-}" ]; then
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
exit "$failed"
