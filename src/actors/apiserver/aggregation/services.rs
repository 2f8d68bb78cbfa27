//! All API services: which groups and versions other servers answer for, and where all of them stand in discovery.

use std::{collections::BTreeMap, sync::Arc};

use actix::Message;
use serde_json::{Value, json};
use troupe_api::{
    meta::Cause,
    resources::{
        aggregated::{Aggregated, RemoteVersion},
        priorities::{self, Priority},
    },
    stored::StoredObject,
};
use troupe_api_server::aggregation::{
    ApiServiceSpec, Backend, RemoteService,
    description::{api_services, is_available},
};

use super::{
    super::cache::{ResourceCache, Snapshot},
    Aggregation, metrics,
    server::{Found, Look, RemoteServer},
    status,
};
use crate::runtime::{
    envelope::Reply,
    host::{On, Unit, UnitAddr, UnitContext},
    unit::Policy,
};

/// Take in what has changed. Idempotent.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Follow;

/// An API service with a server of its own.
struct Remote {
    service: RemoteService,
    version: Arc<RemoteVersion>,
    /// Looks after it; nobody does while no server is asked.
    unit: Option<UnitAddr<RemoteServer>>,
}

/// The unit at `apiserver/api-services`.
pub struct ApiServices {
    work: Aggregation,
    cache: Option<Arc<ResourceCache>>,
    seen: Arc<Snapshot>,
    remote: BTreeMap<Arc<str>, Remote>,
    /// Of what is served here, where objects say something else than they would by themselves.
    priorities: BTreeMap<Arc<str>, (Arc<str>, Arc<str>, Priority)>,
}

impl ApiServices {
    pub fn new(work: Aggregation) -> Self {
        let name = api_services();
        let cache = work.parts.listers.row(&name.group, &name.resource).and_then(|row| work.parts.listers.cache(&row).ok());
        ApiServices { work, cache, seen: Arc::default(), remote: BTreeMap::new(), priorities: BTreeMap::new() }
    }

    /// Takes in what has changed, and publishes it where requests are concerned.
    fn follow(&mut self, cx: &mut UnitContext<'_, Self>) {
        let Some(cache) = &self.cache else { return };
        let now = cache.load();
        let changes = self.seen.changes_to(&now);
        self.seen = now;
        let mut publishes = false;
        for change in changes {
            publishes |= match (&change.new, &change.old) {
                (Some(new), _) => self.changed(new, cx),
                (None, Some(old)) => self.gone(&old.key.name.clone(), cx),
                (None, None) => false,
            };
        }
        if publishes {
            self.publish(cx);
        }
    }

    fn gone(&mut self, name: &Arc<str>, cx: &mut UnitContext<'_, Self>) -> bool {
        metrics::forget(name);
        let had_priority = self.priorities.remove(name).is_some();
        self.end(name, cx) | had_priority
    }

    /// Its server, if it had one, is nobody's any more.
    fn end(&mut self, name: &Arc<str>, cx: &mut UnitContext<'_, Self>) -> bool {
        let had = self.remote.remove(name).is_some();
        if had {
            cx.system().stop(&format!("{}/{name}", cx.path()));
        }
        had
    }

