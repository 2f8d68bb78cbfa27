//! The links between the node and its pods: each a wire of its own, so that what one pod says no other hears but over the node, by addresses that
//! policies know, and the node believes of each that it has its own addresses only.
//!
//! The plugins make the node's end a port of a bridge, where a pod could talk to the others below IP: by link-local addresses and broadcasts,
//! with answers to ARP and neighbour discovery and with router advertisements that are not its to give. Isolated ports would end that, but what
//! is translated (a Service) to a pod of the same bridge is bridged there, not routed, as long as bridged packets meet the packet filter
//! (`br_nf_pre_routing_finish` in Linux), and would be dropped. So as soon as a sandbox is there its link leaves the bridge: the node's end has
//! the gateway's addresses, the node has a route to each address of the pod, and the pod none to its neighbours but over the gateway. Nothing in
//! the pod has run by then. Rules drop what comes from a link with another source address.
//!
//! In come what the plugins and the runtime wrote down of sandboxes; out go links, routes, settings and rules. Nothing else is remembered: all is
//! made again from that when the daemon starts, and looked after from then on ([`HostPodLinks::keep`]).

mod host;
mod plan;

use std::io;

use async_trait::async_trait;
use parking_lot::Mutex;

pub use self::{
    host::HostPodLinks,
    plan::{PodAddress, PodLink, SOURCES},
};
use super::CniError;
use crate::{iptables::IptablesError, netlink::NetlinkError};

/// Why a pod's link is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum PodLinkError {
    #[error("what the network plugins wrote down cannot be read: {0}")]
    Read(io::Error),
    #[error("the runtime remembers no link of the sandbox {0}")]
    Unknown(String),
    #[error("{path} cannot be written: {source}")]
    Setting { path: String, source: io::Error },
    #[error("the network of the pod cannot be entered: {0}")]
    Namespace(io::Error),
    #[error("the pod's link cannot be set up: {}", reasons(.0))]
    Netlink(#[from] NetlinkError),
    #[error("the source addresses of pods are not guarded: {}", reasons(.0))]
    Filter(#[from] IptablesError),
    #[error(transparent)]
    Configuration(#[from] CniError),
}

/// What failed, and why.
fn reasons(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", reasons(source)),
        None => error.to_string(),
    }
}

/// Makes links of pods what they have to be before anything runs in them.
#[async_trait]
pub trait PodLinks: Send + Sync + 'static {
    /// Sets the link of a sandbox up. One that our plugins gave no address (of a pod in the node's network, or of a foreign pod network) is
    /// left alone.
    ///
    /// # Errors
    /// The sandbox must not be used then.
    async fn connect(&self, sandbox: &str) -> Result<(), PodLinkError>;

    /// The network plugin for want of which nothing limits what pods send and receive; `None` where it is there, or the network is not ours.
    fn lacks_limits(&self) -> Option<&'static str> {
        None
    }
}

/// Of a node whose pods have no links of ours.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPodLinks;

#[async_trait]
impl PodLinks for NoPodLinks {
    async fn connect(&self, _: &str) -> Result<(), PodLinkError> {
        Ok(())
    }
}

/// Remembers which sandboxes it was asked for.
#[derive(Debug, Default)]
pub struct FakePodLinks {
    state: Mutex<(Vec<String>, usize)>,
    /// Links are not limited for want of this plugin.
    lacks: Option<&'static str>,
}

impl FakePodLinks {
    /// Of a network that lacks this plugin.
    pub fn without(plugin: &'static str) -> Self {
        FakePodLinks { lacks: Some(plugin), ..FakePodLinks::default() }
    }

    /// Makes the next `count` links fail.
    pub fn fail_next(&self, count: usize) {
        self.state.lock().1 = count;
    }

    /// The sandboxes whose links were set up, in order.
    pub fn connected(&self) -> Vec<String> {
        self.state.lock().0.clone()
    }
}

#[async_trait]
impl PodLinks for FakePodLinks {
    async fn connect(&self, sandbox: &str) -> Result<(), PodLinkError> {
        let mut state = self.state.lock();
        if state.1 > 0 {
            state.1 -= 1;
            return Err(PodLinkError::Unknown(sandbox.to_owned()));
        }
        state.0.push(sandbox.to_owned());
        Ok(())
    }

    fn lacks_limits(&self) -> Option<&'static str> {
        self.lacks
    }
}
