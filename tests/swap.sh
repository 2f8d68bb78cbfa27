#!/usr/bin/env bash
# Upstream's controllers and scheduler on our API server, and ours on upstream's: the same steps are taken on both, each in a network
# namespace of its own, with hollow nodes. Settings: KUBERNETES (a folder with upstream's kube-apiserver, kube-controller-manager and
# kube-scheduler), TROUPE, KUBECTL, ETCD (programs), HALF=theirs or HALF=ours (whose controllers and scheduler; both where nothing is said),
# KEEP=1 (leave the folder with the logs). Prints a line a step; the exit code is 1 if one failed.
set -uo pipefail
cd "$(dirname "$0")/.."

. tests/namespace.sh

die() { echo "swap: $*" >&2; exit 2; }

[ "$(id -u)" = 0 ] || die "needs root"
upstream="${KUBERNETES:-}"
for program in kube-apiserver kube-controller-manager kube-scheduler; do
    [ -x "$upstream/$program" ] || die "KUBERNETES must name a folder with $program: make swap KUBERNETES=/path"
done
troupe="${TROUPE:?}"
etcd="${ETCD:-etcd}"
kubectl="${KUBECTL:-kubectl}"
address=198.51.100.2
failed=0

# A cluster's place: a network namespace and a folder; what runs in it ends with it.
begin() {
    name="swap$$"
    place="$(mktemp -d /var/tmp/swap.XXXXXX)"
    pids=()
    namespace "$name" "sw$$" "$address"
    export KUBECONFIG="$place/admin.kubeconfig" HOME="$place"
}

end() {
    [ -n "$place" ] || return
    # Each before what it needs: an API server that cannot reach its etcd does not end by itself.
    for ((at = ${#pids[@]} - 1; at >= 0; at--)); do
        kill "${pids[at]}" 2>/dev/null
        timeout 10 tail --pid="${pids[at]}" -f /dev/null || kill -9 "${pids[at]}"
    done
    wait
    ip netns delete "$name"
    if [ -n "${KEEP:-}" ]; then echo "the logs are in $place"; else rm -rf "$place"; fi
    place=""
}
place=""
trap end EXIT

inside() { nsenter --net="/run/netns/$name" "$@"; }

# Starts a program in the background; its output goes to a file of its name.
background() {
    nsenter --net="/run/netns/$name" "${@:2}" </dev/null >"$place/$1.log" 2>&1 &
    pids+=($!)
}

kube() { inside "$kubectl" "$@"; }

# Waits until a command succeeds, at most a minute.
await() {
    for _ in $(seq 120); do
        if "$@" >/dev/null 2>&1; then return 0; fi
        sleep 0.5
    done
    return 1
}

# A step: what it is, and a command that must succeed within a minute.
step() {
    local began=$SECONDS
    if await "${@:2}"; then
        echo "ok      $1 ($((SECONDS - began)) s)"
    else
        echo "FAILED  $1: $("${@:2}" 2>&1 | tail -n 3)"
        failed=1
    fi
}

# Whether what kubectl prints of objects is a text.
says() { [ "$(kube -n swap get "${@:2}")" = "$1" ]; }
ready() { says "$1" "$2" -o "jsonpath={.status.readyReplicas}"; }
none() { [ -z "$(kube -n swap get "$1" -o name)" ]; }
leader() { [ -n "$(kube -n kube-system get lease "$1" -o "jsonpath={.spec.holderIdentity}")" ]; }
fewest_and_most() {
    kube -n swap get pods -l app=web -o "jsonpath={range .items[*]}{.spec.nodeName}{\"\n\"}{end}" | sort | uniq -c | awk '{print $1}' | sort -n | sed -n '1p;$p' | xargs
}
spread() { [ "$(fewest_and_most)" = "$1" ]; }
told() { [[ "$(kube -n swap get events -o "jsonpath={.items[*].message}")" = *"$1"* ]]; }
evicts() {
    local pod
    pod="$(kube -n swap get pods -l app=web -o "jsonpath={.items[0].metadata.name}")"
    printf '{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"%s","namespace":"swap"}}' "$pod" >"$place/eviction.json"
    kube create --raw "/api/v1/namespaces/swap/pods/$pod/eviction" -f "$place/eviction.json" 2>&1
}
refused_by_budget() { [[ "$(evicts)" = *"Cannot evict pod as it would violate the pod's disruption budget"* ]]; }
ranges() { [ "$(kube get nodes -o "jsonpath={range .items[*]}{.spec.podCIDR}{\"\n\"}{end}" | sort -u | grep -c /)" = 3 ]; }
revisions() { [ "$(kube -n swap get replicasets -l app=web -o name | wc -l)" = "$1" ]; }

work() {
    cat <<'YAML'
apiVersion: v1
kind: Namespace
metadata: {name: swap}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: swap}
spec:
  replicas: 6
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      tolerations: [{key: troupe.dev/hollow, operator: Exists}]
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: web}}}
      containers: [{name: c, image: "web:1", ports: [{containerPort: 80}], resources: {requests: {cpu: 10m}}}]
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: swap}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web, namespace: swap}
spec: {maxUnavailable: 0, selector: {matchLabels: {app: web}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: data, namespace: swap}
spec:
  replicas: 3
  serviceName: data
  selector: {matchLabels: {app: data}}
  template:
    metadata: {labels: {app: data}}
    spec:
      tolerations: [{key: troupe.dev/hollow, operator: Exists}]
      affinity:
        podAntiAffinity:
          requiredDuringSchedulingIgnoredDuringExecution:
          - {topologyKey: kubernetes.io/hostname, labelSelector: {matchLabels: {app: data}}}
      containers: [{name: c, image: "data:1", resources: {requests: {cpu: 10m}}}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent, namespace: swap}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      tolerations: [{key: troupe.dev/hollow, operator: Exists}]
      containers: [{name: c, image: "agent:1", resources: {requests: {cpu: 10m}}}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: once, namespace: swap}
spec:
  completions: 2
  parallelism: 2
  suspend: true
  template:
    spec:
      restartPolicy: Never
      tolerations: [{key: troupe.dev/hollow, operator: Exists}]
      containers: [{name: c, image: "once:1", resources: {requests: {cpu: 10m}}}]
YAML
}

