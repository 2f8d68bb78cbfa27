//! Updates that bypass the kind's strategy: what upstream's subresource handlers write straight to storage.

use std::sync::Arc;

use troupe_api::{status::Status, stored::StoredObject};

use super::{Transform, WritePath};
use crate::apiserver::{
    commit::{CommitError, stored},
    writer::Writer,
};

impl WritePath {
    /// Writes what `transform` makes of the newest version, until a commit wins. Its errors end the loop.
    pub async fn update_raw(&self, writer: &Writer, transform: &Transform) -> Result<Arc<StoredObject>, Status> {
        let resource = &writer.target.resource;
        let key = writer.target.key();
        let mut current = self.reader.read_live(resource, &key).await?;
        loop {
            let Some(version) = current else { return Err(Status::not_found(&writer.target.group_resource(), &key.name)) };
            let mut new = transform(&version.to_object())?;
            new.remove(&["metadata", "resourceVersion"]);
            if writer.options.dry_run {
                return Ok(version);
            }
            match self.committer.update(resource, &new, version.revision, &writer.cause).await {
                Ok(written) => return Ok(written),
                Err(CommitError::Lost(newer)) => current = newer.map(|kv| stored(resource, kv)).transpose()?,
                Err(CommitError::Failed(status) | CommitError::Unclear(status)) => return Err(status),
            }
        }
    }
}
