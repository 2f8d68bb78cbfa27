//! What every request shares: the caches, the store, the rules.

use std::{
    ops::RangeInclusive,
    sync::{Arc, OnceLock},
};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use ipnetwork::IpNetwork;
use troupe_api::{
    admission::{Pipeline, Reads},
    auth::{Attributes, Authorizer, Decision},
    meta::{Clock, GroupResource, ObjectKey},
    resources::{Registry, Resource},
    service::{Listers, Target, UserInfo},
    status::Status,
    store::{Store, keys},
    stored::StoredObject,
};

use super::{
    VirtualResources,
    cache::{CacheTable, ResourceCache, Route, Sequence},
};

/// The API server behind its door. Shared by all requests; holds no per-request state.
pub struct Core {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub registry: ArcSwap<Registry>,
    pub caches: Arc<CacheTable>,
    pub dispatched: Arc<Sequence>,
    /// Made after the caches it reads; empty allows everything.
    pub authorizer: OnceLock<Arc<dyn Authorizer>>,
    pub admission: Pipeline,
    pub virtual_resources: Vec<Arc<dyn VirtualResources>>,
    pub service_cidrs: Vec<IpNetwork>,
    pub node_ports: RangeInclusive<u16>,
}

impl Core {
    /// The cache of a stored resource; 404 for what is not stored.
    pub fn cache(&self, resource: &Resource) -> Result<Arc<ResourceCache>, Status> {
        self.caches.cache(resource).ok_or_else(Status::page_not_found)
    }

    /// The cache of a stored resource with its actor.
    pub fn route(&self, resource: &Resource) -> Result<Route, Status> {
        self.caches.route(resource).ok_or_else(Status::page_not_found)
    }

    /// 403 unless `user` may do `verb` on `target`.
    pub fn authorize(&self, user: &UserInfo, target: &Target, verb: &str, name: &str) -> Result<(), Status> {
        let Some(authorizer) = self.authorizer.get() else { return Ok(()) };
        let attributes = Attributes {
            verb,
            resource: &target.resource.plural,
            subresource: &target.subresource,
            group: &target.resource.group,
            version: &target.version,
            namespace: &target.namespace,
            name,
            path: None,
        };
        match authorizer.authorize(user, &attributes) {
            Decision::Allow => Ok(()),
            Decision::Deny(why) | Decision::NoOpinion(why) => Err(forbidden(user, target, &attributes, &why)),
        }
    }

    /// One object as of now, past the cache where the cache may be behind.
    pub async fn read_live(&self, resource: &Resource, key: &ObjectKey) -> Result<Option<Arc<StoredObject>>, Status> {
        let (found, _) = self.store.get(&keys::object(&resource.storage_prefix, key), None).await.map_err(store_status)?;
        let object = found.map(|kv| StoredObject::new(kv.value, kv.mod_revision)).transpose();
        object.map(|object| object.map(Arc::new)).map_err(Status::internal)
    }
}

fn forbidden(user: &UserInfo, target: &Target, attributes: &Attributes<'_>, why: &str) -> Status {
    let resource = match &*target.subresource {
        "" => target.resource.plural.to_string(),
        subresource => format!("{}/{subresource}", target.resource.plural),
    };
    let scope = match attributes.namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let mut message = format!("User {:?} cannot {} resource {resource:?} in API group {:?} {scope}", user.name, attributes.verb, attributes.group);
    if !why.is_empty() {
        message = format!("{message}: {why}");
    }
    Status::forbidden(&target.group_resource(), attributes.name, message)
}

/// What a client sees of a failing store.
pub fn store_status(error: troupe_api::store::StoreError) -> Status {
    use troupe_api::store::StoreError;
    match error {
        StoreError::NoSpace => Status::new(507, troupe_api::Reason::Unknown, "the store has no space left: delete objects or make room on its disk"),
        StoreError::Unknown(_) => Status::timeout("the request did not complete in time, its outcome is unknown"),
        StoreError::Unavailable(why) => Status::unavailable(format!("the store is not available: {why}")),
        other => Status::internal(other),
    }
}

impl Listers for Core {
    fn get(&self, resource: &GroupResource, key: &ObjectKey) -> Option<Arc<StoredObject>> {
        let row = self.registry.load().by_resource(&resource.group, &resource.resource)?;
        self.caches.cache(&row)?.get(key)
    }

    fn list(&self, resource: &GroupResource, namespace: &str) -> Vec<Arc<StoredObject>> {
        let Some(row) = self.registry.load().by_resource(&resource.group, &resource.resource) else { return Vec::new() };
        let Some(cache) = self.caches.cache(&row) else { return Vec::new() };
        cache.load().scan(namespace, None).cloned().collect()
    }
}

#[async_trait]
impl Reads for Core {
    fn listers(&self) -> &dyn Listers {
        self
    }

    async fn live(&self, resource: &GroupResource, key: &ObjectKey) -> Result<Option<Arc<StoredObject>>, Status> {
        match self.registry.load().by_resource(&resource.group, &resource.resource) {
            Some(row) => self.read_live(&row, key).await,
            None => Ok(None),
        }
    }
}
