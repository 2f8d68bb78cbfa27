#!/usr/bin/env bash
# Prints the longest source files, tests left out, so that growth is seen early.
set -euo pipefail
cd "$(dirname "$0")/.."
echo "longest source files (lines):"
git ls-files 'src/*.rs' | grep -v '/tests\(\.rs\|/\)' | xargs wc -l | sort -rn | sed -n '2,11p'
