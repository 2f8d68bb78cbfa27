#!/usr/bin/env bash
# Checks what we depend on without compiling it: every licence is one we allow, no crate names a dependency it never uses, and modules
# import each other in layers, never in circles.
set -euo pipefail
cd "$(dirname "$0")/.."

# Licences that ask for no more than a notice, or only for changes to the very files they cover.
allowed="MIT MIT-0 Apache-2.0 BSD-1-Clause BSD-2-Clause BSD-3-Clause BSL-1.0 ISC Zlib 0BSD Unlicense CC0-1.0 Unicode-3.0 Unicode-DFS-2016 MPL-2.0 CDLA-Permissive-2.0"

failed=0
complain() {
    echo "$1" >&2
    failed=1
}

# Whether an SPDX expression can be met with allowed licences alone.
acceptable() {
    local expression=$1 word formula=""
    # Exceptions and later versions only widen what is permitted; a slash is an old way to write OR.
    expression=$(sed 's/ WITH [A-Za-z0-9.-]*//g; s/+//g; s,/, OR ,g; s/[()]/ & /g' <<<"$expression")
    for word in $expression; do
        case $word in
            "(" | ")") formula+=$word ;;
            OR) formula+="||" ;;
            AND) formula+="&&" ;;
            *) [[ " $allowed " == *" $word "* ]] && formula+=1 || formula+=0 ;;
        esac
    done
    [ -n "$formula" ] && (((formula)))
}

# Build dependencies too: what they generate ends up in our programs.
while IFS='|' read -r licence package; do
    [ -z "$package" ] || acceptable "$licence" || complain "licence: $package has \"$licence\""
done < <(cargo tree --locked --workspace --edges normal,build --prefix none --format '{l}|{p}' | sort -u)

# The names below a heading of a manifest.
named() {
    awk -v heading="[$2]" '$0 == heading { on = 1; next } /^\[/ { on = 0 } on && /^[a-z]/ { sub(/[ .=].*/, ""); print }' "$1"
}

# The sources of the crate in a folder, without those of crates further down.
sources() {
    local manifest others=()
    while read -r manifest; do
        others+=(":!$(dirname "$manifest")")
    done < <(git ls-files "$1/*/Cargo.toml")
    git ls-files "$1/*.rs" "${others[@]}"
}

# Complains about names of a manifest that no source below the given paths mentions.
used() {
    local manifest=$1 heading=$2 name
    shift 2
    for name in $(named "$manifest" "$heading"); do
        grep -rqE --include='*.rs' "(^|[^a-zA-Z0-9_:])${name//-/_}(::|;|,| as |\})|(extern crate|derive\(.*)${name//-/_}|#\[${name//-/_}(\(|\])" "$@" \
            || complain "unused: $manifest names $name under [$heading]"
    done
}

while read -r manifest; do
    folder=$(dirname "$manifest")
    if [ "$folder" = . ]; then
        used "$manifest" dependencies src/lib.rs src/bin/troupe
        used "$manifest" dev-dependencies src/lib.rs src/bin/troupe tests fuzz/src
    else
        mapfile -t files < <(sources "$folder")
        used "$manifest" dependencies "${files[@]}"
        used "$manifest" dev-dependencies "${files[@]}"
    fi
done < <(git ls-files 'Cargo.toml' '*/Cargo.toml')

# The table that all crates share has no rows that none of them asks for.
for name in $(named Cargo.toml workspace.dependencies); do
    git ls-files '*/Cargo.toml' 'Cargo.toml' | xargs grep -hE "^$name(\.workspace|[ ]*=.*workspace *= *true)" >/dev/null \
        || complain "unused: nobody takes $name from [workspace.dependencies]"
done

python3 tests/imports.py || failed=1

[ "$failed" = 0 ] && echo "dependencies: licences and uses are in order"
exit "$failed"
