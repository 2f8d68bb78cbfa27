#!/usr/bin/env bash
# Fuzzes the targets that are named, or all, FUZZ_SECONDS each, FUZZ_JOBS at a time, and prints what came of it.
# `cargo fuzz run -s none TARGET` does the same for one target, where cargo-fuzz is installed.
set -euo pipefail
cd "$(dirname "$0")"

seconds=${FUZZ_SECONDS:-600}
jobs=${FUZZ_JOBS:-2}
host=$(rustc -vV | sed -n 's/^host: //p')
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/../target}/fuzz
found=$CARGO_TARGET_DIR/found
mkdir -p "$found"

# What cargo-fuzz asks of the compiler for coverage; a stable one can do it.
coverage="-Cpasses=sancov-module"
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    coverage+=" -Cllvm-args=-sanitizer-coverage-$option"
done
RUSTFLAGS="--cfg fuzzing $coverage -Ccodegen-units=4" cargo build --release --target "$host" --bins

# Runs one target; its corpus grows outside of the tree.
fuzz() {
    local target=$1 corpus=$CARGO_TARGET_DIR/corpus/$1 log=$found/$1.log status=0
    mkdir -p "$corpus"
    "$CARGO_TARGET_DIR/$host/release/$target" -max_total_time="$seconds" -max_len=65536 -timeout=30 -rss_limit_mb=1024 \
        -print_final_stats=1 -artifact_prefix="$found/$target-" "$corpus" "corpus/$target" >"$log" 2>&1 || status=$?
    local stat
    stat() { sed -n "s/^stat::$1: *//p" "$log"; }
    printf '%-16s %12s executions %6s MiB at most  %s\n' "$target" "$(stat number_of_executed_units)" "$(stat peak_rss_mb)" \
        "$([ "$status" = 0 ] && echo nothing found || echo "FOUND: $log")"
    return "$status"
}
export -f fuzz
export seconds host found

[ $# -gt 0 ] || set -- $(ls fuzz_targets | sed 's/\.rs$//')
printf '%s\n' "$@" | xargs -P "$jobs" -I TARGET bash -c 'fuzz TARGET'
