//! kubectl: the commands of a first day.

mod certificates;
mod program;

use program::Kubectl;

use crate::{cluster::text, stage::Corner};

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m\ndata:\n  k: v1\n";
const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: c, image: 'busybox:1.35', command: [sleep, infinity], ports: [{containerPort: 80}]}]
";
const SHELL: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: shell}
spec:
  terminationGracePeriodSeconds: 0
  restartPolicy: Never
  containers:
  - name: shell
    image: "busybox:1.35"
    command: [sh, -c, "echo first; until [ -e /tmp/over ]; do sleep 0.1; done; echo last"]
"#;

pub fn first_minute(corner: &Corner, minor: u16) {
    let kubectl = Kubectl::new(corner, minor);
    let version: serde_json::Value = serde_json::from_str(&kubectl.run("version -o json")).expect("JSON");
    let minors = (&version["clientVersion"]["minor"], &version["serverVersion"]["minor"]);
    assert_eq!(minors, (&minor.to_string().into(), &"36".into()));
    applies_and_shows_conflicts(&kubectl);
    diffs_and_replaces(&kubectl);
    prints_in_every_form(&kubectl);
    watches(&kubectl);
    explains_and_discovers(&kubectl);
    asks_who_may(&kubectl);
    executes_and_reads_logs(&kubectl);
    certificates::are_approved_and_denied(&kubectl);
    waits_and_deletes(&kubectl);
}

fn applies_and_shows_conflicts(kubectl: &Kubectl<'_>) {
    let file = kubectl.corner.file("map.yaml", MAP);
    assert_eq!(kubectl.run(&format!("apply --server-side -f {file}")), "configmap/m serverside-applied\n");
    assert_eq!(kubectl.run(&format!("apply --server-side -f {file}")), "configmap/m serverside-applied\n");
    let other = kubectl.corner.file("other.yaml", &MAP.replace("v1\n", "v2\n").replace("apiVersion: v2", "apiVersion: v1"));
    let refused = kubectl.fails(&format!("apply --server-side --field-manager=other -f {other}"));
    assert!(refused.contains("Apply failed with 1 conflict: conflict with \"kubectl\": .data.k"), "{refused}");
    assert!(refused.contains("--force-conflicts"), "{refused}");
    kubectl.run(&format!("apply --server-side --field-manager=other --force-conflicts -f {other}"));
    assert_eq!(kubectl.run("get configmap m -o 'jsonpath={.data.k}'"), "v2");
    let managers = kubectl.run("get configmap m --show-managed-fields -o 'jsonpath={.metadata.managedFields[*].manager}'");
    assert!(managers.contains("other"), "{managers}");
    let web = kubectl.corner.file("web.yaml", WEB);
    assert_eq!(kubectl.run(&format!("apply -f {web}")), "deployment.apps/web created\n");
    assert_eq!(kubectl.run(&format!("apply -f {web}")), "deployment.apps/web unchanged\n");
    let scaled = kubectl.corner.file("scaled.yaml", &WEB.replace("replicas: 2", "replicas: 3"));
    assert_eq!(kubectl.run(&format!("apply -f {scaled}")), "deployment.apps/web configured\n");
    let typo = kubectl.corner.file("typo.yaml", &MAP.replace("\ndata:", "\ndaat:"));
    let refused = kubectl.fails(&format!("apply -f {typo}"));
    assert!(refused.contains("unknown field \"daat\""), "{refused}");
    let warned = kubectl.output(&format!("apply --validate=warn -f {typo}"));
    assert!(text(&warned.stderr).contains("Warning: unknown field \"daat\""), "{warned:?}");
}

fn diffs_and_replaces(kubectl: &Kubectl<'_>) {
    let changed = kubectl.corner.file("changed.yaml", &MAP.replace("k: v1", "k: v3"));
    let diff = kubectl.output(&format!("diff -f {changed}"));
    let shown = text(&diff.stdout);
    assert_eq!(diff.status.code(), Some(1), "{diff:?}");
    assert!(shown.contains("+  k: v3"), "{shown}");
    assert_eq!(kubectl.run(&format!("replace -f {changed}")), "configmap/m replaced\n");
    let same = kubectl.output(&format!("diff -f {changed}"));
    assert_eq!(same.status.code(), Some(0), "{}", text(&same.stdout));
    assert_eq!(kubectl.run("label configmap m a=1"), "configmap/m labeled\n");
    let refused = kubectl.fails("label configmap m a=2");
    assert!(refused.contains("'a' already has a value (1), and --overwrite is false"), "{refused}");
    assert_eq!(kubectl.run("label configmap m a=2 --overwrite"), "configmap/m labeled\n");
    assert_eq!(kubectl.run("annotate configmap m note=x --overwrite"), "configmap/m annotated\n");
    assert_eq!(
        kubectl.run("patch configmap m --type=json -p '[{\"op\":\"replace\",\"path\":\"/data/k\",\"value\":\"v4\"}]'"),
        "configmap/m patched\n"
    );
    assert_eq!(kubectl.run("create configmap dry --from-literal=a=b --dry-run=server -o name"), "configmap/dry\n");
    assert!(kubectl.fails("get configmap dry").contains("(NotFound)"));
    assert_eq!(kubectl.run("scale deployment web --replicas=1"), "deployment.apps/web scaled\n");
}

