//! Cluster network policies (`policy.networking.k8s.io/v1alpha2`): administrators' rules before and behind the network policies of namespaces.
//!
//! The kind is not built in: it is there when somebody installs its definition. Sources: the API's documentation
//! (<https://network-policy-api.sigs.k8s.io/api-overview/>), and the comments of its types.

mod parse;
pub mod types;
pub mod view;

#[cfg(test)]
mod tests;

pub use self::{
    parse::{Parsed, parse},
    types::ClusterNetworkPolicy,
    view::{Action, ClusterPolicyView, ClusterRule, HOME, Tier},
};
