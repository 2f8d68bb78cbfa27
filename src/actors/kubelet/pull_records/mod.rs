//! Who pulled the images of this node: whoever wants one that is here already must have the right credentials for it (KEP-2535).
//!
//! A pull is noted before it begins, and what it was pulled with once it is over (`files`). An image of which nothing is known was
//! there before: it is preloaded. Whether that matters is the [`policy`]; what credentials grant is in [`record`].

mod files;
pub mod metrics;
pub mod policy;
pub mod record;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use jiff::Timestamp;
use parking_lot::Mutex;
use troupe_api::meta::Clock;
use troupe_cri::Runtime;

use self::{files::Files, metrics::Checked, record::ImagePulledRecord};
pub use self::{
    policy::{Policy, Verification},
    record::{Access, ImagePullCredentials},
};
use super::{
    credentials::Credential,
    images::{canonical, without_tag},
};
use crate::files::blocking;

/// Names of images whose pulls were broken off that are remembered at most.
const MOST_BROKEN: usize = 1000;

/// Whether a pod may use an image that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    Allowed,
    /// Not before it is pulled again.
    Refused,
    /// When it has one of these.
    Restricted(ImagePullCredentials),
}

/// See the module.
pub struct PullRecords {
    verification: Verification,
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

struct State {
    files: Files,
    pulls: BTreeMap<String, Pull>,
}

/// Pulls of one name.
struct Pull {
    /// Who pulls has it, too.
    shared: Arc<Shared>,
    /// The image that had the name before.
    before: Option<String>,
}

/// What pulls of one name share.
#[derive(Default)]
struct Shared {
    /// One was broken off: the runtime may have brought it to an end nevertheless.
    broken: AtomicBool,
}

impl PullRecords {
    /// Keeps them below the kubelet's directory.
    pub fn new(root: &Path, verification: Verification, clock: Arc<dyn Clock>) -> Self {
        PullRecords { verification, clock, state: Arc::new(Mutex::new(State { files: Files::new(root), pulls: BTreeMap::new() })) }
    }

    /// Takes in what pulls of a process before this one came to: nobody knows what they were made with.
    pub async fn recover(&self, runtime: &dyn Runtime) {
        for image in self.with(|state| state.files.intents()).await {
            let Ok(name) = canonical(&image) else { continue };
            match runtime.image_status(&name).await {
                Ok(Some(found)) => self.note(image, found.id, None).await,
                // It may be under way yet.
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, image, "what its pull came to is not known"),
            }
        }
    }

    /// Whether a pod may use the image `image_ref`, which its spec calls `image`. A record that cannot be read says nothing: the image is to
    /// be pulled again, which writes it anew.
    pub async fn check(&self, image: &str, image_ref: &str) -> Check {
        let (check, outcome) = self.look(image, image_ref).await;
        outcome.into_iter().for_each(metrics::checked);
        check
    }

    /// The same, with what is counted of it: nothing yet where it depends on what the pod has.
    async fn look(&self, image: &str, image_ref: &str) -> (Check, Option<Checked>) {
        if self.verification.policy == Policy::NeverVerify {
            return (Check::Allowed, Some(Checked::Policy));
        }
        let (name, reference) = (image.to_owned(), image_ref.to_owned());
        let (record, is_pulled) = self.with(move |state| (state.files.record(&reference), state.is_pulled(&name, &reference))).await;
        let is_readable = record.is_ok();
        let record = record.unwrap_or_else(|why| {
            tracing::warn!(why, image, image_ref, "the record of a pulled image cannot be read");
            Some(ImagePulledRecord::new(image_ref, self.clock.now()))
        });
        if !self.verification.is_wanted(image, record.is_some() || is_pulled) {
            return (Check::Allowed, Some(Checked::Policy));
        }
        let known = record.and_then(|mut record| record.credential_mapping.remove(without_tag(image))).unwrap_or_default();
        if known.node_pods_accessible {
            (Check::Allowed, Some(Checked::Record))
        } else if known == ImagePullCredentials::default() {
            (Check::Refused, Some(if is_readable { Checked::Unknown } else { Checked::Failed }))
        } else {
            (Check::Restricted(known), None)
        }
    }

