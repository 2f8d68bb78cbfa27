//! Spans of requests and of what comes of them, as a collector outside gets them.

use std::fs;

use crate::{
    cluster::{Cluster, eventually, text},
    collector::{Collected, Collector},
};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";
const DEPLOYMENT: &str = r#"{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "traced"}, "spec": {
    "selector": {"matchLabels": {"app": "traced"}}, "template": {"metadata": {"labels": {"app": "traced"}},
    "spec": {"containers": [{"name": "c", "image": "busybox:1.35"}]}}}}"#;

/// Makes the Deployment, as an administrator who is at work on a trace.
fn deploy(cluster: &Cluster) {
    let pki = |name: &str| cluster.path(&format!("data/pki/{name}")).to_string_lossy().into_owned();
    let server = cluster.kubectl("config view -o jsonpath={.clusters[0].cluster.server}");
    let url = format!("{server}/apis/apps/v1/namespaces/default/deployments");
    let trace = format!("traceparent: 00-{TRACE}-{SPAN}-01");
    let mut curl = cluster.inside("curl");
    curl.args(["-sk", "--cert", &pki("admin.crt"), "--key", &pki("admin.key"), "-H", &trace, "-H", "content-type: application/json"]);
    let output = curl.args(["-d", DEPLOYMENT, &url]).output().expect("curl runs");
    let made = text(&output.stdout);
    assert!(made.contains("\"uid\""), "{made}");
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The spans of a name that are parts of one of those.
fn below<'a>(spans: &'a [Collected], parents: &[&Collected], name: &str) -> Vec<&'a Collected> {
    let is_below = |made: &Collected| parents.iter().any(|parent| parent.span.span_id == made.span.parent_span_id);
    spans.iter().filter(|made| made.span.name == name && is_below(made)).collect()
}

#[test]
fn a_clients_trace_leads_over_its_request_to_what_a_controller_wrote_because_of_it() {
    let cluster = Cluster::place();
    let (socket, file) = (cluster.path("collector.sock"), cluster.path("tracing.yaml"));
    let collector = Collector::at(&socket);
    let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: TracingConfiguration";
    fs::write(&file, format!("{head}\nendpoint: unix://{}\n", socket.display())).expect("writes");
    let flag = format!("--tracing-config-file={}", file.display());
    let _daemon = cluster.daemon("control-plane", &["--components=apiserver,controllers", &flag]);
    // What controllers find when they start has no cause any more.
    eventually("controllers work", || cluster.kubectl_output("get serviceaccount default").status.success());
    eventually("that of Deployments, too", || cluster.actors().iter().any(|actor| actor["path"] == "controllers/deployment"));
    deploy(&cluster);
    let requested = |spans: &[Collected]| {
        let name = "POST /apis/apps/v1/namespaces/{:namespace}/deployments";
        spans.iter().find(|made| made.span.name == name && hex(&made.span.parent_span_id) == SPAN).cloned()
    };
    eventually("the request and what came of it arrived", || {
        let spans = collector.spans();
        let Some(request) = requested(&spans) else { return false };
        let looks = below(&spans, &[&request], "Reconcile controllers/deployment");
        !below(&spans, &looks, "Commit apiserver/replicasets.apps").is_empty()
    });
    let spans = collector.spans();
    let request = requested(&spans).expect("it was there");
    assert_eq!((request.component.as_str(), request.span.kind, request.span.status.is_none()), ("apiserver", 2, true));
    assert_eq!(below(&spans, &[&request], "Commit apiserver/deployments.apps").len(), 1, "{spans:#?}");
    let looks = below(&spans, &[&request], "Reconcile controllers/deployment");
    assert!(looks.iter().all(|look| look.component == "kube-controller-manager"), "{looks:#?}");
    assert!(spans.iter().all(|made| hex(&made.span.trace_id) == TRACE), "nobody else asked for spans: {spans:#?}");
}
