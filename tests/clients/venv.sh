#!/bin/sh
# venv.sh DIR: a virtual environment with the Kubernetes client for Python, unless it is there.
set -eu
dir=$1
[ -e "$dir/ready" ] && exit 0
python3 -m venv "$dir"
# A registry that does not answer is asked again.
for pause in 5 30 0; do
    "$dir/bin/pip" --quiet --disable-pip-version-check install 'kubernetes>=32' && break
    [ "$pause" != 0 ] && sleep "$pause" || exit 1
done
touch "$dir/ready"
