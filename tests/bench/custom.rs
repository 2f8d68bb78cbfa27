//! Objects of custom resources beside ConfigMaps of the same size: created, read, listed and watched, in turns.
//!
//! `Plain` has one field; `Rich` has a schema of 200 properties and five validation rules.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http_body_util::BodyExt;
use serde_json::{Map, Value, json};

use crate::{
    Bench,
    api::{config_map, rate_lasting},
    cluster::{apply, eventually},
    figures::{Budget, report},
    https::Connection,
};

const ROUNDS: usize = 5;
const LASTS: Duration = Duration::from_secs(1);
const CLIENTS: usize = 16;
/// Objects in a list.
const LISTED: usize = 1000;
const WATCHERS: u64 = 200;
/// Writes at once, which all watchers see before the next.
const BURST: usize = 64;
const GROUP: &str = "custom.bench.example.com";

/// What is made, and where.
#[derive(Clone, Copy)]
struct Kind {
    plural: &'static str,
    body: fn(&str) -> String,
}

const KINDS: [Kind; 3] =
    [Kind { plural: "configmaps", body: config_map }, Kind { plural: "plains", body: plain }, Kind { plural: "riches", body: rich }];

impl Kind {
    /// Its objects in a namespace.
    fn path(self, namespace: &str) -> String {
        let version = if self.plural == "configmaps" { "api/v1".to_owned() } else { format!("apis/{GROUP}/v1") };
        format!("/{version}/namespaces/{namespace}/{}", self.plural)
    }
}

pub async fn measure(bench: &Bench) {
    for (kind, schema) in [("Plain", json!({"type": "object", "properties": {"value": {"type": "string"}}})), ("Rich", rich_schema())] {
        apply(&bench.cluster, &definition(kind, &schema).to_string());
    }
    for namespace in ["custom-made", "custom-listed", "custom-watched"] {
        bench.cluster.kubectl(&format!("create namespace {namespace}"));
        bench.cluster.eventually_has("serviceaccount/default", namespace);
    }
    eventually("both are established", || {
        let waiting = "wait --for=condition=Established --timeout=30s";
        bench.cluster.kubectl_output(&format!("{waiting} crd/plains.{GROUP} crd/riches.{GROUP}")).status.success()
    });
    fill(bench).await;
    let mut rates = [const { Vec::new() }; 4];
    for round in 0..ROUNDS {
        // What disturbs falls on all kinds alike.
        rates[0].push(of_all(async |kind| creates(bench, kind, round).await).await);
        rates[1].push(of_all(async |kind| gets(bench, kind).await).await);
        rates[2].push(of_all(async |kind| lists(bench, kind).await).await);
        rates[3].push(of_all(async |kind| events(bench, kind, round).await).await);
    }
    for (what, rates) in ["creates", "GETs", "LISTs of 1,000", "events to 200 watchers"].into_iter().zip(rates) {
        let ratio = |at: usize| median(rates.iter().map(|rates: &[f64; 3]| rates[at] / rates[0]).collect());
        report(&format!("{what}: custom resources / ConfigMaps of the same size"), ratio(1), "", Budget::AtLeast(0.8));
        report(&format!("{what}: with 200 properties and five rules / ConfigMaps"), ratio(2), "", Budget::AtLeast(0.5));
    }
    bench.cluster.kubectl("delete namespace custom-made custom-listed custom-watched --timeout=300s");
    bench.cluster.kubectl(&format!("delete crd plains.{GROUP} riches.{GROUP}"));
}