fn prints_in_every_form(kubectl: &Kubectl<'_>) {
    let maps: String = (0..7).map(|at| format!("---\n{}", MAP.replace("name: m", &format!("name: page-{at}")))).collect();
    kubectl.run(&format!("create -f {}", kubectl.corner.file("pages.yaml", &maps)));
    let pages = kubectl.run("get configmaps --chunk-size=2 -o name");
    assert_eq!(pages.lines().filter(|line| line.starts_with("configmap/page-")).count(), 7, "{pages}");
    let wide = kubectl.run("get deployments -o wide");
    assert!(wide.starts_with("NAME") && wide.contains("CONTAINERS") && wide.contains("busybox:1.35"), "{wide}");
    assert!(kubectl.run("get configmap m -o yaml").contains("\n  k: v4\n"));
    let json: serde_json::Value = serde_json::from_str(&kubectl.run("get configmap m -o json")).expect("JSON");
    assert_eq!((&json["kind"], &json["metadata"]["labels"]["a"]), (&"ConfigMap".into(), &"2".into()));
    let columns = kubectl.run("get configmap m -o custom-columns=NAME:.metadata.name,K:.data.k");
    assert_eq!(columns.split_whitespace().collect::<Vec<_>>(), ["NAME", "K", "m", "v4"]);
    let labels = kubectl.run("get configmaps -l a=2 --show-labels --no-headers");
    assert!(labels.starts_with("m ") && labels.contains("a=2"), "{labels}");
    assert_eq!(kubectl.run("get configmaps --field-selector metadata.name=m -o name"), "configmap/m\n");
    let namespace = &kubectl.corner.namespace;
    let raw: serde_json::Value = serde_json::from_str(&kubectl.run(&format!("get --raw /api/v1/namespaces/{namespace}/configmaps/m"))).expect("JSON");
    assert_eq!(raw["data"]["k"], "v4");
    assert!(kubectl.run("get --raw /version").contains("v1.36"));
    assert!(kubectl.run("get events").is_empty() || kubectl.run("events").contains("REASON"));
    // Events are written a moment after what they tell of.
    kubectl.eventually("events --for deployment/web", |said| said.contains("ScalingReplicaSet"));
    kubectl.eventually("describe deployment web", |said| said.contains("Scaled up replica set"));
    assert!(kubectl.run("get all").contains("deployment.apps/web"));
}

fn explains_and_discovers(kubectl: &Kubectl<'_>) {
    let explained = kubectl.run("explain deployment.spec.replicas");
    assert!(explained.contains("GROUP:      apps") && explained.contains("FIELD: replicas <integer>"), "{explained}");
    assert!(kubectl.run("explain pod.spec --recursive").contains("containerPort\t<integer> -required-"));
    let old = kubectl.run("explain deployment.spec.replicas --output=plaintext-openapiv2");
    assert!(old.contains("FIELD:    replicas <integer>"), "{old}");
    let resources = kubectl.run("api-resources --verbs=list --namespaced -o name");
    assert!(resources.lines().any(|line| line == "deployments.apps"), "{resources}");
    assert!(kubectl.run("api-resources --api-group=apps -o wide").contains("deploy"));
    let versions = kubectl.run("api-versions");
    assert!(versions.lines().any(|line| line == "apps/v1") && versions.lines().any(|line| line == "v1"), "{versions}");
}

