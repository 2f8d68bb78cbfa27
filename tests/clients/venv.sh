#!/bin/sh
# venv.sh DIR: a virtual environment with the Kubernetes client for Python, unless it is there.
set -eu
dir=$1
[ -e "$dir/ready" ] && exit 0
python3 -m venv "$dir"
"$dir/bin/pip" --quiet --disable-pip-version-check install 'kubernetes>=32'
touch "$dir/ready"
