//! The traced envelope that every message between units travels in, and the reply of a handler.

use std::time::Instant;

use actix::Message;
use futures::future::LocalBoxFuture;
use troupe_api::meta::Cause;

use super::recorder::Name;

/// A message with what led to it and when it was sent.
#[derive(Debug)]
pub struct Traced<M> {
    pub message: M,
    pub cause: Cause,
    /// The interned path of the sender; [`Name::OUTSIDE`] for code that is no unit.
    pub from: Name,
    pub enqueued: Instant,
}

impl<M> Traced<M> {
    pub fn new(message: M, cause: Cause, from: Name) -> Self {
        Traced { message, cause, from, enqueued: tokio::time::Instant::now().into_std() }
    }
}

impl<M: Message> Message for Traced<M> {
    type Result = M::Result;
}

/// What a handler answers: at once, or later from a future that the host guards.
pub enum Reply<R> {
    Now(R),
    Later(LocalBoxFuture<'static, R>),
}

impl<R> Reply<R> {
    /// An answer that a future gives. A panic in it restarts the unit; its asker sees a closed mailbox.
    pub fn later(future: impl Future<Output = R> + 'static) -> Self {
        Reply::Later(Box::pin(future))
    }
}

impl<R> From<R> for Reply<R> {
    fn from(value: R) -> Self {
        Reply::Now(value)
    }
}
