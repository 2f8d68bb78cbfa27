//! Sends spans to a collector: OTLP over gRPC, without TLS, as upstream's components do.
//!
//! Spans come in by a [`Tracer`](troupe_api::spans::Tracer)'s queue and are sent in batches. A collector that is away, or has no room, is asked
//! again after pauses that become longer, for about a minute; then the batch is dropped and counted. Nobody waits for it: what the queue has no
//! room for meanwhile is dropped by who makes it.

mod exporter;
pub mod proto;
mod request;

pub use exporter::Exporter;
