//! Creates, updates and patches by what they address: the object itself, a subresource, or nothing that is stored.

pub mod scale;

use bytes::Bytes;
use troupe_api::{
    service::{ApiReply, Body, PatchType},
    status::Status,
};

use super::{
    core::Core,
    write::{Change, Writer},
};

/// POST.
pub async fn create(core: &Core, writer: Writer, body: Body) -> Result<ApiReply, Status> {
    match &*writer.target.subresource {
        "" => core.create(&writer, body).await,
        _ => Err(Status::method_not_allowed("the server does not allow this method on the requested resource")),
    }
}

/// PUT.
pub async fn update(core: &Core, writer: Writer, body: Body) -> Result<ApiReply, Status> {
    core.put(&writer, body).await
}

/// PATCH.
pub async fn patch(core: &Core, writer: Writer, patch_type: PatchType, patch: Bytes) -> Result<ApiReply, Status> {
    core.update(&writer, Change::Patch { patch_type, patch }, Vec::new()).await
}
