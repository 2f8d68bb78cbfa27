//! The cluster's names: which records follow from Services, EndpointSlices and Namespaces, and how a query is
//! answered from them. Pure; sockets, watches and forwarding belong to the DNS server.
//!
//! Names follow Kubernetes' DNS specification 1.1.0: `SERVICE.NS.svc.DOMAIN`, `_PORT._PROTO.SERVICE.NS.svc.DOMAIN`,
//! `HOST.SERVICE.NS.svc.DOMAIN` for headless Services, `1-2-3-4.NS.pod.DOMAIN`, reverse names and `dns-version.DOMAIN`.

mod answer;
pub mod cluster_addresses;
mod decode;
pub mod domain_names;
mod index;
pub mod view;
mod zone;

#[cfg(test)]
mod tests;

pub use answer::{Answer, answer, servfail, truncated};
pub use decode::{decode, decode_query};
pub use index::Index;
pub use zone::{Lookup, Zone};
