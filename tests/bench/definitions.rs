//! 1,500 custom resource definitions with schemas of about 10 KB: what one costs, how soon it is served, and what others notice meanwhile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;

use crate::{
    Bench,
    api::config_map,
    figures::{Budget, report, report_beside},
    https::{Connection, Door},
};

const DEFINITIONS: usize = 1500;
const GROUPS: usize = 100;
const CLIENTS: usize = 4;
/// Bytes of a schema.
const SCHEMA: usize = 10 << 10;
const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const PATIENCE: Duration = Duration::from_secs(300);
/// Tables that are asked for anew.
const ROUNDS: usize = 15;

pub async fn measure(bench: &Bench) {
    let before = bench.daemon.resident_mib();
    let witness = Witness::start(&bench.door).await;
    let mut connections = bench.door.connections(CLIENTS).await;
    let begun = Instant::now();
    let served = join_all(connections.iter_mut().enumerate().map(|(first, connection)| define(connection, first))).await;
    report(&format!("{DEFINITIONS} definitions of 10 KB created and served"), begun.elapsed().as_secs_f64(), " s", Budget::None);
    // In the order in which they were made, more or less.
    let early = p99(served.iter().flat_map(|times| &times[..times.len() / 10]));
    let late = p99(served.iter().flat_map(|times| &times[times.len() * 9 / 10..]));
    report("definition created → served, p99 of the first tenth", early, " ms", Budget::AtMost(100.0));
    report("definition created → served, p99 of the last tenth", late, " ms", Budget::AtMost(100.0));
    report("longest request of another client meanwhile", witness.end().await, " ms", Budget::AtMost(200.0));
    documents(&mut connections[0]).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let each = (bench.daemon.resident_mib() - before) * 1024.0 / DEFINITIONS as f64;
    report_beside("resident, a definition of 10 KB", each, " KiB", Budget::AtMost(60.0), "4–13 MB");
    let (begun, busy) = (Instant::now(), bench.daemon.cpu());
    tokio::time::sleep(Duration::from_secs(5)).await;
    let busy = (bench.daemon.cpu() - busy).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
    report(&format!("processor use, idle, {DEFINITIONS} definitions"), busy, " % of a core", Budget::None);
    remove(&mut connections[0]).await;
}