# Made when all pods are there: upstream's controller counts what its cache shows, and admission nothing before it has written that, so what is
# made in between is counted only when the next pod goes.
quota() { kube -n swap create quota pods --hard=pods=20; }
counted() { says 12 resourcequota/pods -o "jsonpath={.status.used.pods}" || { kube -n swap get resourcequota/pods -o "jsonpath={.status}"; return 1; }; }

steps() {
    step "the controllers have their lease" leader kube-controller-manager
    step "the scheduler has its lease" leader kube-scheduler
    step "three nodes are Ready" kube wait --for=condition=Ready nodes --all --timeout=5s
    step "each has a range of pods" ranges
    work >"$place/work.yaml"
    step "the work is applied" kube apply -f "$place/work.yaml"
    step "the service account and the CA's bundle are there" kube -n swap get serviceaccount/default configmap/kube-root-ca.crt
    step "a Deployment of 6 is ready" ready 6 deployment/web
    step "its pods spread by two" spread "2 2"
    step "a StatefulSet is ready, one pod a node" ready 3 statefulset/data
    step "a DaemonSet is on each node" says 3 daemonset/agent -o "jsonpath={.status.numberReady}"
    step "a Service has its endpoints" says "6" endpointslices -l kubernetes.io/service-name=web -o "go-template={{range .items}}{{len .endpoints}}{{end}}"
    step "a budget is counted" says "6 0" poddisruptionbudget/web -o "jsonpath={.status.currentHealthy} {.status.disruptionsAllowed}"
    step "and refuses an eviction" refused_by_budget
    step "a quota is made" quota
    step "and counted" counted
    step "a suspended Job has no pods and says so" says True job/once -o "jsonpath={.status.conditions[?(@.type==\"Suspended\")].status}"
    step "resumed it has two" kube -n swap patch job once --type=merge -p '{"spec":{"suspend":false}}'
    step "which run" says "2" job/once -o "jsonpath={.status.active}"
    step "scaled beyond the quota" kube -n swap scale deployment web --replicas=14
    step "pods are refused with the quota's words" told "exceeded quota: pods, requested: pods=1, used: pods=20, limited: pods=20"
    step "scaled down again" kube -n swap scale deployment web --replicas=4
    step "four are left" says "4 4" deployment/web -o "jsonpath={.status.replicas} {.status.readyReplicas}"
    step "a rollout" kube -n swap set image deployment/web c=web:2
    step "is done" kube -n swap rollout status deployment/web --timeout=5s
    step "and undone" kube -n swap rollout undo deployment/web
    step "to the first revision's template" says "web:1" deployment/web -o "jsonpath={.spec.template.spec.containers[0].image}"
    step "with two ReplicaSets" revisions 2
    step "a StatefulSet is restarted" kube -n swap rollout restart statefulset/data
    step "one after the other" kube -n swap rollout status statefulset/data --timeout=5s
    step "the nodes are closed" kube cordon -l troupe.dev/hollow
    step "a pod that fits nowhere waits" kube -n swap scale deployment web --replicas=5
    step "for the reason that upstream gives" told "0/3 nodes are available: 3 node(s) were unschedulable"
    step "they are open again" kube uncordon -l troupe.dev/hollow
    step "and the pod runs" ready 5 deployment/web
    step "a Deployment is deleted in the foreground" kube -n swap delete deployment web --cascade=foreground --ignore-not-found
    step "with its ReplicaSets" revisions 0
    step "the namespace is deleted" kube delete namespace swap --ignore-not-found --timeout=60s
    step "nothing is left of it" none all
}

