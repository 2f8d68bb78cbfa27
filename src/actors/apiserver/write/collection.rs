//! Deletecollection: every object that a list selects is deleted on its own.

use std::sync::Arc;

use futures::{StreamExt, stream};
use troupe_api::{
    features::ALLOW_UNSAFE_MALFORMED_OBJECT_DELETION,
    service::{ApiReply, DeleteOptions, ListOptions, ReplyBody, Target},
    status::Status,
    stored::StoredObject,
};

use super::{WritePath, delete::deletion_warning, unreadable::not_of_collections};
use crate::apiserver::writer::Writer;

/// Deletions in flight at one time.
const WORKERS: usize = 16;

impl WritePath {
    /// Deletes what `list` selects. Objects that go meanwhile do not matter; the first other failure ends it.
    pub async fn delete_collection(&self, writer: &Writer, delete: &DeleteOptions, list: &ListOptions) -> Result<ApiReply, Status> {
        delete.validate()?;
        if delete.ignore_store_read_error && self.features.is_on(ALLOW_UNSAFE_MALFORMED_OBJECT_DELETION) {
            return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", vec![not_of_collections()]));
        }
        let listed = self.reader.list(&writer.target, list).await?;
        let mut deletions = stream::iter(listed.items.clone()).map(|object| self.delete_one(writer, delete, object)).buffer_unordered(WORKERS);
        while let Some(result) = deletions.next().await {
            match result {
                Err(status) if !status.is_not_found() => return Err(status),
                _ => {}
            }
        }
        drop(deletions);
        let mut reply = ApiReply::ok(ReplyBody::List(listed));
        reply.warnings.extend(deletion_warning(&writer.target.resource, delete));
        Ok(reply)
    }

    async fn delete_one(&self, writer: &Writer, options: &DeleteOptions, object: Arc<StoredObject>) -> Result<(), Status> {
        let target = Target { namespace: object.key.namespace.clone(), name: object.key.name.clone(), ..writer.target.clone() };
        let writer = Writer { target, ..writer.clone() };
        self.delete_selected(&writer, options).await.map(drop)
    }
}
