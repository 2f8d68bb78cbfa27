//! Creates that store nothing: reviews, and tokens of service accounts. Others answer them.

use std::sync::Arc;

use troupe_api::{
    service::{ApiReply, Body, Listers, ReplyBody},
    status::Status,
    stored::StoredObject,
};

use super::{Subresources, sent};
use crate::apiserver::{
    objects::{self, Decoded},
    options::VirtualRequest,
    writer::Writer,
};

/// The longest body: anybody with an account may ask about themselves, and no question is nearly as long as an object may be.
const LONGEST: usize = 128 << 10;

/// POST on a resource or subresource that is not stored.
pub async fn create(parts: &Subresources, writer: &Writer, body: Body) -> Result<ApiReply, Status> {
    if body.encoded_len() > LONGEST {
        return Err(Status::too_large(format!("limit is {LONGEST}")));
    }
    let parent = parent(parts, writer).await?;
    let Decoded { object: mut body, warnings } = sent(writer, body)?;
    // What is answered with its status is owned as if it were stored.
    objects::own_answered(writer, &mut body, parts.clock.now())?;
    parts.admit_sent(writer, &mut body).await?;
    for answers in &parts.virtual_resources {
        let request = VirtualRequest {
            user: writer.user.clone(),
            target: writer.target.clone(),
            body: body.clone(),
            parent: parent.clone(),
            listers: parts.listers.clone(),
            authorizer: parts.authorization.authorizer().cloned(),
            notices: writer.notices.clone(),
        };
        let told = answers.warnings(&request);
        if let Some(answer) = answers.create(request) {
            let warnings = warnings.into_iter().chain(told).collect();
            return Ok(ApiReply { warnings, ..ApiReply::created(ReplyBody::Tree(answer.await?)) });
        }
    }
    Err(Status::method_not_allowed("the server does not allow this method on the requested resource"))
}

/// The object whose subresource is addressed, which must exist. It is not decoded: it may be large, and few ask for more than who it is.
async fn parent(parts: &Subresources, writer: &Writer) -> Result<Option<Arc<StoredObject>>, Status> {
    let target = &writer.target;
    if target.subresource.is_empty() {
        return Ok(None);
    }
    if let Some(known) = parts.listers.get(&target.group_resource(), &target.key()) {
        return Ok(Some(known));
    }
    let found = parts.reader.read_live(&target.resource, &target.key()).await?;
    found.map(Some).ok_or_else(|| Status::not_found(&target.group_resource(), &target.name))
}
