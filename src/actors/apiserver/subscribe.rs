//! Begins watches of a cache, patiently while it loads.

use std::time::Duration;

use troupe_api::{
    meta::{Cause, Revision},
    status::Status,
};

use super::cache::{NoSubscription, Route, Subscribe, Subscription};

/// How long a read waits for a revision that its caller names and this server has not seen yet.
pub(super) const WAIT_FRESH: Duration = Duration::from_secs(3);

const RETRY_SUBSCRIBE: Duration = Duration::from_millis(20);

/// Begins a watch, patiently while the cache loads; the inner error is the oldest revision to resume from.
pub(super) async fn subscribe(route: &Route, request: Subscribe) -> Result<Result<Subscription, Revision>, Status> {
    let deadline = tokio::time::Instant::now() + WAIT_FRESH;
    loop {
        match route.actor.ask(request.clone(), Cause::default()).await {
            Ok(Ok(subscription)) => return Ok(Ok(subscription)),
            Ok(Err(NoSubscription::TooOld(oldest))) => return Ok(Err(oldest)),
            // One that another took the place of answers no more.
            Ok(Err(NoSubscription::Loading)) | Err(_) if tokio::time::Instant::now() < deadline && !route.cache.has_ended() => {
                tokio::time::sleep(RETRY_SUBSCRIBE).await;
            }
            _ => return Err(Status::too_many_requests("the watch cache is loading, please try again", 1)),
        }
    }
}
