//! What every request shares: the caches, the store, the rules.

use std::{
    ops::RangeInclusive,
    sync::{Arc, OnceLock, atomic::AtomicBool},
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use ipnetwork::IpNetwork;
use troupe_api::{
    admission::{Pipeline, Reads},
    auth::{
        Attributes, Authorizer, Decision, forbidden, policy_parameters,
        rbac::{
            escalation::{self, Write},
            resolve::Resolver,
        },
    },
    memory::MemoryGauge,
    meta::{Clock, FieldSelector, GroupResource, Object, ObjectKey, Revision},
    resources::{Feature, Registry, Resource},
    service::{ListerChange, ListerState, Listers, Target, UserInfo},
    status::{FieldError, Status},
    store::{Store, keys},
    stored::StoredObject,
};

use super::{
    VirtualResources,
    cache::{CacheTable, ResourceCache, Route, Sequence, Snapshot},
    hops::HopRecorder,
    quota::Ledger,
    write::Growth,
};
use crate::runtime::host::UnitAddr;

/// Synchronous reads of the caches; outlives requests.
pub struct CacheListers {
    pub registry: ArcSwap<Registry>,
    pub caches: Arc<CacheTable>,
}

/// The API server behind its door. Shared by all requests; holds no per-request state.
pub struct Core {
    pub recorder: HopRecorder,
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub listers: Arc<CacheListers>,
    pub dispatched: Arc<Sequence>,
    /// Without one, everything is allowed.
    pub authorizer: Option<Arc<dyn Authorizer>>,
    /// What roles grant, for the check that nobody grants more than they hold.
    pub resolver: Resolver,
    pub admission: Pipeline,
    pub virtual_resources: Vec<Arc<dyn VirtualResources>>,
    /// Whether there is room for more objects.
    pub memory: Arc<dyn MemoryGauge>,
    /// How much objects grew while there was none.
    pub growth: Growth,
    pub service_cidrs: Vec<IpNetwork>,
    pub node_ports: RangeInclusive<u16>,
    /// Held while node ports are taken or released.
    pub node_ports_turn: tokio::sync::Mutex<()>,
    /// Set when the server starts; it needs the rest of this to work with.
    pub ledger: OnceLock<UnitAddr<Ledger>>,
    /// The server is about to stop: nobody should begin with it any more.
    pub leaving: AtomicBool,
}

impl Core {
    /// The cache of a stored resource; 404 for what is not stored.
    pub fn cache(&self, resource: &Resource) -> Result<Arc<ResourceCache>, Status> {
        self.listers.caches.cache(resource).ok_or_else(Status::page_not_found)
    }

    /// The cache of a stored resource with its actor.
    pub fn route(&self, resource: &Resource) -> Result<Route, Status> {
        self.listers.caches.route(resource).ok_or_else(Status::page_not_found)
    }

    /// 403 unless `user` may do `verb` on `target`.
    pub fn authorize(&self, user: &UserInfo, target: &Target, verb: &str, name: &str, fields: Option<&FieldSelector>) -> Result<(), Status> {
        let Some(authorizer) = &self.authorizer else { return Ok(()) };
        // A namespace lies within itself, so that its own roles can allow to read it.
        let namespace = if target.resource.is_namespace() { &target.name } else { &target.namespace };
        let attributes = Attributes {
            verb,
            resource: &target.resource.plural,
            subresource: &target.subresource,
            group: &target.resource.group,
            version: &target.version,
            namespace,
            name,
            path: None,
            fields,
        };
        match authorizer.authorize(user, &attributes) {
            Decision::Allow => Ok(()),
            Decision::Deny(why) | Decision::NoOpinion(why) => Err(forbidden(user, &attributes, &why)),
        }
    }

    /// 403 when a role or binding grants what its writer does not hold.
    pub fn check_escalation(&self, user: &UserInfo, target: &Target, new: &Object, old: Option<&Object>) -> Result<(), Status> {
        let Some(authorizer) = self.authorizer.as_ref().filter(|_| target.resource.has(Feature::Grants)) else { return Ok(()) };
        let write = Write { user, resource: &target.group_resource(), namespace: &target.namespace, new, old };
        // What the authorizer decides by is shared with it.
        escalation::check(&write, authorizer.rbac().unwrap_or(&self.resolver), &**authorizer)
    }

    /// What is wrong with a policy or binding that names parameters which its writer may not read.
    pub fn unreadable_parameters(&self, user: &UserInfo, target: &Target, new: &Object, old: Option<&Object>) -> Option<FieldError> {
        let authorizer = self.authorizer.as_ref().filter(|_| target.resource.has(Feature::Parameters) && target.subresource.is_empty())?;
        let resource = target.group_resource();
        let write = Write { user, resource: &resource, namespace: &target.namespace, new, old };
        let policy = |policies: &str, name: &str| {
            let found = self.listers.get(&GroupResource::new(resource.group.clone(), policies), &ObjectKey::cluster(name));
            found.map(|policy| policy.to_object())
        };
        policy_parameters::fault(&write, &self.listers.registry.load(), policy, &**authorizer)
    }

    /// The row of a resource.
    pub fn row(&self, group: &str, plural: &str) -> Option<Arc<Resource>> {
        self.listers.registry.load().by_resource(group, plural)
    }

    /// One object as of now, past the cache where the cache may be behind.
    pub async fn read_live(&self, resource: &Resource, key: &ObjectKey) -> Result<Option<Arc<StoredObject>>, Status> {
        let (found, _) = self.store.get(&keys::object(&resource.storage_prefix, key), None).await.map_err(store_status)?;
        let object = found.map(|kv| resource.read(kv)).transpose();
        object.map(|object| object.map(Arc::new)).map_err(Status::internal)
    }
}

/// What a client sees of a failing store.
pub fn store_status(error: troupe_api::store::StoreError) -> Status {
    use troupe_api::store::StoreError;
    match error {
        StoreError::NoSpace => Status::new(507, troupe_api::Reason::Unknown, "the store has no space left: delete objects or make room on its disk"),
        StoreError::Unknown(_) => Status::timeout("the request did not complete in time, its outcome is unknown"),
        StoreError::Unavailable(why) => not_done(format!("the store is not available: {why}")),
        StoreError::TooLarge(why) => Status::too_large(why),
        other => Status::internal(other),
    }
}

/// Nothing was done: clients try again when they are told so.
fn not_done(why: String) -> Status {
    let mut status = Status::unavailable(why);
    status.details.get_or_insert_default().retry_after_seconds = 1;
    status
}

impl Listers for CacheListers {
    fn get(&self, resource: &GroupResource, key: &ObjectKey) -> Option<Arc<StoredObject>> {
        let row = self.registry.load().by_resource(&resource.group, &resource.resource)?;
        self.caches.cache(&row)?.get(key)
    }

    fn list(&self, resource: &GroupResource, namespace: &str) -> Vec<Arc<StoredObject>> {
        let Some(row) = self.registry.load().by_resource(&resource.group, &resource.resource) else { return Vec::new() };
        let Some(cache) = self.caches.cache(&row) else { return Vec::new() };
        cache.load().scan(namespace, None).cloned().collect()
    }

    fn version(&self, resource: &GroupResource) -> Option<Revision> {
        let row = self.registry.load().by_resource(&resource.group, &resource.resource)?;
        Some(self.caches.cache(&row)?.load().revision)
    }

    fn changes(&self, resource: &GroupResource, since: Option<&ListerState>) -> (ListerState, Vec<ListerChange>) {
        let row = self.registry.load().by_resource(&resource.group, &resource.resource);
        let cache = row.and_then(|row| self.caches.cache(&row));
        let now = cache.map(|cache| cache.load()).unwrap_or_default();
        let before = since.and_then(|state| state.clone().downcast::<Snapshot>().ok()).unwrap_or_default();
        let changes = before.changes_to(&now);
        (now, changes)
    }
}

#[async_trait]
impl Reads for Core {
    fn listers(&self) -> &dyn Listers {
        &*self.listers
    }

    fn registry(&self) -> Arc<Registry> {
        self.listers.registry.load_full()
    }

    fn authorizer(&self) -> Option<&Arc<dyn Authorizer>> {
        self.authorizer.as_ref()
    }

    fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    async fn live(&self, resource: &GroupResource, key: &ObjectKey) -> Result<Option<Arc<StoredObject>>, Status> {
        match self.row(&resource.group, &resource.resource) {
            Some(row) => self.read_live(&row, key).await,
            None => Ok(None),
        }
    }
}
