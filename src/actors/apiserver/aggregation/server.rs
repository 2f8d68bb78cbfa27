//! The server of one API service: checked now and then and when its Service changes, and asked what it has.

use std::{sync::Arc, time::Duration};

use actix::Message;
use serde_json::{Value, json};
use troupe_api::{
    meta::{Cause, GroupResource, Object, ObjectKey, Revision},
    resources::{aggregated::Documents, discovered::DiscoveredVersion},
    service::Listers,
};
use troupe_api_server::aggregation::{ApiServiceSpec, Backend, ServiceReference, endpoints};

use super::{super::cache::ResourceCache, Aggregation, CHECK, Parts, REFRESH, availability, discovery, documents, status};
use crate::runtime::{
    envelope::Reply,
    host::{On, Unit, UnitAddr, UnitContext},
};

/// Attempts that failed are made again after this time, which doubles up to the time after which they are made anyway.
const AGAIN: Duration = Duration::from_millis(100);
/// Changes of Services and slices are looked at together.
const SETTLING: Duration = Duration::from_millis(100);

/// Check and ask again: the API service or what is behind it has changed. Idempotent.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Look;

/// A server told what it has, or did not.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Found {
    /// Of the API service.
    pub name: Arc<str>,
    pub discovered: DiscoveredVersion,
    pub documents: Documents,
}

/// The unit at `apiserver/api-services/NAME`.
pub struct RemoteServer {
    work: Aggregation,
    spec: Arc<ApiServiceSpec>,
    backend: Arc<Backend>,
    /// Takes what the server has, or that it did not say.
    tell: Arc<dyn Fn(Found) + Send + Sync>,
    check: Attempts,
    discover: Attempts,
    told: discovery::Told,
    described: documents::Told,
    last: String,
}

/// One kind of attempts: one at a time, again after a while.
#[derive(Default)]
struct Attempts {
    running: bool,
    /// Somebody wants another one behind the one that runs.
    wanted: bool,
    failures: u32,
    /// Which timer counts.
    timer: u64,
}

impl Attempts {
    /// Whether an attempt may begin now.
    fn begin(&mut self) -> bool {
        if self.running {
            self.wanted = true;
            return false;
        }
        self.timer += 1;
        self.running = true;
        true
    }

    /// When the next attempt is due; at once if somebody wants it.
    fn ended(&mut self, well: bool, regular: Duration) -> Duration {
        self.running = false;
        self.failures = if well { 0 } else { self.failures.saturating_add(1) };
        if std::mem::take(&mut self.wanted) {
            return Duration::ZERO;
        }
        if well { regular } else { AGAIN.saturating_mul(1 << self.failures.min(16)).min(regular) }
    }
}

impl RemoteServer {
    pub fn new(work: Aggregation, spec: Arc<ApiServiceSpec>, backend: Arc<Backend>, tell: Arc<dyn Fn(Found) + Send + Sync>) -> Self {
        RemoteServer {
            work,
            spec,
            backend,
            tell,
            check: Attempts::default(),
            discover: Attempts::default(),
            told: discovery::Told::default(),
            described: documents::Told::default(),
            last: "nothing yet".into(),
        }
    }

    fn look(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.check(cx);
        self.discover(cx);
    }

    fn check(&mut self, cx: &mut UnitContext<'_, Self>) {
        if !self.check.begin() {
            return;
        }
        let (parts, spec, backend) = (self.work.parts.clone(), self.spec.clone(), self.backend.clone());
        cx.spawn_then(async move { checked(&parts, &spec, &backend).await }, |unit, outcome, cx| {
            let well = outcome.is_ok();
            unit.last = outcome.err().unwrap_or_else(|| "passed".into());
            let after = unit.check.ended(well, CHECK);
            let timer = unit.check.timer;
            cx.after(after, move |unit, cx| {
                if unit.check.timer == timer {
                    unit.check(cx);
                }
            });
        });
    }

