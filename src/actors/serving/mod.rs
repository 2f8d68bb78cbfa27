//! HTTPS servers of daemons beside the API's own: who asks, may they, and the listening itself.
//!
//! The kubelet's server and that of a control plane without an API server are made of this. Clients come with a certificate
//! or a bearer token, as to the API server.

mod delegate;
mod gate;
mod listen;
mod replies;

pub use delegate::DelegatingGate;
pub use gate::{Gate, LocalGate, Refused, identify};
pub use listen::{Client, Handler, ServerHandle, serve};
pub use replies::{Body, document, streaming, text, whole};
