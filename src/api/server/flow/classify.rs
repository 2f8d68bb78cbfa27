//! Finds the flow schema of a request among those that exist now.

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use jiff::Timestamp;
use k8s_openapi::api::flowcontrol::v1::{FlowSchema, PriorityLevelConfiguration};
use parking_lot::Mutex;
use tokio::time::Instant;
use troupe_api::{
    auth::Attributes,
    meta::{GroupResource, Revision},
    metrics::Departures,
    service::{Listers, UserInfo},
    status::Status,
    stored::StoredObject,
};

use super::{
    bounds::bounds,
    dump::{self, Dump},
    matching::covers,
    metrics::{self, Named, SchemaSeries},
    room::{Asked, Distinguisher, Parts},
    seats::{Claim, Claimed, Level, Room, Seat},
    watches::Watches,
    work::{self, Asks, WorkEstimate},
};

const GROUP: &str = "flowcontrol.apiserver.k8s.io";

/// Where a request belongs.
#[derive(Clone)]
pub struct Classified {
    order: Arc<Order>,
    entry: usize,
    /// Whose requests wait in turns with those of others: the schema's, or those of a user or in a namespace.
    flow: u64,
}

impl Classified {
    fn entry(&self) -> &Entry {
        &self.order.entries[self.entry]
    }

    fn level(&self) -> &Level {
        &self.order.levels[self.entry().level]
    }

    pub fn schema_uid(&self) -> &str {
        &self.entry().uid
    }

    pub fn level_uid(&self) -> &str {
        &self.level().uid
    }

    /// Requests of this level are never held back.
    pub fn is_exempt(&self) -> bool {
        self.level().bounds.exempt
    }

    /// How much work a request for this resource is expected to be.
    pub fn work(&self, resource: &GroupResource, asks: Asks<'_>) -> WorkEstimate {
        if let Asks::Write(watchers) = asks {
            self.entry().series.watch_counts.observe(watchers as f64);
        }
        let bounds = &self.level().bounds;
        let widest = bounds.queuing.map(|queuing| work::widest(bounds.nominal, queuing.hand));
        let stored = if matches!(asks, Asks::List(_) | Asks::Watch(_)) { self.order.listers.size(resource) } else { None };
        work::estimate(asks, stored, widest)
    }

    /// Its seats at its level. A watch has them only until it has begun.
    ///
    /// # Errors
    /// 429 with Retry-After when there are none, even after a short wait where the level lets requests wait.
    pub async fn seat(&self, work: WorkEstimate, user: &Arc<UserInfo>, parts: Parts, is_watch: bool) -> Result<Seat, Status> {
        let Entry { name, series, method, .. } = self.entry();
        let asked = Asked { schema: name.clone(), method: *method, arrived: Instant::now(), user: user.clone(), parts };
        let claimed = Claimed { work, series: series.clone(), asked: Arc::new(asked), is_watch };
        Claim { levels: self.order.levels.clone(), at: self.entry().level, flow: self.flow, claimed }.seat().await
    }
}

struct Entry {
    schema: Arc<FlowSchema>,
    name: Arc<str>,
    uid: Arc<str>,
    /// Its place among the levels.
    level: usize,
    method: Distinguisher,
    series: Arc<SchemaSeries>,
}

/// The schemas in the order in which they are tried, and the levels, as of a version of the caches.
struct Order {
    version: (Option<Revision>, Option<Revision>),
    entries: Vec<Entry>,
    levels: Arc<[Level]>,
    listers: Arc<dyn Listers>,
}

/// Classifies requests by what the caches hold.
pub struct Classifier {
    listers: Arc<dyn Listers>,
    schemas: GroupResource,
    levels: GroupResource,
    /// Of all levels together.
    seats: usize,
    order: ArcSwapOption<Order>,
    rooms: Mutex<HashMap<Arc<str>, Arc<Room>>>,
    names: Mutex<Departures<Named>>,
    watches: Watches,
    /// Nobody can choose names that share their queues with somebody's.
    hashing: RandomState,
}

impl Classifier {
    /// Levels share `seats` by what they say of themselves.
    pub fn new(listers: Arc<dyn Listers>, seats: usize) -> Self {
        let (schemas, levels) = (GroupResource::new(GROUP, "flowschemas"), GroupResource::new(GROUP, "prioritylevelconfigurations"));
        Classifier {
            listers,
            schemas,
            levels,
            seats,
            order: ArcSwapOption::empty(),
            rooms: Mutex::default(),
            names: Mutex::default(),
            watches: Watches::default(),
            hashing: RandomState::new(),
        }
    }

