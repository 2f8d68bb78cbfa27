#!/usr/bin/env bash
# Runs upstream's test binary against a cluster of its own in a network namespace, and compares what passes with docs/conformance.md.
# Settings: E2E_TEST (upstream's e2e.test), E2E_IMAGES (a folder of OCI archives with the images that the specs use), GINKGO (upstream's
# runner, for several processes), PROCS, FOCUS, SKIP, KUBECTL, STORE=etcd (the state in an etcd of its own), APART=1 (control plane and
# node in processes of their own), NODES=2 (so many nodes on this machine), TOPOLOGY=routed (no two of them on one link), UP_OPTIONS
# (further options of `troupe up`), KEEP=1 (leave the cluster).
set -euo pipefail
cd "$(dirname "$0")/.."

. tests/namespace.sh

die() { echo "conformance: $*" >&2; exit 2; }

[ "$(id -u)" = 0 ] || die "needs root"
[ -x "${E2E_TEST:-}" ] || die "E2E_TEST must name upstream's test binary: make conformance E2E_TEST=/path/e2e.test"
troupe="${TROUPE:?}"
images="${IMAGES:?}"
procs="${PROCS:-1}"
focus="${FOCUS:-\\[Conformance\\]}"
skip="${SKIP:-}"
store="${STORE:-embedded}"
kubectl="${KUBECTL:-$(command -v kubectl || true)}"
nodes="${NODES:-1}"
read -ra options <<<"${UP_OPTIONS:-}"
[ "$nodes" = 1 ] || [ -z "${APART:-}" ] || die "NODES and APART do not go together: troupe up starts the nodes"
[ -z "${UP_OPTIONS:-}" ] || [ -z "${APART:-}" ] || die "UP_OPTIONS and APART do not go together: there is no troupe up"
case "$store" in embedded | etcd) ;; *) die "STORE is embedded or etcd" ;; esac
[ "$procs" = 1 ] || [ -x "${GINKGO:-}" ] || die "several processes need GINKGO, upstream's runner"

name="conf$$"
# Short, as are the names in it: specs of devices make sockets with long names below, and a socket's path has 107 bytes at most.
place="$(mktemp -d /var/tmp/conf.XXXXXX)"
chmod 711 "$place" # pods with users of their own pass through
node=198.51.100.2
machine=(--data-dir "$place/data" --run-dir "$place/run" --node-name "$name")
# With several nodes the first is known by its address on their link.
several=()
if [ "$nodes" = 1 ]; then machine+=(--node-ip "$node"); else several=(--nodes "$nodes" --topology "${TOPOLOGY:-shared}"); fi
kubelet=(--kubelet-dir "$place/k" --pod-logs-dir "$place/logs" --cni-conf-dir "$place/cni" --manifests-dir "$place/manifests"
    --bridge "br$$" --cgroup-parent "$name/kubepods")
admin=(--kubeconfig "$place/admin.kubeconfig")
etcd=""

inside() { nsenter --net="/run/netns/$name" "$@"; }

# Starts a process in the background; its output goes to a file of its name.
background() { inside "${@:2}" </dev/null >"$place/$1.log" 2>&1 & }

# Waits for a command to succeed.
await() {
    for _ in $(seq 240); do
        if inside "$@" >/dev/null 2>&1; then return; fi
        sleep 0.5
    done
    tail -n 5 "$place"/*.log >&2
    die "never succeeded: $*"
}

end() {
    status=$?
    if [ -n "${KEEP:-}" ]; then
        echo "the cluster stays: nsenter --net=/run/netns/$name env KUBECONFIG=$place/admin.kubeconfig kubectl get nodes"
        exit "$status"
    fi
    inside "$troupe" down --purge --data-dir "$place/data" --run-dir "$place/run" >/dev/null || true
    if [ -n "$etcd" ]; then kill "$etcd" && wait "$etcd" || true; fi
    ip netns delete "$name" || true
    rm -rf "$place"
    exit "$status"
}

trap end EXIT
namespace "$name" "ve$$" "$node"

# One folder: the daemon's own images and those of the specs.
mkdir "$place/images"
cp -l "$images"/*.tar "$place/images/" 2>/dev/null || cp "$images"/*.tar "$place/images/"
if [ -n "${E2E_IMAGES:-}" ]; then cp --remove-destination "$E2E_IMAGES"/*.tar "$place/images/"; fi
kubelet+=(--image-dir "$place/images")
state=()
if [ "$store" = etcd ]; then
    background etcd etcd --data-dir "$place/etcd" --logger zap
    etcd=$!
    await bash -c ': </dev/tcp/127.0.0.1/2379'
    state=(--etcd-servers http://127.0.0.1:2379)
fi
if [ -n "${APART:-}" ]; then
    background control-plane "$troupe" control-plane "${machine[@]}" "${state[@]}" "${admin[@]}"
    await test -e "$place/node.kubeconfig"
    background node "$troupe" node "${machine[@]}" "${kubelet[@]}" --kubeconfig "$place/node.kubeconfig"
    await sh -c '"$@" | grep -q "^node .* Ready$"' sh "$troupe" status --data-dir "$place/data" --run-dir "$place/run"
else
    inside "$troupe" up --detach "${several[@]}" "${machine[@]}" "${kubelet[@]}" "${state[@]}" "${admin[@]}" "${options[@]}"
fi

suite=(--kubeconfig="$place/admin.kubeconfig" --provider=skeleton --kubelet-root-dir="$place/k" --allowed-not-ready-nodes=0)
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
