//! kubectl: the commands of a first day.

use crate::control_plane::ControlPlane;

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m\n  namespace: default\ndata:\n  k: v1\n";
const WEB: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: default, labels: {app: web}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: c, image: example/web, ports: [{containerPort: 80}]}]
";

#[test]
fn kubectl_speaks_to_the_api_as_it_does_upstream() {
    let plane = ControlPlane::start();
    applies_and_shows_conflicts(&plane);
    diffs_and_replaces(&plane);
    prints_in_every_form(&plane);
    explains_and_discovers(&plane);
    asks_who_may(&plane);
    waits_and_deletes(&plane);
}

fn applies_and_shows_conflicts(plane: &ControlPlane) {
    let file = plane.file("map.yaml", MAP);
    assert_eq!(plane.kubectl(&format!("apply --server-side -f {file}")), "configmap/m serverside-applied\n");
    assert_eq!(plane.kubectl(&format!("apply --server-side -f {file}")), "configmap/m serverside-applied\n");
    let other = plane.file("other.yaml", &MAP.replace("v1\n", "v2\n").replace("apiVersion: v2", "apiVersion: v1"));
    let refused = plane.kubectl_fails(&format!("apply --server-side --field-manager=other -f {other}"));
    assert!(refused.contains("Apply failed with 1 conflict: conflict with \"kubectl\": .data.k"), "{refused}");
    assert!(refused.contains("--force-conflicts"), "{refused}");
    plane.kubectl(&format!("apply --server-side --field-manager=other --force-conflicts -f {other}"));
    assert_eq!(plane.kubectl("get configmap m -o 'jsonpath={.data.k}'"), "v2");
    let managers = plane.kubectl("get configmap m --show-managed-fields -o 'jsonpath={.metadata.managedFields[*].manager}'");
    assert!(managers.contains("other"), "{managers}");
    let web = plane.file("web.yaml", WEB);
    assert_eq!(plane.kubectl(&format!("apply -f {web}")), "deployment.apps/web created\n");
    assert_eq!(plane.kubectl(&format!("apply -f {web}")), "deployment.apps/web unchanged\n");
    let scaled = plane.file("scaled.yaml", &WEB.replace("replicas: 2", "replicas: 3"));
    assert_eq!(plane.kubectl(&format!("apply -f {scaled}")), "deployment.apps/web configured\n");
    let typo = plane.file("typo.yaml", &MAP.replace("\ndata:", "\ndaat:"));
    let refused = plane.kubectl_fails(&format!("apply -f {typo}"));
    assert!(refused.contains("unknown field \"daat\""), "{refused}");
    let warned = plane.kubectl_output(&format!("apply --validate=warn -f {typo}"));
    assert!(String::from_utf8_lossy(&warned.stderr).contains("Warning: unknown field \"daat\""), "{warned:?}");
}

fn diffs_and_replaces(plane: &ControlPlane) {
    let changed = plane.file("changed.yaml", &MAP.replace("k: v1", "k: v3"));
    let diff = plane.kubectl_output(&format!("diff -f {changed}"));
    let shown = String::from_utf8_lossy(&diff.stdout);
    assert_eq!(diff.status.code(), Some(1), "{diff:?}");
    assert!(shown.contains("+  k: v3"), "{shown}");
    assert_eq!(plane.kubectl(&format!("replace -f {changed}")), "configmap/m replaced\n");
    let same = plane.kubectl_output(&format!("diff -f {changed}"));
    assert_eq!(same.status.code(), Some(0), "{}", String::from_utf8_lossy(&same.stdout));
    assert_eq!(plane.kubectl("label configmap m a=1"), "configmap/m labeled\n");
    let refused = plane.kubectl_fails("label configmap m a=2");
    assert!(refused.contains("'a' already has a value (1), and --overwrite is false"), "{refused}");
    assert_eq!(plane.kubectl("label configmap m a=2 --overwrite"), "configmap/m labeled\n");
    assert_eq!(plane.kubectl("annotate configmap m note=x --overwrite"), "configmap/m annotated\n");
    assert_eq!(
        plane.kubectl("patch configmap m --type=json -p '[{\"op\":\"replace\",\"path\":\"/data/k\",\"value\":\"v4\"}]'"),
        "configmap/m patched\n"
    );
    assert_eq!(plane.kubectl("create configmap dry --from-literal=a=b --dry-run=server -o name"), "configmap/dry\n");
    assert!(plane.kubectl_fails("get configmap dry").contains("(NotFound)"));
    assert_eq!(plane.kubectl("scale deployment web --replicas=1"), "deployment.apps/web scaled\n");
}