/// Milliseconds from the reply to the create until the resource is served, of each.
async fn define(connection: &mut Connection, first: usize) -> Vec<f64> {
    let mut times = Vec::new();
    for at in (first..DEFINITIONS).step_by(CLIENTS) {
        connection.json("POST", CRDS, definition(at).to_string()).await;
        let (begun, path) = (Instant::now(), format!("/apis/{}/v1/{}?limit=1", group(at), plural(at)));
        while !connection.send("GET", &path, "", "").await.0.is_success() {
            assert!(begun.elapsed() < PATIENCE, "{path} is not served");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    times
}

fn p99<'a>(times: impl Iterator<Item = &'a f64>) -> f64 {
    let mut times: Vec<f64> = times.copied().collect();
    times.sort_by(f64::total_cmp);
    times[(times.len() * 99 / 100).min(times.len() - 1)]
}

/// Discovery and OpenAPI of all, each time after a definition has changed.
async fn documents(connection: &mut Connection) {
    let (mut discovery, mut index, mut document) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let patch = json!({"spec": {"names": {"categories": [format!("round-{round}")]}}}).to_string();
        let path = format!("{CRDS}/{}.{}", plural(round), group(round));
        let (status, body) = connection.send("PATCH", &path, "application/merge-patch+json", patch).await;
        assert!(status.is_success(), "{status} {}", String::from_utf8_lossy(&body));
        let (changed, asked) = (format!("round-{round}"), Instant::now());
        loop {
            assert!(asked.elapsed() < PATIENCE, "discovery does not show {changed}");
            let begun = Instant::now();
            let body = connection.accepting("/apis", AGGREGATED).await;
            let took = begun.elapsed().as_secs_f64() * 1e3;
            if String::from_utf8_lossy(&body).contains(&changed) {
                discovery.push(took);
                break;
            }
        }
        let begun = Instant::now();
        let body: Value = serde_json::from_slice(&connection.json("GET", "/openapi/v3", "").await).expect("JSON");
        index.push(begun.elapsed().as_secs_f64() * 1e3);
        let url = body["paths"][format!("apis/{}/v1", group(round))]["serverRelativeURL"].as_str().expect("the group is there");
        let begun = Instant::now();
        connection.json("GET", url, "").await;
        document.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    report(&format!("aggregated discovery of {DEFINITIONS} definitions, just changed"), median(discovery), " ms", Budget::AtMost(20.0));
    report("the index of their OpenAPI documents, just changed", median(index), " ms", Budget::None);
    report("the OpenAPI document of one of their groups", median(document), " ms", Budget::None);
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

async fn remove(connection: &mut Connection) {
    let begun = Instant::now();
    connection.json("DELETE", &format!("{CRDS}?labelSelector=bench"), "").await;
    loop {
        let left: Value = serde_json::from_slice(&connection.json("GET", &format!("{CRDS}?labelSelector=bench&limit=1"), "").await).expect("JSON");
        if left["items"].as_array().is_some_and(Vec::is_empty) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "definitions stay");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    report(&format!("{DEFINITIONS} definitions deleted"), begun.elapsed().as_secs_f64(), " s", Budget::None);
}

/// Another client, who reads and writes one ConfigMap after the other.
struct Witness {
    stop: Arc<AtomicBool>,
    longest: JoinHandle<Duration>,
}

impl Witness {
    async fn start(door: &Door) -> Self {
        let mut connection = door.connect().await;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let longest = tokio::spawn(async move {
            let (mut longest, mut number) = (Duration::ZERO, 0_usize);
            while !stopped.load(Relaxed) {
                let begun = Instant::now();
                connection.json("POST", MAPS, config_map(&format!("witness-{number}"))).await;
                longest = longest.max(begun.elapsed());
                let begun = Instant::now();
                connection.json("GET", &format!("{MAPS}/witness-{number}"), "").await;
                longest = longest.max(begun.elapsed());
                connection.json("DELETE", &format!("{MAPS}/witness-{number}"), "").await;
                number += 1;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            longest
        });
        Witness { stop, longest }
    }

    /// Milliseconds of its longest request.
    async fn end(self) -> f64 {
        self.stop.store(true, Relaxed);
        self.longest.await.expect("no panic").as_secs_f64() * 1e3
    }
}

fn group(at: usize) -> String {
    format!("group-{}.bench.example.com", at % GROUPS)
}

fn plural(at: usize) -> String {
    format!("things{at}")
}

fn definition(at: usize) -> Value {
    let (group, plural) = (group(at), plural(at));
    let names = json!({"plural": plural, "singular": format!("thing{at}"), "kind": format!("Thing{at}"), "shortNames": [format!("t{at}")]});
    let conditions = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"], "items": {
        "type": "object", "required": ["type", "status"], "properties": {
            "type": {"type": "string", "maxLength": 316}, "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "reason": {"type": "string"}, "message": {"type": "string"}, "lastTransitionTime": {"type": "string", "format": "date-time"}}}});
    let status = json!({"type": "object", "properties": {"conditions": conditions, "observedGeneration": {"type": "integer", "format": "int64"}}});
    let schema =
        json!({"type": "object", "description": format!("Thing{at} is a managed resource."), "properties": {"spec": spec(), "status": status}});
    let ready = json!({"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"});
    let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}},
        "additionalPrinterColumns": [ready, age]});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}"), "labels": {"bench": "true"}},
        "spec": {"group": group, "scope": "Namespaced", "names": names, "versions": [version]}})
}

/// What controller-gen makes of a Go type of some size: descriptions, nested objects and lists, bounds, patterns, defaults and rules.
fn spec() -> Value {
    let mut properties = Map::new();
    let mut bytes = 1500;
    for at in 0.. {
        let described = format!("Parameter {at} says how the provider is to make the resource that this object stands for, once it is there.");
        let (name, schema) = match at % 5 {
            0 => (
                "name",
                json!({"type": "string", "description": described, "minLength": 1, "maxLength": 63, "pattern": "^[a-z]([-a-z0-9]*[a-z0-9])?$"}),
            ),
            1 => ("mode", json!({"type": "string", "description": described, "enum": ["Enabled", "Disabled", "Suspended"], "default": "Enabled"})),
            2 => ("limit", json!({"type": "integer", "format": "int32", "description": described, "minimum": 0, "maximum": 65535})),
            3 => ("tags", json!({"type": "object", "description": described, "additionalProperties": {"type": "string"}})),
            _ => (
                "references",
                json!({"type": "array", "description": described, "maxItems": 16, "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"], "items": {"type": "object", "required": ["name"], "properties": {
                    "name": {"type": "string", "description": "Name of the referenced object."},
                    "policy": {"type": "string", "enum": ["Required", "Optional"], "default": "Required"}}}}),
            ),
        };
        bytes += schema.to_string().len() + name.len() + 6;
        properties.insert(format!("{name}{at}"), schema);
        if bytes >= SCHEMA {
            break;
        }
    }
    json!({"type": "object", "required": ["name0"], "properties": properties, "x-kubernetes-validations": [
        {"rule": "!has(self.limit2) || !has(self.limit7) || self.limit2 <= self.limit7", "message": "limit2 is at most limit7"},
        {"rule": "self.name0 == oldSelf.name0", "message": "name0 is immutable"}]})
}
