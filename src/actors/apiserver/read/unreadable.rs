//! Objects that lie in the store and cannot be read, such as those that no key opens any more: reads say so.

use bytes::Bytes;
use troupe_api::{
    meta::{ObjectKey, Revision},
    resources::Resource,
    status::{Reason, Status, StatusCause, StatusDetails},
};
use troupe_api_server::{
    encryption,
    store::{KeyValue, RangeRequest, keys},
};

use super::Reader;
use crate::apiserver::{cache::ResourceCache, store_status::store_status};

/// So many objects that cannot be read does a failed list name.
const MOST_NAMED: usize = 100;

impl Reader {
    /// The revision of an object that lies in the store and cannot be read; nothing where it can, or where there is none.
    pub async fn unreadable_live(&self, resource: &Resource, key: &ObjectKey) -> Result<Option<Revision>, Status> {
        let start = keys::object(&resource.storage_prefix, key);
        let end = Bytes::from([&start[..], &[0]].concat());
        // A range gives what no key opens as it lies there.
        let reply = self.store.range(RangeRequest { start, end, limit: 1, at: None }).await.map_err(store_status)?;
        let Some(KeyValue { value, mod_revision, .. }) = reply.items.into_iter().next() else { return Ok(None) };
        let is_unreadable = encryption::is_sealed(&value) || resource.read(value, mod_revision).is_err();
        Ok(is_unreadable.then_some(mod_revision))
    }

    /// Why an object cannot be read. Where it can by now, the cache begins anew.
    pub(super) async fn unreadable(&self, cache: &ResourceCache, key: &ObjectKey) -> Status {
        match self.read_live(&cache.resource, key).await {
            Err(status) => status,
            Ok(_) => read_again(cache),
        }
    }

    /// As upstream: one object that cannot be read fails a list. Whoever acts on it would take the object for gone.
    pub(super) async fn all_readable(&self, cache: &ResourceCache, namespace: &str) -> Result<(), Status> {
        if self.names_unreadable {
            return self.none_unreadable(cache, namespace).await;
        }
        let first = cache.load().first_unreadable(namespace).cloned();
        match first {
            Some(key) => Err(self.unreadable(cache, &key).await),
            None => Ok(()),
        }
    }

    /// The same where such objects can be deleted: the failure names them, so that somebody can (KEP-3926).
    async fn none_unreadable(&self, cache: &ResourceCache, namespace: &str) -> Result<(), Status> {
        let unreadable: Vec<ObjectKey> = cache.load().all_unreadable(namespace).take(MOST_NAMED + 1).cloned().collect();
        let mut causes = Vec::new();
        for key in unreadable.iter().take(MOST_NAMED) {
            match self.read_live(&cache.resource, key).await {
                Err(status) if status.reason == Reason::InternalError => {
                    let field = String::from_utf8_lossy(&keys::object(&cache.resource.storage_prefix, key)).into_owned();
                    causes.push(StatusCause { reason: "UnexpectedServerResponse".into(), message: status.message, field });
                }
                Err(status) => return Err(status),
                Ok(_) => return Err(read_again(cache)),
            }
        }
        if unreadable.len() > MOST_NAMED {
            let message = "too many errors, the list is truncated".into();
            causes.push(StatusCause { reason: "FieldValueTooMany".into(), message, field: String::new() });
        }
        if causes.is_empty() { Ok(()) } else { Err(storage_read_error(&cache.resource, causes)) }
    }
}

/// What cannot be read by the keys of before can be by those of now.
fn read_again(cache: &ResourceCache) -> Status {
    cache.load_again();
    let mut status = Status::unavailable("keys have changed, the resource is being read again");
    status.details.get_or_insert_default().retry_after_seconds = 1;
    status
}

/// 500 of a list, with a cause for each object that cannot be read.
fn storage_read_error(resource: &Resource, causes: Vec<StatusCause>) -> Status {
    let message = format!("failed to read one or more {} from the storage", resource.group_resource());
    let (group, kind) = (resource.group.to_string(), resource.plural.to_string());
    let details = StatusDetails { name: "list".into(), group, kind, causes, ..StatusDetails::default() };
    Status { details: Some(Box::new(details)), ..Status::new(500, Reason::StorageReadError, message) }
}