fn prints_in_every_form(plane: &ControlPlane) {
    for at in 0..7 {
        plane.kubectl(&format!("create configmap page-{at} --from-literal=at={at}"));
    }
    let pages = plane.kubectl("get configmaps --chunk-size=2 -o name");
    assert_eq!(pages.lines().filter(|line| line.starts_with("configmap/page-")).count(), 7, "{pages}");
    let wide = plane.kubectl("get deployments -o wide");
    assert!(wide.starts_with("NAME") && wide.contains("CONTAINERS") && wide.contains("example/web"), "{wide}");
    assert!(plane.kubectl("get configmap m -o yaml").contains("\n  k: v4\n"));
    let json: serde_json::Value = serde_json::from_str(&plane.kubectl("get configmap m -o json")).expect("JSON");
    assert_eq!((&json["kind"], &json["metadata"]["labels"]["a"]), (&"ConfigMap".into(), &"2".into()));
    let columns = plane.kubectl("get configmap m -o custom-columns=NAME:.metadata.name,K:.data.k");
    assert_eq!(columns.split_whitespace().collect::<Vec<_>>(), ["NAME", "K", "m", "v4"]);
    let labels = plane.kubectl("get configmaps -l a=2 --show-labels --no-headers");
    assert!(labels.starts_with("m ") && labels.contains("a=2"), "{labels}");
    assert_eq!(plane.kubectl("get configmaps --field-selector metadata.name=m -o name"), "configmap/m\n");
    let raw: serde_json::Value = serde_json::from_str(&plane.kubectl("get --raw /api/v1/namespaces/default/configmaps/m")).expect("JSON");
    assert_eq!(raw["data"]["k"], "v4");
    assert!(plane.kubectl("get --raw /version").contains("v1.36"));
    assert!(plane.kubectl("get events").is_empty() || plane.kubectl("events").contains("REASON"));
    assert!(plane.kubectl("events --for deployment/web").contains("ScalingReplicaSet"));
    assert!(plane.kubectl("describe deployment web").contains("Scaled up replica set"));
    assert!(plane.kubectl("get all").contains("deployment.apps/web"));
}

fn explains_and_discovers(plane: &ControlPlane) {
    let explained = plane.kubectl("explain deployment.spec.replicas");
    assert!(explained.contains("GROUP:      apps") && explained.contains("FIELD: replicas <integer>"), "{explained}");
    assert!(plane.kubectl("explain pod.spec --recursive").contains("containerPort\t<integer> -required-"));
    let old = plane.kubectl("explain deployment.spec.replicas --output=plaintext-openapiv2");
    assert!(old.contains("FIELD:    replicas <integer>"), "{old}");
    let resources = plane.kubectl("api-resources --verbs=list --namespaced -o name");
    assert!(resources.lines().any(|line| line == "deployments.apps"), "{resources}");
    assert!(plane.kubectl("api-resources --api-group=apps -o wide").contains("deploy"));
    let versions = plane.kubectl("api-versions");
    assert!(versions.lines().any(|line| line == "apps/v1") && versions.lines().any(|line| line == "v1"), "{versions}");
}

fn asks_who_may(plane: &ControlPlane) {
    assert!(plane.kubectl("auth whoami").contains("kubernetes-admin"));
    assert_eq!(plane.kubectl("auth can-i create pods"), "yes\n");
    let refused = plane.kubectl_output("auth can-i create pods --as=system:serviceaccount:default:default");
    assert_eq!(String::from_utf8_lossy(&refused.stdout), "no\n");
    let rules = plane.kubectl("auth can-i --list --as=system:serviceaccount:default:default");
    assert!(rules.contains("selfsubjectaccessreviews.authorization.k8s.io"), "{rules}");
    plane.kubectl("create role reader --verb=get,list --resource=configmaps");
    plane.kubectl("create rolebinding reader --role=reader --serviceaccount=default:default");
    plane.eventually("the role takes effect", || {
        plane.kubectl_output("auth can-i list configmaps --as=system:serviceaccount:default:default").status.success()
    });
    let token = plane.kubectl("create token default --duration=1h");
    let token = token.trim();
    assert_eq!(token.split('.').count(), 3, "{token}");
    let server = format!("--server=https://{} --token={token} --kubeconfig=/dev/null --insecure-skip-tls-verify", plane.address);
    assert!(plane.kubectl(&format!("{server} get configmap m -o name")).contains("configmap/m"));
    assert!(
        plane
            .kubectl_fails(&format!("{server} get secrets"))
            .contains("is forbidden: User \"system:serviceaccount:default:default\" cannot list resource \"secrets\"")
    );
    let review = r#"{"apiVersion":"authorization.k8s.io/v1","kind":"LocalSubjectAccessReview","metadata":{"namespace":"default"},"spec":{"user":"bob","resourceAttributes":{"namespace":"default","verb":"get","resource":"pods"}}}"#;
    let file = plane.file("review.json", review);
    assert_eq!(plane.kubectl(&format!("create -f {file} -o 'jsonpath={{.status.allowed}}'")), "false");
}

fn waits_and_deletes(plane: &ControlPlane) {
    assert!(plane.kubectl("wait --for=jsonpath='{.spec.replicas}'=1 deployment/web --timeout=10s").contains("condition met"));
    let set = plane.kubectl("get replicasets -l app=web -o name");
    assert_eq!(plane.kubectl("delete deployment web --cascade=orphan"), "deployment.apps \"web\" deleted\n");
    assert_eq!(plane.kubectl("get replicasets -l app=web -o name"), set, "its set is an orphan now");
    plane.eventually("the set has no owner", || {
        plane.kubectl("get replicasets -l app=web -o 'jsonpath={.items[*].metadata.ownerReferences}'").is_empty()
    });
    assert!(plane.kubectl(&format!("delete {} --cascade=foreground --timeout=30s", set.trim())).contains("deleted"));
    assert_eq!(plane.kubectl("get replicasets,pods -l app=web -o name"), "");
    plane.kubectl("create namespace short");
    plane.kubectl("-n short create configmap inside --from-literal=a=b");
    plane.kubectl("delete namespace short --timeout=30s");
    assert!(plane.kubectl_fails("get namespace short").contains("(NotFound)"));
}