async fn of_all(rate: impl AsyncFn(Kind) -> f64) -> [f64; 3] {
    [rate(KINDS[0]).await, rate(KINDS[1]).await, rate(KINDS[2]).await]
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn fill(bench: &Bench) {
    let mut connection = bench.door.connect().await;
    for kind in KINDS {
        for at in 0..LISTED {
            connection.json("POST", &kind.path("custom-listed"), (kind.body)(&format!("listed-{at}"))).await;
        }
    }
}

async fn creates(bench: &Bench, kind: Kind, round: usize) -> f64 {
    let create = move |mut connection: Connection, number: usize| async move {
        connection.json("POST", &kind.path("custom-made"), (kind.body)(&format!("made-{round}-{number}"))).await;
        connection
    };
    rate_lasting(LASTS, bench.door.connections(CLIENTS).await, create).await
}

async fn gets(bench: &Bench, kind: Kind) -> f64 {
    let get = move |mut connection: Connection, number: usize| async move {
        connection.json("GET", &format!("{}/listed-{}", kind.path("custom-listed"), number % LISTED), "").await;
        connection
    };
    rate_lasting(LASTS, bench.door.connections(CLIENTS).await, get).await
}

async fn lists(bench: &Bench, kind: Kind) -> f64 {
    let list = move |mut connection: Connection, _| async move {
        connection.drain(&kind.path("custom-listed")).await;
        connection
    };
    rate_lasting(LASTS, bench.door.connections(2).await, list).await
}

/// Events a second to all watchers, while objects are made.
async fn events(bench: &Bench, kind: Kind, round: usize) -> f64 {
    let delivered = Arc::new(AtomicU64::new(0));
    let mut watches = tokio::task::JoinSet::new();
    // Only what comes from now on.
    let listed: Value =
        serde_json::from_slice(&bench.door.connect().await.json("GET", &format!("{}?limit=1", kind.path("custom-watched")), "").await)
            .expect("a list");
    let since = listed["metadata"]["resourceVersion"].as_str().expect("a version").to_owned();
    for _ in 0..WATCHERS {
        let mut connection = bench.door.connect().await;
        let path = format!("{}?watch=true&resourceVersion={since}", kind.path("custom-watched"));
        let mut body = connection.start("GET", &path, "application/json", "").await.into_body();
        let delivered = delivered.clone();
        watches.spawn(async move {
            let _open = connection;
            while let Some(Ok(frame)) = body.frame().await {
                let events = frame.data_ref().map_or(0, |data| data.iter().filter(|byte| **byte == b'\n').count());
                delivered.fetch_add(events as u64, Relaxed);
            }
        });
    }
    let mut writers = bench.door.connections(BURST).await;
    let (begun, mut sent) = (Instant::now(), 0_usize);
    while begun.elapsed() < LASTS {
        let written = Instant::now();
        let burst = writers.iter_mut().enumerate().map(|(at, writer)| {
            let name = format!("watched-{round}-{}", sent + at);
            async move { writer.json("POST", &kind.path("custom-watched"), (kind.body)(&name)).await }
        });
        futures::future::join_all(burst).await;
        sent += BURST;
        while delivered.load(Relaxed) < sent as u64 * WATCHERS {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(written.elapsed() < Duration::from_secs(30), "watchers starve: {} of {}", delivered.load(Relaxed), sent as u64 * WATCHERS);
        }
    }
    let rate = delivered.load(Relaxed) as f64 / begun.elapsed().as_secs_f64();
    watches.abort_all();
    rate
}

fn definition(kind: &str, spec: &Value) -> Value {
    let singular = kind.to_lowercase();
    let plural = if singular == "rich" { "riches".to_owned() } else { format!("{singular}s") };
    let schema = json!({"type": "object", "properties": {"spec": spec}});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": {"plural": plural, "singular": singular, "kind": kind},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
}

fn object(kind: &str, name: &str, spec: &Value) -> String {
    json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind, "metadata": {"name": name}, "spec": spec}).to_string()
}

fn plain(name: &str) -> String {
    object("Plain", name, &json!({"value": "x".repeat(800)}))
}

/// As long as the others, in many fields.
fn rich(name: &str) -> String {
    let mut spec: Map<String, Value> = (0..20).map(|at| (format!("field{at}"), json!("x".repeat(20)))).collect();
    spec.extend((100..120).map(|at| (format!("field{at}"), json!(at))));
    spec.insert("parts".into(), json!([{"name": "one", "count": 1}, {"name": "two", "count": 2}]));
    object("Rich", name, &spec.into())
}

fn rich_schema() -> Value {
    let text = |at: usize| (format!("field{at}"), json!({"type": "string", "maxLength": 64, "description": format!("Field {at}.")}));
    let number = |at: usize| (format!("field{at}"), json!({"type": "integer", "minimum": 0, "maximum": 1000}));
    let mut properties: Map<String, Value> = (0..100).map(text).chain((100..199).map(number)).collect();
    properties.insert("parts".into(), json!({"type": "array", "maxItems": 8, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
        "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "maxLength": 16}, "count": {"type": "integer"}}}}));
    let rule = |rule: &str| json!({"rule": rule, "message": "does not hold"});
    json!({"type": "object", "properties": properties, "x-kubernetes-validations": [
        rule("!has(self.field0) || self.field0.size() < 60"),
        rule("!has(self.field1) || self.field1.startsWith('x')"),
        rule("!has(self.field100) || !has(self.field101) || self.field100 <= self.field101"),
        rule("!has(self.parts) || self.parts.all(part, !has(part.count) || part.count < 100)"),
        rule("!has(self.field119) || self.field119 in [118, 119, 120]")]})
}
