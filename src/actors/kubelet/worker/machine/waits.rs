//! What is told of containers that wait before something is tried again, once for each wait.

use std::collections::BTreeMap;

use troupe_cri::names::PodIdentity;

use super::{Effect, Observed, PodMachine, Waiting};
use crate::kubelet::{
    events::{ContainerField, Note},
    worker::ephemeral::find_any,
};

impl PodMachine {
    /// Events when containers begin to wait after a crash or a failed pull.
    pub(super) fn note_waits(&mut self, waiting: &BTreeMap<String, Waiting>, observed: &Observed, effects: &mut Vec<Effect>) {
        for (name, waiting) in waiting {
            let known = match waiting.reason.as_str() {
                "CrashLoopBackOff" => observed.newest(name).map(|seen| (seen.id.clone(), vec![self.crashed(name)])),
                "ImagePullBackOff" => self.memory.failures.get(name).map(|failure| (format!("pull {}", failure.since), self.not_pulled(name))),
                _ => None,
            };
            let Some((wait, notes)) = known else { continue };
            if self.waits.get(name) == Some(&wait) {
                continue;
            }
            self.waits.insert(name.clone(), wait);
            let spec = self.pod.as_ref().and_then(|pod| pod.spec.as_ref());
            let field = spec.map(|spec| ContainerField::of(spec, name));
            effects.extend(notes.into_iter().map(|note| Effect::Note(note.about(field.clone()))));
        }
    }

    fn crashed(&self, name: &str) -> Note {
        let PodIdentity { namespace, name: pod, uid } = &self.id;
        Note::warning("BackOff", format!("Back-off restarting failed container {name} in pod {pod}_{namespace}({uid})"))
    }

    /// As upstream tells both of its image manager and of the start that came to nothing.
    fn not_pulled(&self, name: &str) -> Vec<Note> {
        let container = self.pod.as_ref().and_then(|pod| find_any(pod.spec.as_ref()?, name));
        let image = container.and_then(|container| container.image.clone()).unwrap_or_default();
        vec![Note::normal("BackOff", format!("Back-off pulling image \"{image}\"")), Note::warning("Failed", "Error: ImagePullBackOff")]
    }
}
