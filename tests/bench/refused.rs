//! What requests cost the daemon that it refuses, or that anybody may send: from nobody, and from an account without rights.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    Bench,
    figures::{Budget, report},
    https::Door,
};

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/selfsubjectreviews";
const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
/// How many bytes a body that is to hurt has.
const LARGE: usize = 1 << 20;

/// Requests of each kind that are looked at one by one for their memory, of which the median counts: others' work is in it.
const ALONE: usize = 7;

/// A request: its verb, path, media type and body.
type Attack = (&'static str, String, &'static str, String);

/// Who asks, and what one request may cost.
struct Caller<'a> {
    name: &'a str,
    door: Door,
    /// Requests of each kind; the clock of processor time has 10 ms.
    times: u32,
    milliseconds: f64,
    mib: f64,
}

pub async fn measure(bench: &Bench) {
    let kubeconfig = bench.cluster.kubeconfig();
    let nobody = Door::without_certificate(&kubeconfig, None);
    Caller { name: "nobody", door: nobody, times: 100, milliseconds: 5.0, mib: 1.0 }.measure(bench, nobodys()).await;
    let stranger = Door::without_certificate(&kubeconfig, Some(&token(bench).await));
    Caller { name: "a stranger", door: stranger, times: 20, milliseconds: 50.0, mib: 16.0 }.measure(bench, strangers()).await;
}

impl Caller<'_> {
    /// Reports the dearest of all requests: its processor time, TLS handshake included, and by how much one alone raised the peak of memory.
    async fn measure(&self, bench: &Bench, attacks: Vec<Attack>) {
        let (mut slowest, mut largest) = (0.0f64, 0.0f64);
        for attack in attacks {
            self.send(&attack).await;
            let (milliseconds, mib) = self.cost(bench, &attack).await;
            let (method, path, content_type, body) = &attack;
            let path = &path[..path.len().min(60)];
            println!("    {}: {method} {path}, {} bytes of {content_type}: {milliseconds:.2} ms, {mib:.2} MiB", self.name, body.len());
            (slowest, largest) = (slowest.max(milliseconds), largest.max(mib));
        }
        report(&format!("processor time of the dearest request of {}", self.name), slowest, " ms", Budget::AtMost(self.milliseconds));
        report(&format!("memory of the dearest request of {}", self.name), largest, " MiB", Budget::AtMost(self.mib));
    }

    /// Milliseconds and MiB of one request.
    async fn cost(&self, bench: &Bench, attack: &Attack) -> (f64, f64) {
        let busy = bench.daemon.cpu();
        for _ in 0..self.times {
            self.send(attack).await;
        }
        let busy = bench.daemon.cpu() - busy;
        let mut raised = [0.0; ALONE];
        for mib in &mut raised {
            // Connections that end hold what they were sent until the client is told why.
            tokio::time::sleep(Duration::from_millis(200)).await;
            bench.daemon.forget_peak();
            let resident = bench.daemon.resident_mib();
            self.send(attack).await;
            *mib = (bench.daemon.peak_mib() - resident).max(0.0);
        }
        raised.sort_by(f64::total_cmp);
        (busy.as_secs_f64() * 1000.0 / f64::from(self.times), raised[ALONE / 2])
    }

    /// Sends it over a connection of its own. What becomes of it is for the attack suite to judge.
    async fn send(&self, (method, path, content_type, body): &Attack) {
        let mut connection = self.door.connect().await;
        let _ = connection.try_send(method, path, content_type, body.clone()).await;
    }
}

/// YAML whose aliases name a list of a hundred items over and over.
fn aliases(length: usize) -> String {
    format!("a: &a [{}]\nb: [{}]\n", ["x"; 100].join(","), vec!["*a"; length / 3].join(","))
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

fn dense(length: usize) -> String {
    let item = r#"{"a":0},"#;
    format!("[{}0]", item.repeat(length / item.len()))
}

fn empty_fields(length: usize) -> String {
    "k8s\0".to_owned() + &"\u{12}\u{0}".repeat(length / 2)
}

/// What nobody may do, with bodies and selectors that would cost much if anybody looked at them.
fn nobodys() -> Vec<Attack> {
    let pods = "/api/v1/namespaces/default/pods".to_owned();
    let requirements = (0..1000).map(|at| format!("a{at}%21%3Db")).collect::<Vec<_>>().join(",");
    vec![
        ("GET", pods.clone(), JSON, String::new()),
        ("GET", format!("{pods}?labelSelector={requirements}"), JSON, String::new()),
        ("DELETE", format!("{pods}/a"), YAML, aliases(LARGE)),
        ("POST", pods.clone(), JSON, nested(LARGE / 2)),
        ("POST", pods.clone(), JSON, dense(LARGE)),
        ("POST", pods.clone(), PROTOBUF, empty_fields(LARGE)),
        ("PATCH", format!("{pods}/a"), "application/json-patch+json", dense(LARGE)),
        ("POST", REVIEWS.to_owned(), YAML, aliases(LARGE)),
    ]
}

/// What any account may send, and what it may not.
fn strangers() -> Vec<Attack> {
    let mut attacks = nobodys();
    let review = |content_type, body| ("POST", REVIEWS.to_owned(), content_type, body);
    let labels = (0..8000).map(|at| format!("\"{at}\":\"\"")).collect::<Vec<_>>().join(",");
    attacks.extend([
        review(YAML, aliases(60_000)),
        review(JSON, nested(LARGE)),
        review(JSON, nested(40_000)),
        review(JSON, dense(3 * LARGE)),
        review(JSON, format!(r#"{{"x":{}}}"#, dense(100_000))),
        review(JSON, format!(r#"{{"metadata":{{"labels":{{{labels}}}}}}}"#)),
        review(PROTOBUF, empty_fields(2 * LARGE)),
    ]);
    attacks
}

/// A token of an account that may do what every account may.
async fn token(bench: &Bench) -> String {
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}).to_string();
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let reply = bench.door.connect().await.json("POST", path, request).await;
    let reply: Value = serde_json::from_slice(&reply).expect("JSON");
    reply["status"]["token"].as_str().expect("a token").to_owned()
}
