//! An API server asks all processes of the cluster and puts together what they tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{StreamExt, stream};
use hyper::Method;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Node};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use troupe_api::{
    Status,
    auth::tls::TlsError,
    meta::{GroupResource, ObjectKey},
    service::Listers,
};
use troupe_api_server::http::streaming::{escaped, query_value};

use super::{
    answer::{self, ACTORS, ASK, HOPS, KILL, Report},
    ask::{Asker, Credentials, refusal},
    peers::{self, Peer},
    presence::{LABEL, NAMESPACE},
};
use crate::runtime::{
    recorder::{
        HopRecord,
        chain::{self, Wanted},
    },
    system::System,
};

/// Peers asked at once.
const AT_ONCE: usize = 32;
/// Questions before a story is taken as complete: each asks for what the last one told of.
const ROUNDS: usize = 4;
/// Traces, and versions, that are asked for.
const MOST: usize = 100;

/// A process that should be there and did not answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Silent {
    pub process: String,
    pub why: String,
}

/// Looks into all processes of the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Insight {
    system: System,
    listers: Arc<dyn Listers>,
    asker: Asker,
}

/// What peers told.
struct Told<T> {
    reports: Vec<Report<T>>,
    silent: BTreeSet<Silent>,
}

impl Insight {
    /// Peers are found in `listers`.
    ///
    /// # Errors
    /// When the credentials cannot be used.
    pub fn new(system: System, listers: Arc<dyn Listers>, credentials: Credentials) -> Result<Self, TlsError> {
        Ok(Insight { system, listers, asker: Asker::new(credentials)? })
    }

    fn peers(&self) -> Vec<Peer> {
        let now = self.system.clock().now();
        let nodes = self.listers.list(&GroupResource::new("", "nodes"), "");
        let nodes = nodes.iter().filter_map(|stored| peers::of_node(&*stored.typed::<Node>().ok()?));
        let leases = self.listers.list(&GroupResource::new("coordination.k8s.io", "leases"), NAMESPACE);
        let leases = leases.iter().filter_map(|stored| stored.typed::<Lease>().ok());
        let kept = leases.filter(|lease| lease.metadata.labels.as_ref().is_some_and(|labels| labels.contains_key(LABEL)));
        kept.filter_map(|lease| peers::of_lease(&lease, now)).chain(nodes).collect()
    }

    /// Asks all peers the same. Each process counts once, however many ways lead to it.
    async fn ask_all<T: DeserializeOwned>(&self, path: &str) -> Told<T> {
        let asked = stream::iter(self.peers()).map(|peer| async move {
            let began = self.system.clock().now().as_microsecond();
            let answer = self.asker.ask(&peer, Method::GET, path).await;
            (peer, answer, began)
        });
        let answers: Vec<_> = asked.buffer_unordered(AT_ONCE).collect().await;
        let (mut reports, mut silent) = (BTreeMap::new(), BTreeSet::new());
        for (peer, answer, began) in answers {
            let ended = self.system.clock().now().as_microsecond();
            let told = match answer {
                // A kubelet of another make.
                Ok((404, _)) => continue,
                Ok((200, body)) => serde_json::from_slice::<Report<T>>(&body).map_err(|error| error.to_string()),
                Ok((code, body)) => Err(refusal(code, &body)),
                Err(why) => Err(why),
            };
            match told {
                Ok(report) if report.process.id == self.system.process().id => {}
                Ok(report) => {
                    let report = Report { now_us: offset(report.now_us, began, ended), ..report };
                    reports.insert((report.process.name.clone(), report.process.id.clone()), report);
                }
                Err(why) => drop(silent.insert(Silent { process: peer.label, why })),
            }
        }
        Told { reports: reports.into_values().collect(), silent }
    }

    /// The live actors of all processes: `{"processes": [{"process": …, "actors": […]}], "silent": […]}`.
    pub async fn actors(&self) -> Value {
        let (own, told) = futures::join!(answer::actors(&self.system), self.ask_all::<Value>(ACTORS));
        let all = std::iter::once(own).chain(told.reports);
        let processes: Vec<Value> = all.map(|report| json!({"process": report.process, "actors": report.items})).collect();
        json!({"processes": processes, "silent": told.silent})
    }

    /// The causal chain of an object through all processes: `{"steps": […], "silent": […]}`.
    pub async fn trace(&self, resource: &str, key: &ObjectKey) -> Value {
        let object = chain::object_name(resource, key);
        let mut wanted = Wanted::object(object.as_str());
        let mut found = Vec::new();
        let mut silent = BTreeSet::new();
        for _ in 0..ROUNDS {
            let told = self.ask_all::<HopRecord>(&self.question(&wanted)).await;
            // Our own clock is the one that counts.
            let own = Report { now_us: 0, ..answer::hops(&self.system, &wanted) };
            found = std::iter::once(own).chain(told.reports).flat_map(placed).collect();
            silent = told.silent;
            found.sort_by_key(|record: &HopRecord| record.at_us);
            if !wanted.learn(&found, MOST) {
                break;
            }
        }
        json!({"steps": chain::chain(found, &object), "silent": silent})
    }