    fn discover(&mut self, cx: &mut UnitContext<'_, Self>) {
        if !self.discover.begin() {
            return;
        }
        let (spec, backend, told, described) = (self.spec.clone(), self.backend.clone(), self.told.clone(), self.described.clone());
        let (tell, name) = (self.tell.clone(), self.spec.name.clone());
        let discovering = async move {
            let told = discovery::discover(&spec, &backend, &told).await;
            if let Ok(told) = &told {
                // Its documents come later, and are not waited for.
                tell(found(name, &spec, told, described.documents.clone(), false));
                return (Ok(told.clone()), documents::describe(&spec, &backend, described).await);
            }
            (told, described)
        };
        cx.spawn_then(discovering, |unit, (told, described), cx| {
            let well = told.is_ok();
            match told {
                Ok(told) => {
                    if told.left_out > 0 && unit.told.left_out == 0 {
                        let (service, left_out) = (&unit.spec.name, told.left_out);
                        tracing::warn!(%service, left_out, "an API service names more resources than are taken from one, leaving the others out");
                    }
                    unit.told = told;
                }
                Err(why) => tracing::debug!(service = %unit.spec.name, why, "cannot discover what an API service has, will retry"),
            }
            unit.described = described;
            let news = found(unit.spec.name.clone(), &unit.spec, &unit.told, unit.described.documents.clone(), !well);
            (unit.tell)(news);
            let after = unit.discover.ended(well, REFRESH);
            let timer = unit.discover.timer;
            cx.after(after, move |unit, cx| {
                if unit.discover.timer == timer {
                    unit.discover(cx);
                }
            });
        });
    }
}

fn found(name: Arc<str>, spec: &ApiServiceSpec, told: &discovery::Told, documents: Documents, stale: bool) -> Found {
    let (group, version) = (spec.group.clone(), spec.version.clone());
    Found { name, discovered: DiscoveredVersion { group, version, resources: told.resources.clone(), stale }, documents }
}

/// Checks the server and has its object say what came out.
async fn checked(parts: &Parts, spec: &ApiServiceSpec, backend: &Backend) -> Result<(), String> {
    let verdict = availability::check(&*parts.listers, spec, backend).await;
    let Some(object) = object(parts, &spec.name) else { return Ok(()) };
    status::write(parts, &spec.name, &object, &verdict).await.map_err(|status| status.message)?;
    // What is not a matter of the server is looked at again when it changes.
    if verdict.reason == "FailedDiscoveryCheck" { Err(verdict.message) } else { Ok(()) }
}

fn object(parts: &Parts, name: &str) -> Option<Object> {
    let resource = GroupResource::new("apiregistration.k8s.io", "apiservices");
    Some(parts.listers.get(&resource, &ObjectKey::cluster(name))?.to_object())
}

/// Wakes whenever the Service or its slices change.
async fn follow(parts: Arc<Parts>, reference: ServiceReference, address: UnitAddr<RemoteServer>) {
    let cache = |group: &str, plural: &str| parts.listers.row(group, plural).and_then(|row| parts.listers.cache(&row).ok());
    let (Some(services), Some(slices)) = (cache("", "services"), cache("discovery.k8s.io", "endpointslices")) else { return };
    let mut known = versions(&*parts.listers, &reference);
    loop {
        let (seen, of_slices) = (services.applied.get(), slices.applied.get());
        let now = versions(&*parts.listers, &reference);
        if now != known {
            known = now;
            address.wake(Look, Cause::default());
        }
        changed(&services, seen, &slices, of_slices).await;
        tokio::time::sleep(SETTLING).await;
    }
}

async fn changed(one: &ResourceCache, seen: Revision, other: &ResourceCache, of_other: Revision) {
    tokio::select! {
        biased;
        () = one.applied.reached(seen.next()) => {}
        () = other.applied.reached(of_other.next()) => {}
    }
}

/// The versions of what is behind a reference.
fn versions(listers: &dyn Listers, reference: &ServiceReference) -> Vec<Revision> {
    let service = availability::service(listers, reference).map(|service| service.revision);
    service.into_iter().chain(endpoints::revisions(listers, reference)).collect()
}

impl Unit for RemoteServer {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        cx.spawn(follow(self.work.parts.clone(), self.backend.reference().clone(), cx.address()));
        self.look(cx);
    }

    fn observe(&self) -> Value {
        json!({
            "check": self.last, "failures": self.check.failures, "resources": self.told.resources.len(), "discoveryFailures": self.discover.failures,
        })
    }
}

impl On<Look> for RemoteServer {
    fn on(&mut self, _: Look, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.look(cx);
        Reply::Now(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_do_not_overlap_and_those_that_fail_come_again_sooner() {
        let mut attempts = Attempts::default();
        assert!(attempts.begin() && !attempts.begin());
        assert_eq!(attempts.ended(true, CHECK), Duration::ZERO, "another one was wanted meanwhile");
        assert!(attempts.begin());
        assert_eq!(attempts.ended(true, CHECK), CHECK);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert!(attempts.begin());
            pauses.push(attempts.ended(false, CHECK));
        }
        assert!(pauses.is_sorted() && pauses[0] < Duration::from_secs(1) && pauses[11] == CHECK);
    }
}
