//! Errors of the store as clients see them.

use troupe_api::status::{Reason, Status};
use troupe_api_server::store::StoreError;

/// What a client sees of a failing store.
pub fn store_status(error: StoreError) -> Status {
    match error {
        StoreError::NoSpace => Status::new(507, Reason::Unknown, "the store has no space left: delete objects or make room on its disk"),
        StoreError::Unknown(_) => Status::timeout("the request did not complete in time, its outcome is unknown"),
        StoreError::Unavailable(why) => not_done(format!("the store is not available: {why}")),
        StoreError::TooLarge(why) => Status::too_large(why),
        other => Status::internal(other),
    }
}

/// Nothing was done: clients try again when they are told so.
fn not_done(why: String) -> Status {
    let mut status = Status::unavailable(why);
    status.details.get_or_insert_default().retry_after_seconds = 1;
    status
}
