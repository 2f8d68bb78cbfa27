#!/usr/bin/env bash
# Prints the longest source files and functions, tests left out, so that growth is seen early.
set -euo pipefail
cd "$(dirname "$0")/.."

sources() {
    git ls-files 'src/*.rs' | grep -v '/\(tests\|[a-z_]*_tests\|benches\)\(\.rs\|/\)'
}

echo "longest source files (lines):"
sources | xargs wc -l | grep -v ' total$' | sort -rn | awk 'NR <= 10'

# Formatted code closes a function with a brace as deep as its `fn`; a declaration ends in a semicolon instead.
# Unit tests at a file's end are left out as well.
echo "longest functions (lines):"
sources | xargs awk '
    FNR == 1 { delete start; delete name; tests = 0 }
    /^mod [a-z_]*tests \{/ { tests = 1 }
    tests { next }
    { match($0, /^ */); depth = RLENGTH }
    match($0, /^ *(pub(\([^)]*\))? )?((const|async|unsafe|extern "[^"]*") )*fn [a-z0-9_]+/) && !/(\}|;)$/ {
        start[depth] = FNR
        name[depth] = substr($0, 1, RLENGTH)
        sub(/.* /, "", name[depth])
    }
    (depth in start) && /^ *\).*;$/ { delete start[depth] }
    (depth in start) && /^ *\}$/ {
        printf "%5d %s:%d %s\n", FNR - start[depth] + 1, FILENAME, start[depth], name[depth]
        delete start[depth]
    }
' | sort -rn | awk 'NR <= 10'
