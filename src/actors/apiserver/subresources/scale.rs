//! The `scale` subresource.

use troupe_api::{
    service::{ApiReply, Target},
    status::Status,
    stored::StoredObject,
};

/// The Scale of a workload.
pub fn get(target: &Target, object: &StoredObject) -> Result<ApiReply, Status> {
    let _ = (target, object);
    Err(Status::page_not_found())
}
