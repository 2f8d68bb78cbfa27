//! Asks the authorizer on behalf of the edge.

use troupe_api::{
    auth::{Attributes, Authorizer, Decision, decide, forbidden},
    service::UserInfo,
    status::Status,
};

/// Checks that `user` may do what `attributes` say.
///
/// # Errors
/// 403 with upstream's text.
pub async fn authorize(authorizer: &dyn Authorizer, user: &UserInfo, attributes: &Attributes<'_>) -> Result<(), Status> {
    match decide(authorizer, user, attributes).await {
        Decision::Allow => Ok(()),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(forbidden(user, attributes, &reason)),
    }
}
