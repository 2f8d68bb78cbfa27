//! Pods that end with their node.

use actix::Message;
use troupe_cri::names::PodIdentity;

use super::Pods;
use crate::{
    kubelet::{
        status::{Evicted, PodFailure, TERMINATED},
        worker::shell::FailPod,
    },
    runtime::{
        envelope::Reply,
        host::{On, UnitContext},
    },
};

const MESSAGE: &str = "Pod was terminated in response to imminent node shutdown.";

/// The machine shuts down, and a pod has so many seconds to end before.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Terminate {
    pub id: PodIdentity,
    pub grace: u64,
}

impl On<Terminate> for Pods {
    fn on(&mut self, terminate: Terminate, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        if let Some((_, worker)) = self.workers.get(&terminate.id.uid) {
            let evicted = Some(Evicted { disruption: true, grace: terminate.grace, stays: true });
            let failure = PodFailure { reason: TERMINATED.to_owned(), message: MESSAGE.to_owned(), rejected: false, evicted };
            cx.reach(worker).wake(FailPod(failure), cx.cause().clone());
        }
        Reply::Now(())
    }
}