    /// Notes further credentials for an image that is here.
    pub async fn learn(&self, image: &str, image_ref: &str, learnt: ImagePullCredentials) {
        let (name, reference, now) = (without_tag(image).to_owned(), image_ref.to_owned(), self.clock.now());
        let noted = self.with(move |state| state.files.merge(&reference, &name, Some(&learnt), now)).await;
        if let Err(error) = noted {
            tracing::warn!(%error, image, "a credential for a pulled image is not noted");
        }
    }

    /// Notes that a pull begins. `before` is the image that has the name now.
    ///
    /// # Errors
    /// When the disk does not take it: what was pulled would count as preloaded.
    pub async fn begin(&self, image: &str, before: Option<&str>) -> io::Result<Intent<'_>> {
        let (name, before) = (image.to_owned(), before.map(str::to_owned));
        let shared = self.with(move |state| state.begin(name, before)).await?;
        Ok(Intent { records: self, image: image.to_owned(), shared: Some(shared) })
    }

    /// Drops the records of images that are not there any more, but for those that were written since they were listed.
    pub async fn prune(&self, present: Vec<String>, listed: Timestamp) {
        self.with(move |state| state.files.prune(&present, listed)).await;
    }

    /// Drops the record of an image that was removed, unless it was pulled again since `asked`.
    pub async fn forget(&self, image_ref: &str, asked: Timestamp) {
        let reference = image_ref.to_owned();
        self.with(move |state| state.files.forget(&reference, asked)).await;
    }

    /// Notes that an image was pulled, and with what; `None` where nobody knows.
    async fn note(&self, image: String, image_ref: String, credentials: Option<ImagePullCredentials>) {
        let (now, name) = (self.clock.now(), image.clone());
        let noted = self.with(move |state| {
            state.files.merge(&image_ref, without_tag(&image), credentials.as_ref(), now)?;
            state.end(&image, true)
        });
        if let Err(error) = noted.await {
            // That it was to be pulled stays known: it does not count as preloaded.
            tracing::error!(%error, image = name, "a pulled image is not noted");
        }
    }

    async fn with<T: Send + 'static>(&self, work: impl FnOnce(&mut State) -> T + Send + 'static) -> T {
        let state = self.state.clone();
        blocking(move || work(&mut state.lock())).await
    }
}

impl State {
    fn begin(&mut self, image: String, before: Option<String>) -> io::Result<Arc<Shared>> {
        if self.pulls.len() >= MOST_BROKEN {
            // What is on disk stays: the image counts as pulled.
            self.pulls.retain(|_, pull| Arc::strong_count(&pull.shared) > 1);
        }
        self.files.write_intent(&image)?;
        let pull = self.pulls.entry(image).or_insert_with(|| Pull { shared: Arc::default(), before });
        Ok(pull.shared.clone())
    }

    /// A pull is over, and nobody else's of this name is under way any more. One that was broken off stays noted until another succeeds.
    fn end(&mut self, image: &str, succeeded: bool) -> io::Result<()> {
        let goes_on = |pull: &Pull| Arc::strong_count(&pull.shared) > 1 || (!succeeded && pull.shared.broken.load(Ordering::Relaxed));
        if self.pulls.get(image).is_some_and(goes_on) {
            return Ok(());
        }
        self.files.remove_intent(image)?;
        self.pulls.remove(image);
        Ok(())
    }

    /// Whether an image may have come by a pull that is under way or was broken off.
    fn is_pulled(&self, image: &str, image_ref: &str) -> bool {
        let was_there = self.pulls.get(image).is_some_and(|pull| pull.before.as_deref() == Some(image_ref));
        !was_there && self.files.has_intent(image)
    }
}

/// A pull that is under way. One that is dropped was broken off.
#[must_use]
pub struct Intent<'a> {
    records: &'a PullRecords,
    image: String,
    shared: Option<Arc<Shared>>,
}

impl Intent<'_> {
    /// It brought an image, with a credential or without.
    pub async fn pulled(mut self, image_ref: &str, credential: Option<&Credential>) {
        self.shared = None;
        let credentials = ImagePullCredentials::of(credential);
        self.records.note(self.image.clone(), image_ref.to_owned(), Some(credentials)).await;
    }

    /// It brought nothing.
    pub async fn failed(mut self) {
        self.shared = None;
        let image = self.image.clone();
        if let Err(error) = self.records.with(move |state| state.end(&image, false)).await {
            tracing::warn!(%error, image = self.image, "that its pull failed is not noted");
        }
    }
}

impl Drop for Intent<'_> {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.broken.store(true, Ordering::Relaxed);
        }
    }
}
