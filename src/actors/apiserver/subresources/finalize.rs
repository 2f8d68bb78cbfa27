//! `namespaces/finalize`: the only way to change a namespace's `spec.finalizers`.

use std::sync::Arc;

use troupe_api::{
    service::{ApiReply, Body},
    status::Status,
};

use crate::apiserver::{
    objects,
    write::{Change, Transform, WritePath, check_update},
    writer::Writer,
};

/// PUT of a Namespace: takes its finalizers and nothing else. When the last one of a terminating namespace goes, so does the namespace.
pub async fn update(path: &Arc<WritePath>, writer: &Writer, body: Body) -> Result<ApiReply, Status> {
    let decoded = objects::decode(&*objects::body_schema(&writer.target)?, body, writer.options.field_validation)?;
    let wanted = decoded.object;
    check_update(&writer.target, &wanted)?;
    let transform: Transform = Arc::new(move |namespace| {
        let mut new = namespace.clone();
        match wanted.list(&["spec", "finalizers"]) {
            [] => drop(new.remove(&["spec", "finalizers"])),
            finalizers => new.set(&["spec", "finalizers"], finalizers.to_vec()),
        }
        match wanted.resource_version() {
            "" => drop(new.remove(&["metadata", "resourceVersion"])),
            revision => new.set(&["metadata", "resourceVersion"], revision),
        }
        Ok(new)
    });
    path.update(writer, Change::Transform(transform), decoded.warnings).await
}
