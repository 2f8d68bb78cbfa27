#!/usr/bin/env bash
# Runs upstream's test binary against a cluster of its own in a network namespace, and compares what passes with docs/conformance.md.
# Settings: E2E_TEST (upstream's e2e.test), E2E_IMAGES (a folder of OCI archives with the images that the specs use), GINKGO (upstream's
# runner, for several processes), PROCS, FOCUS, SKIP, KUBECTL, KEEP=1 (leave the cluster).
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "conformance: $*" >&2; exit 2; }

[ "$(id -u)" = 0 ] || die "needs root"
[ -x "${E2E_TEST:-}" ] || die "E2E_TEST must name upstream's test binary: make conformance E2E_TEST=/path/e2e.test"
troupe="${TROUPE:?}"
images="${IMAGES:?}"
procs="${PROCS:-1}"
focus="${FOCUS:-\\[Conformance\\]}"
skip="${SKIP:-}"
kubectl="${KUBECTL:-$(command -v kubectl || true)}"
[ "$procs" = 1 ] || [ -x "${GINKGO:-}" ] || die "several processes need GINKGO, upstream's runner"

name="conf$$"
place="$(mktemp -d /var/tmp/troupe-conformance.XXXXXX)"
node=198.51.100.2
settings=(--data-dir "$place/data" --run-dir "$place/run" --kubelet-dir "$place/kubelet" --pod-logs-dir "$place/logs"
    --kubeconfig "$place/admin.kubeconfig" --cni-conf-dir "$place/cni" --manifests-dir "$place/manifests" --node-ip "$node"
    --node-name "$name" --bridge "br$$" --cgroup-parent "$name/kubepods")

inside() { nsenter --net="/run/netns/$name" "$@"; }

end() {
    status=$?
    if [ -n "${KEEP:-}" ]; then
        echo "the cluster stays: nsenter --net=/run/netns/$name env KUBECONFIG=$place/admin.kubeconfig kubectl get nodes"
        exit "$status"
    fi
    inside "$troupe" down --purge "${settings[@]}" >/dev/null || true
    ip netns delete "$name" || true
    rm -rf "$place"
    exit "$status"
}

ip netns add "$name"
trap end EXIT
ip -n "$name" link set lo up
ip link add "ve$$" type veth peer name uplink netns "$name"
ip link set "ve$$" up
ip -n "$name" address add "$node/24" dev uplink
ip -n "$name" link set uplink up
ip -n "$name" route add default via 198.51.100.1

# One folder: the daemon's own images and those of the specs.
mkdir "$place/images"
cp -l "$images"/*.tar "$place/images/" 2>/dev/null || cp "$images"/*.tar "$place/images/"
if [ -n "${E2E_IMAGES:-}" ]; then cp --remove-destination "$E2E_IMAGES"/*.tar "$place/images/"; fi
inside "$troupe" up --detach --image-dir "$place/images" "${settings[@]}"

suite=(--kubeconfig="$place/admin.kubeconfig" --provider=skeleton --allowed-not-ready-nodes=0)
[ -z "$kubectl" ] || suite+=(--kubectl-path="$kubectl")
report="$place/report.json"
# Failing specs are what the report is for.
if [ "$procs" = 1 ]; then
    inside "$E2E_TEST" --ginkgo.no-color --ginkgo.timeout=6h --ginkgo.focus="$focus" ${skip:+--ginkgo.skip="$skip"} \
        --ginkgo.json-report="$report" "${suite[@]}" >"$place/suite.log" 2>&1 || true
else
    inside "$GINKGO" --no-color --timeout=6h --procs="$procs" --focus="$focus" ${skip:+--skip="$skip"} \
        --output-dir="$place" --json-report=report.json "$E2E_TEST" -- "${suite[@]}" >"$place/suite.log" 2>&1 || true
fi
[ -s "$report" ] || { tail -n 20 "$place/suite.log"; die "the suite made no report"; }
python3 tests/conformance.py "$report" docs/conformance.md
