//! What the pod's size is, and what is told of it.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodSpec};

use super::{Effect, Observed, PodMachine};
use crate::kubelet::{
    events::Note,
    resize::{Actuated, PodAllocation, message, operations::in_progress, pending::IN_PROGRESS},
    status::{ResizeProgress, ResizeStatus},
    worker::resize::SUBJECT,
};

/// What was told of a resize.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Told {
    /// The generation of the resize that is being carried out.
    pub generation: Option<i64>,
    pub error: Option<String>,
}

impl PodMachine {
    /// What is allocated to the pod, whose spec already says so.
    pub fn allocate(&mut self, allocation: Option<Arc<PodAllocation>>) {
        let newer = allocation.as_ref().map(|new| new.generation).filter(|new| self.allocation.as_ref().is_some_and(|old| old.generation < *new));
        if let Some(generation) = newer {
            // What failed before may succeed now.
            self.memory.failures.remove(SUBJECT);
            self.told = Told { generation: Some(generation), error: None };
        }
        self.allocation = allocation;
    }

    /// What the pod's cgroup and containers have now.
    pub fn sized(&mut self, actuated: Actuated) {
        self.memory.actuated = Some(actuated);
    }

    /// The resize that the API tells of goes on where a kubelet before left it.
    pub(super) fn resume_resize(&mut self, pod: &Pod) {
        let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
        let told = conditions.into_iter().flatten().find(|condition| condition.type_ == IN_PROGRESS);
        let generation = told.map(|condition| condition.observed_generation.or(pod.metadata.generation).unwrap_or(0));
        self.told = Told { generation, error: told.and_then(|condition| condition.message.clone()) };
    }

    /// What the status says of the pod's resize; events for what is new.
    pub(super) fn resize_status(&mut self, pod: &Pod, spec: &PodSpec, observed: &Observed, effects: &mut Vec<Effect>) -> ResizeStatus {
        if self.stopping.is_some() {
            self.told = Told::default();
            return ResizeStatus::default();
        }
        let replaced = observed
            .containers
            .iter()
            .any(|seen| self.memory.replacing.contains(&seen.id) && observed.newest(&seen.name).is_some_and(|newest| newest.id == seen.id));
        let under_way = replaced || self.memory.actuated.as_ref().is_some_and(|actuated| in_progress(pod, spec, observed, actuated));
        let latest = self.allocation.as_ref().map_or_else(|| pod.metadata.generation.unwrap_or(0), |allocation| allocation.generation);
        if under_way {
            self.told.generation.get_or_insert(latest);
        } else if let Some(generation) = std::mem::take(&mut self.told).generation {
            effects.push(Effect::Note(Note::normal("ResizeCompleted", message::completed(pod, generation))));
        }
        let error = self.memory.failures.get(SUBJECT).map(|failure| failure.message.clone());
        let progress = self.told.generation.map(|generation| {
            if let Some(error) = error.filter(|error| self.told.error.as_ref() != Some(error)) {
                effects.push(Effect::Note(Note::warning("ResizeError", message::failed(pod, generation, &error))));
                self.told.error = Some(error);
            }
            ResizeProgress { generation, error: self.told.error.clone() }
        });
        ResizeStatus { pending: self.allocation.as_ref().and_then(|allocation| allocation.pending.clone()), progress }
    }
}