    /// What actors at this path say, in whatever processes they live, about one of the things that they work on: `{"answers": […], "silent": […]}`.
    pub async fn said(&self, path: &str, about: &str) -> Value {
        let question = format!("{ASK}?path={}&about={}", escaped(path), escaped(about));
        let (own, told) = futures::join!(answer::said(&self.system, path, about), self.ask_all::<Value>(&question));
        let answers: Vec<Value> = std::iter::once(own).chain(told.reports).flat_map(|report| report.items).collect();
        json!({"answers": answers, "silent": told.silent})
    }

    fn question(&self, wanted: &Wanted) -> String {
        let mut path = format!("{HOPS}?asker={}&object={}", self.system.process().id, escaped(&wanted.object));
        for (name, values) in [("trace", &wanted.traces), ("version", &wanted.versions)] {
            values.iter().for_each(|value| path.push_str(&format!("&{name}={}", escaped(value))));
        }
        path
    }

    /// Lets an actor panic in the process that has it: `?path=…&when=…`, and `&process=…` where several have one.
    ///
    /// # Errors
    /// When none has it, or several.
    pub async fn kill(&self, query: &str) -> Result<Value, Status> {
        let (path, process) = (query_value(query, "path"), query_value(query, "process"));
        let own = self.system.process().name.as_str();
        let all = self.actors().await;
        let has = |listed: &&Value| {
            let mut paths = listed["actors"].as_array().into_iter().flatten().filter_map(|actor| actor["path"].as_str());
            let below = format!("{path}/");
            paths.any(|known| known == path || known.starts_with(&below))
        };
        let named = all["processes"].as_array().into_iter().flatten().filter(has).filter_map(|listed| listed["process"]["name"].as_str());
        let named: Vec<&str> = named.filter(|name| process.is_empty() || *name == process).collect();
        let [chosen] = named[..] else {
            return Err(Status::bad_request(match named.len() {
                0 => format!("no actor lives at \"{path}\"; troupe actors lists them"),
                _ => format!("\"{path}\" lives in several processes, name one of them: {}", named.join(", ")),
            }));
        };
        let asked = format!("path={}&when={}&key={}", escaped(&path), escaped(&query_value(query, "when")), escaped(&query_value(query, "key")));
        if chosen == own {
            let told = answer::tell(&self.system, true, KILL, &asked).await?;
            return serde_json::from_slice(&told).map_err(Status::internal);
        }
        self.kill_at(chosen, &asked).await
    }

    async fn kill_at(&self, process: &str, asked: &str) -> Result<Value, Status> {
        for peer in self.peers() {
            let Ok((200, body)) = self.asker.ask(&peer, Method::GET, ACTORS).await else { continue };
            let is_it = serde_json::from_slice::<Report<Value>>(&body).is_ok_and(|report| report.process.name == process);
            if !is_it {
                continue;
            }
            return match self.asker.ask(&peer, Method::POST, &format!("{KILL}?{asked}")).await {
                Ok((200, body)) => serde_json::from_slice(&body).map_err(Status::internal),
                Ok((code, body)) => Err(Status::bad_request(refusal(code, &body))),
                Err(why) => Err(Status::unavailable(format!("{process}: {why}"))),
            };
        }
        Err(Status::unavailable(format!("{process} does not answer any more")))
    }
}

/// How far a clock is ahead of ours, in microseconds; nothing where that may be the way's time.
fn offset(told: i64, began: i64, ended: i64) -> i64 {
    let (middle, half) = ((began + ended) / 2, (ended - began) / 2 + 1);
    if (told - middle).abs() <= half { 0 } else { told - middle }
}

/// Records with their process and by our clock; `now_us` of the report holds how far the other one is ahead.
fn placed(report: Report<HopRecord>) -> impl Iterator<Item = HopRecord> {
    let (name, ahead) = (report.process.name, report.now_us);
    report.items.into_iter().map(move |record| HopRecord { process: name.clone(), at_us: record.at_us - ahead, ..record })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_ahead_is_told_from_a_slow_answer() {
        assert_eq!(offset(1_000_500, 1_000_000, 1_002_000), 0);
        assert_eq!(offset(6_001_000, 1_000_000, 1_002_000), 5_000_000);
        assert_eq!(offset(1_000_000 - 9_000, 1_000_000, 1_000_000), -9_000);
    }
}