theirs() {
    echo "== upstream's controllers and scheduler on our API server"
    begin
    local at=(--data-dir "$place/data" --run-dir "$place/run")
    background apiserver "$troupe" control-plane --components=apiserver "${at[@]}" --node-ip "$address" --kubeconfig "$KUBECONFIG"
    await test -e "$KUBECONFIG" || die "no API server: $(tail -n 3 "$place/apiserver.log")"
    local pki="$place/data/pki"
    await kube get --raw /readyz
    background controllers "$upstream/kube-controller-manager" --kubeconfig "$place/controller-manager.kubeconfig" \
        --authentication-kubeconfig "$place/controller-manager.kubeconfig" --authorization-kubeconfig "$place/controller-manager.kubeconfig" \
        --use-service-account-credentials --root-ca-file "$pki/ca.crt" --service-account-private-key-file "$pki/sa.key" \
        --cluster-signing-cert-file "$pki/ca.crt" --cluster-signing-key-file "$pki/ca.key" --allocate-node-cidrs \
        --cluster-cidr 10.244.0.0/16 --controllers '*,bootstrapsigner,tokencleaner'
    background scheduler "$upstream/kube-scheduler" --kubeconfig "$place/scheduler.kubeconfig" \
        --authentication-kubeconfig "$place/scheduler.kubeconfig" --authorization-kubeconfig "$place/scheduler.kubeconfig"
    hollow
    steps
    end
}

ours() {
    echo "== our controllers and scheduler on upstream's API server"
    begin
    # Certificates and kubeconfigs are made by an API server of ours that ends before theirs starts.
    background made "$troupe" control-plane --components=apiserver --data-dir "$place/data" --run-dir "$place/run" --node-ip "$address" \
        --kubeconfig "$KUBECONFIG"
    await kube get --raw /readyz || die "no API server: $(tail -n 3 "$place/made.log")"
    kill "${pids[0]}"
    wait "${pids[0]}"
    pids=()
    local pki="$place/data/pki"
    # Upstream reads no public key out of PKCS#8.
    openssl pkey -in "$pki/sa.key" -pubout -out "$place/sa.pub"
    background etcd "$etcd" --data-dir "$place/etcd" --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379
    background apiserver "$upstream/kube-apiserver" --etcd-servers http://127.0.0.1:2379 --authorization-mode Node,RBAC \
        --enable-bootstrap-token-auth --allow-privileged --client-ca-file "$pki/ca.crt" --tls-cert-file "$pki/apiserver.crt" \
        --tls-private-key-file "$pki/apiserver.key" --service-account-issuer https://kubernetes.default.svc.cluster.local \
        --service-account-key-file "$place/sa.pub" --service-account-signing-key-file "$pki/sa.key" \
        --service-cluster-ip-range 10.96.0.0/16 --advertise-address "$address" \
        --kubelet-client-certificate "$pki/apiserver-kubelet-client.crt" --kubelet-client-key "$pki/apiserver-kubelet-client.key"
    await kube get --raw /readyz || die "upstream's API server is not ready: $(tail -n 3 "$place/apiserver.log")"
    background controllers "$troupe" control-plane --components=controllers --certificates-dir "$pki" --data-dir "$place/c" \
        --run-dir "$place/c/run" --kubeconfig "$place/controller-manager.kubeconfig"
    background scheduler "$troupe" control-plane --components=scheduler --data-dir "$place/s" --run-dir "$place/s/run" \
        --kubeconfig "$place/scheduler.kubeconfig"
    hollow
    steps
    end
}

hollow() { background hollow "$troupe" node --hollow 3 --kubeconfig "$KUBECONFIG"; }

case "${HALF:-both}" in
theirs) theirs ;;
ours) ours ;;
both)
    theirs
    ours
    ;;
*) die "HALF is theirs or ours" ;;
esac
exit "$failed"
