//! The service proxy: Services and EndpointSlices become packet filter rules on this node.

pub mod base;
pub mod endpoints;
pub mod ledger;
pub mod names;
pub mod plan;
pub mod service;

#[cfg(test)]
mod kernel_tests;
#[cfg(test)]
mod tests;