    fn changed(&mut self, stored: &Arc<StoredObject>, cx: &mut UnitContext<'_, Self>) -> bool {
        let object = stored.to_object();
        let spec = Arc::new(ApiServiceSpec::of(&object));
        let name = stored.key.name.clone();
        let had_priority = self.priorities.remove(&name);
        let Some(reference) = spec.service.clone() else {
            let ended = self.end(&name, cx);
            let parts = self.work.parts.clone();
            let of = name.clone();
            cx.spawn(async move {
                if let Err(error) = status::write(&parts, &of, &object, &status::local()).await {
                    tracing::warn!(service = %of, %error, "cannot write the status of an API service");
                }
            });
            let is_special = spec.priority != priorities::local(&spec.group, &spec.version);
            let priority = is_special.then(|| (spec.group.clone(), spec.version.clone(), spec.priority));
            let moved = had_priority != priority;
            self.priorities.extend(priority.map(|priority| (name, priority)));
            return ended | moved;
        };
        let available = is_available(&object);
        if let Some(remote) = self.remote.get_mut(&name).filter(|remote| same_server(&remote.service.spec, &spec)) {
            let changed = remote.service.available != available || remote.service.spec != spec;
            remote.service = RemoteService { spec: spec.clone(), available, ..remote.service.clone() };
            remote.version = Arc::new(RemoteVersion { priority: spec.priority, ..(*remote.version).clone() });
            if let Some(unit) = remote.unit.as_ref().filter(|_| changed) {
                unit.wake(Look, Cause::default());
            }
            return changed | had_priority.is_some();
        }
        self.end(&name, cx);
        let backend = Arc::new(Backend::new(spec.clone(), reference, self.work.backends.clone()));
        let service = RemoteService { spec: spec.clone(), available, backend: backend.clone() };
        let version = Arc::new(RemoteVersion { priority: spec.priority, ..RemoteVersion::stale(&spec.group, &spec.version) });
        let unit = backend.open().is_ok().then(|| self.look_after(&name, spec, backend, cx));
        self.remote.insert(name, Remote { service, version, unit });
        true
    }

    /// Starts what checks a server and asks what it has.
    fn look_after(
        &self,
        name: &Arc<str>,
        spec: Arc<ApiServiceSpec>,
        backend: Arc<Backend>,
        cx: &mut UnitContext<'_, Self>,
    ) -> UnitAddr<RemoteServer> {
        let (work, owner) = (self.work.clone(), cx.address());
        let tell: Arc<dyn Fn(Found) + Send + Sync> = Arc::new(move |found| owner.wake(found, Cause::default()));
        let of = name.clone();
        let policy = Policy::per_object(move |why| tracing::error!(service = %of, why, "the server of an API service is not looked after"));
        let path = format!("{}/{name}", cx.path());
        cx.system().spawn(path, policy, move |_| RemoteServer::new(work.clone(), spec.clone(), backend.clone(), tell.clone()))
    }

    /// Has requests, discovery and controllers go by what is known now.
    fn publish(&self, cx: &mut UnitContext<'_, Self>) {
        self.work.aggregator.replace(self.remote.values().map(|remote| remote.service.clone()));
        let versions = self.remote.values().map(|remote| remote.version.clone()).collect();
        let aggregated = Arc::new(Aggregated::new(versions, self.priorities.values().cloned()));
        self.work.table.note_aggregated(aggregated);
        let table = self.work.table.clone();
        cx.spawn(async move { table.publish_aggregated().await });
    }
}

/// Whether two specs lead to the same server in the same way.
fn same_server(one: &ApiServiceSpec, other: &ApiServiceSpec) -> bool {
    one.service == other.service && one.authorities == other.authorities && one.insecure == other.insecure
}

impl Unit for ApiServices {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        let Some(cache) = self.cache.clone() else { return };
        let address = cx.address();
        cx.spawn(async move {
            loop {
                let seen = cache.applied.get();
                address.wake(Follow, Cause::default());
                cache.applied.reached(seen.next()).await;
            }
        });
    }

    fn observe(&self) -> Value {
        let told = |remote: &Remote| json!({"available": remote.service.available, "stale": remote.version.discovered.stale});
        let remote: serde_json::Map<_, _> = self.remote.iter().map(|(name, remote)| (name.to_string(), told(remote))).collect();
        json!({"objects": self.seen.objects.len(), "remote": remote, "paused": self.work.backends.paused})
    }
}

impl On<Follow> for ApiServices {
    fn on(&mut self, _: Follow, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.follow(cx);
        Reply::Now(())
    }
}

impl On<Found> for ApiServices {
    fn on(&mut self, found: Found, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        let Some(remote) = self.remote.get_mut(&found.name) else { return Reply::Now(()) };
        let Found { discovered, documents, .. } = found;
        if remote.version.discovered != discovered || remote.version.documents != documents {
            remote.version = Arc::new(RemoteVersion { discovered, documents, priority: remote.version.priority });
            self.publish(cx);
        }
        Reply::Now(())
    }
}
