//! The deletion of an object that lies in the store and cannot be read (KEP-3926): no key opens it, or it does not decode.
//!
//! Nobody knows what it is: no admission plugin is asked, no precondition or finalizer counts, and what it held (addresses, ports) is found
//! by whoever repairs that. Who asks needs a right of its own, and the audit event tells of it.

use serde_json::json;
use troupe_api::{
    service::{ApiReply, ReplyBody},
    status::{FieldError, Status},
};

use super::WritePath;
use crate::apiserver::{commit::CommitError, writer::Writer};

const OPTION: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";
const ANNOTATION: &str = "apiserver.k8s.io/unsafe-delete-ignore-read-error";

/// Why a collection is not deleted so.
pub(super) fn not_of_collections() -> FieldError {
    FieldError::invalid(OPTION, true, "is not allowed with DELETECOLLECTION, try again after removing the option")
}

impl WritePath {
    /// Deletes what cannot be read. What can be is deleted as all else, so that asking for this is an error.
    pub(super) async fn delete_unreadable(&self, writer: &Writer) -> Result<ApiReply, Status> {
        writer.notices.annotate(ANNOTATION, "");
        self.authorization.authorize_unsafe_delete(&writer.user, &writer.target).await?;
        let (resource, key) = (&writer.target.resource, writer.target.key());
        let Some(revision) = self.reader.unreadable_live(resource, &key).await? else {
            let why = "is exclusively used to delete corrupt object(s), try again by removing this option";
            return Err(Status::invalid(&resource.group, &resource.plural, &key.name, vec![FieldError::invalid(OPTION, true, why)]));
        };
        match self.committer.delete(resource, &key, revision, &writer.cause).await {
            Ok(_) => {}
            // It may be another object by now, which can be read.
            Err(CommitError::Lost(_)) => return Err(Status::modified(&writer.target.group_resource(), &key.name)),
            Err(CommitError::Failed(status) | CommitError::Unclear(status)) => return Err(status),
        }
        tracing::warn!(resource = %writer.target.group_resource(), %key, user = writer.user.name, "deleted an object that cannot be read");
        let details = json!({"name": &*key.name, "kind": &*resource.kind});
        Ok(ApiReply::ok(ReplyBody::Success { details }))
    }
}