fn asks_who_may(kubectl: &Kubectl<'_>) {
    let namespace = &kubectl.corner.namespace;
    let account = format!("system:serviceaccount:{namespace}:default");
    assert!(kubectl.run("auth whoami").contains("kubernetes-admin"));
    assert_eq!(kubectl.run("auth can-i create pods"), "yes\n");
    let refused = kubectl.output(&format!("auth can-i create pods --as={account}"));
    assert_eq!(text(&refused.stdout), "no\n");
    let rules = kubectl.run(&format!("auth can-i --list --as={account}"));
    assert!(rules.contains("selfsubjectaccessreviews.authorization.k8s.io"), "{rules}");
    kubectl.run("create role reader --verb=get,list --resource=configmaps");
    kubectl.run(&format!("create rolebinding reader --role=reader --serviceaccount={namespace}:default"));
    kubectl.eventually(&format!("auth can-i list configmaps --as={account}"), |said| said == "yes\n");
    let token = kubectl.run("create token default --duration=1h");
    let token = token.trim();
    assert_eq!(token.split('.').count(), 3, "{token}");
    let as_account =
        format!("--server={} --token={token} --kubeconfig=/dev/null --insecure-skip-tls-verify -n {namespace}", kubectl.corner.access().server);
    assert!(kubectl.run(&format!("{as_account} get configmap m -o name")).contains("configmap/m"));
    let refused = kubectl.fails(&format!("{as_account} get secrets"));
    assert!(refused.contains(&format!("is forbidden: User \"{account}\" cannot list resource \"secrets\"")), "{refused}");
    let review = format!(
        r#"{{"apiVersion":"authorization.k8s.io/v1","kind":"LocalSubjectAccessReview","metadata":{{"namespace":"{namespace}"}},
        "spec":{{"user":"bob","resourceAttributes":{{"namespace":"{namespace}","verb":"get","resource":"pods"}}}}}}"#
    );
    let file = kubectl.corner.file("review.json", &review);
    assert_eq!(kubectl.run(&format!("create -f {file} -o 'jsonpath={{.status.allowed}}'")), "false");
}

fn watches(kubectl: &Kubectl<'_>) {
    kubectl.run("create configmap seen --from-literal=a=b");
    let watch = kubectl.follow("get configmaps --field-selector metadata.name=seen --watch --output-watch-events --no-headers");
    let next = || watch.next()[..2].join(" ");
    assert_eq!(next(), "ADDED seen");
    kubectl.run("label configmap seen a=b");
    assert_eq!(next(), "MODIFIED seen");
    kubectl.run("delete configmap seen");
    assert_eq!(next(), "DELETED seen");
}

fn executes_and_reads_logs(kubectl: &Kubectl<'_>) {
    let file = kubectl.corner.file("shell.yaml", SHELL);
    assert_eq!(kubectl.run(&format!("create -f {file}")), "pod/shell created\n");
    assert_eq!(kubectl.run("wait --for=condition=Ready pod/shell --timeout=120s"), "pod/shell condition met\n");
    assert_eq!(kubectl.run("exec shell -- hostname"), "shell\n");
    let failed = kubectl.output("exec shell -- sh -c 'echo out; echo err >&2; exit 3'");
    assert_eq!((failed.status.code(), text(&failed.stdout).as_str()), (Some(3), "out\n"));
    assert_eq!(text(&failed.stderr), "err\ncommand terminated with exit code 3\n");
    assert_eq!(kubectl.fed("exec -i shell -- cat", "to and fro\n"), "to and fro\n");
    assert_eq!(kubectl.run("logs shell"), "first\n");
    let logs = kubectl.follow("logs -f shell");
    assert_eq!(logs.next(), ["first"]);
    kubectl.run("exec shell -- touch /tmp/over");
    assert_eq!(logs.rest(), ["last"]);
    kubectl.run("wait --for=jsonpath='{.status.phase}'=Succeeded pod/shell --timeout=120s");
    assert_eq!(kubectl.run("logs shell --tail=1"), "last\n");
    kubectl.run("delete pod shell --wait=false");
    kubectl.output("wait --for=delete pod/shell --timeout=120s");
    assert!(kubectl.fails("get pod shell").contains("(NotFound)"));
}

fn waits_and_deletes(kubectl: &Kubectl<'_>) {
    kubectl.run("rollout status deployment/web --timeout=120s");
    assert!(kubectl.run("wait --for=jsonpath='{.spec.replicas}'=1 deployment/web --timeout=10s").contains("condition met"));
    let set = kubectl.run("get replicasets -l app=web -o name");
    assert!(kubectl.run("delete deployment web --cascade=orphan").starts_with("deployment.apps \"web\" deleted"));
    assert_eq!(kubectl.run("get replicasets -l app=web -o name"), set, "its set is an orphan now");
    kubectl.eventually("get replicasets -l app=web -o 'jsonpath={.items[*].metadata.ownerReferences}'", str::is_empty);
    assert!(kubectl.run(&format!("delete {} --cascade=foreground --timeout=120s", set.trim())).contains("deleted"));
    assert_eq!(kubectl.run("get replicasets,pods -l app=web -o name"), "");
    let short = format!("short-{}", kubectl.corner.namespace);
    kubectl.run(&format!("create namespace {short}"));
    kubectl.run(&format!("-n {short} create configmap inside --from-literal=a=b"));
    kubectl.run(&format!("delete namespace {short} --timeout=120s"));
    assert!(kubectl.fails(&format!("get namespace {short}")).contains("(NotFound)"));
}
