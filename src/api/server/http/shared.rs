//! What the workers of a server share.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use troupe_api::encodings::Encodings;

use super::{
    connections::Connections,
    discovery::Discovery,
    limits::{Bodies, InFlight},
    openapi::OpenApi,
    options::HttpOptions,
};
use crate::underway::Underway;

/// What every worker shares.
pub struct Shared {
    pub options: HttpOptions,
    /// Whether answers are compressed for whoever takes that.
    pub compresses: bool,
    pub discovery: Discovery,
    pub openapi: Arc<OpenApi>,
    pub in_flight: InFlight,
    pub bodies: Bodies,
    /// Replies that wait for their clients.
    pub replies: Bodies,
    pub watches: Bodies,
    /// Streams to kubelets and pods.
    pub sessions: Bodies,
    pub connections: Connections,
    pub memos: Arc<Encodings>,
    pub lists: Underway,
    /// Cancelled when the server stops: ends watches.
    pub stopping: CancellationToken,
    /// Cancelled when connections go: at once, or when what was in work then is done.
    pub closing: CancellationToken,
}