    /// The first schema that covers the request. None covers it only while the built-in ones are missing.
    pub fn classify(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Option<Classified> {
        let order = self.order();
        let entry = order.entries.iter().position(|entry| covers(&entry.schema, user, attributes))?;
        let Entry { name, method, .. } = &order.entries[entry];
        let distinguisher = match method {
            Distinguisher::User => &user.name,
            Distinguisher::Namespace => attributes.namespace,
            Distinguisher::None => "",
        };
        let flow = self.hashing.hash_one((&**name, distinguisher));
        Some(Classified { order, entry, flow })
    }

    /// The watches that clients have.
    pub fn watches(&self) -> &Watches {
        &self.watches
    }

    /// Tells people what is in work and what waits.
    pub fn dump(&self, what: Dump, now: Timestamp) -> String {
        dump::text(&self.order().levels, what, now)
    }

    /// The levels as they are now.
    pub(super) fn current_levels(&self) -> Arc<[Level]> {
        self.order().levels.clone()
    }

    fn order(&self) -> Arc<Order> {
        let version = (self.listers.version(&self.schemas), self.listers.version(&self.levels));
        if let Some(order) = self.order.load_full().filter(|order| order.version == version && version.0.is_some()) {
            return order;
        }
        let levels = self.levels(&self.listers.list(&self.levels, ""));
        let mut entries: Vec<Entry> = self.listers.list(&self.schemas, "").iter().filter_map(|schema| entry_of(schema, &levels)).collect();
        entries.sort_by_key(|entry| {
            let precedence = entry.schema.spec.as_ref().and_then(|spec| spec.matching_precedence).unwrap_or(1000);
            (precedence, entry.name.clone())
        });
        let order = Arc::new(Order { version, entries, levels: levels.into(), listers: self.listers.clone() });
        self.order.store(Some(order.clone()));
        let schemas = order.entries.iter().map(|entry| Named::Schema(entry.name.clone()));
        let levels = order.levels.iter().map(|level| Named::Level(level.name.clone()));
        let mut names = self.names.lock();
        if names.follow(schemas.chain(levels).collect()) {
            metrics::forget(&names);
        }
        drop(names);
        order
    }

    /// The levels with their seats. Requests that are in work stay counted.
    fn levels(&self, stored: &[Arc<StoredObject>]) -> Vec<Level> {
        let decoded = stored.iter().filter_map(|level| Some((level, level.typed::<PriorityLevelConfiguration>().ok()?)));
        let decoded: Vec<_> = decoded.collect();
        let bounds = bounds(&decoded.iter().map(|(_, typed)| &**typed).collect::<Vec<_>>(), self.seats);
        let mut rooms = self.rooms.lock();
        let levels = decoded.iter().zip(bounds).map(|((stored, _), bounds)| {
            let name = stored.key.name.clone();
            metrics::limits(&name, bounds.nominal - bounds.lendable, bounds.nominal, bounds.most);
            let room = rooms.entry(name.clone()).or_default().clone();
            Level { name, uid: stored.meta().uid.clone(), bounds, room }
        });
        let levels: Vec<Level> = levels.collect();
        rooms.retain(|name, room| Arc::strong_count(room) > 1 || levels.iter().any(|level| level.name == *name));
        levels
    }
}

/// A schema with its level; one that refers to no level is passed over.
fn entry_of(schema: &Arc<StoredObject>, levels: &[Level]) -> Option<Entry> {
    let typed = schema.typed::<FlowSchema>().ok()?;
    let wanted = &typed.spec.as_ref()?.priority_level_configuration.name;
    let level = levels.iter().position(|level| *level.name == **wanted)?;
    let name = schema.key.name.clone();
    let series = Arc::new(SchemaSeries::of(&levels[level].name, &name));
    let method = match typed.spec.as_ref()?.distinguisher_method.as_ref().map_or("", |method| &method.type_) {
        "ByUser" => Distinguisher::User,
        "ByNamespace" => Distinguisher::Namespace,
        _ => Distinguisher::None,
    };
    Some(Entry { schema: typed, name, uid: schema.meta().uid.clone(), level, method, series })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use troupe_api::{meta::ObjectKey, resources::flow_bootstrap::objects};

    struct Fixed(Vec<(String, Arc<StoredObject>)>);

    impl Listers for Fixed {
        fn get(&self, _resource: &GroupResource, _key: &ObjectKey) -> Option<Arc<StoredObject>> {
            None
        }

        fn list(&self, resource: &GroupResource, _namespace: &str) -> Vec<Arc<StoredObject>> {
            self.0.iter().filter(|(plural, _)| **plural == *resource.resource).map(|(_, object)| object.clone()).collect()
        }
    }

    /// The names of schemas stand in for their UIDs.
    pub fn classifier() -> Classifier {
        let stored = objects().into_iter().map(|mut object| {
            let (uid, plural) = (object.name().to_owned(), format!("{}s", object.kind().to_lowercase()));
            object.set(&["metadata", "uid"], uid);
            (plural, Arc::new(StoredObject::from_object(&object).expect("is well formed")))
        });
        Classifier::new(Arc::new(Fixed(stored.collect())), 600)
    }

    fn schema(name: &str, groups: &[&str], attributes: &Attributes<'_>) -> String {
        let user = UserInfo { name: name.into(), groups: groups.iter().map(|group| (*group).to_owned()).collect(), ..UserInfo::default() };
        classifier().classify(&user, attributes).expect("is covered").schema_uid().to_owned()
    }

    #[test]
    fn requests_fall_into_upstreams_schemas() {
        let lease =
            Attributes { verb: "update", group: "coordination.k8s.io", resource: "leases", namespace: "kube-system", ..Attributes::default() };
        let pods = Attributes { verb: "list", resource: "pods", ..Attributes::default() };
        let node_status = Attributes { verb: "patch", resource: "nodes", subresource: "status", name: "n", ..Attributes::default() };
        let health = Attributes { verb: "get", path: Some("/healthz"), ..Attributes::default() };
        let everybody = "system:authenticated";
        assert_eq!(schema("admin", &["system:masters", everybody], &pods), "exempt");
        assert_eq!(schema("ann", &[everybody], &health), "probes");
        assert_eq!(schema("system:kube-scheduler", &[everybody], &lease), "system-leader-election");
        assert_eq!(schema("system:kube-scheduler", &[everybody], &pods), "kube-scheduler");
        assert_eq!(schema("system:node:n", &["system:nodes", everybody], &node_status), "system-node-high");
        assert_eq!(schema("system:node:n", &["system:nodes", everybody], &pods), "system-nodes");
        assert_eq!(schema("system:serviceaccount:kube-system:x", &["system:serviceaccounts", everybody], &pods), "kube-system-service-accounts");
        assert_eq!(schema("system:serviceaccount:default:x", &["system:serviceaccounts", everybody], &pods), "service-accounts");
        assert_eq!(schema("ann", &[everybody], &pods), "global-default");
    }
}
