//! What comes next for a projection. Pure.
//!
//! A projection begins without anything, waits for its first certificate, has it until it is due for another, waits for that one with the old one
//! in hand, and so on. A signer that denies or fails a request ends it for good.

use std::{fmt, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1beta1::{PodCertificateRequest, PodCertificateRequestStatus};
use troupe_api::{certificates::cleaned_chain, meta::time::shifted};

use super::Bundle;
use crate::kubelet::events::Note;

/// A request that was made so long ago, and jitter, and does not show was deleted.
const ASSUME_DELETED: SignedDuration = SignedDuration::from_mins(10);
/// A certificate that was due for another one so long ago is overdue.
const OVERDUE: SignedDuration = SignedDuration::from_mins(10);
/// Certificates that were issued together are not due together: each is this much later at most.
pub const LONGEST_JITTER: SignedDuration = SignedDuration::from_mins(5);

/// A certificate that a pod has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub bundle: Arc<Bundle>,
    /// When to ask for another one.
    pub refresh_at: Timestamp,
    pub not_after: Timestamp,
    /// That it is overdue was told.
    pub told_overdue: bool,
    /// That it has ended was told.
    pub told_expired: bool,
}

/// A request that was made.
#[derive(Clone, PartialEq, Eq)]
pub struct Asked {
    /// The key that it is for, PEM.
    pub key: Arc<str>,
    /// The request's name.
    pub name: String,
    /// When one that does not show was deleted.
    pub abandon_at: Timestamp,
}

impl fmt::Debug for Asked {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("name", &self.name).field("abandon_at", &self.abandon_at).finish_non_exhaustive()
    }
}

/// How far a projection is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Initial,
    Waiting(Asked),
    Fresh(Certificate),
    Refreshing(Certificate, Asked),
    Denied { reason: String, message: String },
    Failed { reason: String, message: String },
}

impl State {
    /// What the volume is written of.
    ///
    /// # Errors
    /// Why there is nothing.
    pub fn bundle(&self) -> Result<Arc<Bundle>, String> {
        match self {
            State::Initial | State::Waiting(_) => Err("credential bundle is not issued yet".into()),
            State::Fresh(certificate) | State::Refreshing(certificate, _) => Ok(certificate.bundle.clone()),
            State::Denied { reason, message } => Err(format!("PodCertificateRequest was permanently denied: reason={reason:?} message={message:?}")),
            State::Failed { reason, message } => Err(format!("PodCertificateRequest was permanently failed: reason={reason:?} message={message:?}")),
        }
    }

    /// As metrics name it.
    pub fn label(&self, now: Timestamp) -> &'static str {
        match self {
            State::Initial | State::Waiting(_) => "not_yet_issued",
            State::Denied { .. } => "denied",
            State::Failed { .. } => "failed",
            State::Fresh(certificate) | State::Refreshing(certificate, _) if now > certificate.not_after => "expired",
            State::Fresh(certificate) | State::Refreshing(certificate, _) if certificate.is_overdue(now) => "overdue_for_refresh",
            State::Fresh(_) | State::Refreshing(..) => "fresh",
        }
    }

    /// The name of the request that it waits for.
    pub fn request(&self) -> Option<&str> {
        match self {
            State::Waiting(asked) | State::Refreshing(_, asked) => Some(&asked.name),
            _ => None,
        }
    }

    /// The state after a request was made for it at a time, by the name that it got.
    pub fn asked(self, key: Arc<str>, name: String, at: Timestamp, jitter: SignedDuration) -> State {
        let asked = Asked { key, name, abandon_at: shifted(at, ASSUME_DELETED + jitter) };
        match self {
            State::Fresh(certificate) | State::Refreshing(certificate, _) => State::Refreshing(certificate, asked),
            State::Initial | State::Waiting(_) | State::Denied { .. } | State::Failed { .. } => State::Waiting(asked),
        }
    }
}

impl Certificate {
    fn is_overdue(&self, now: Timestamp) -> bool {
        now > shifted(self.refresh_at, OVERDUE)
    }

    /// Tells once that it is overdue, and that it has ended.
    fn complain(&mut self, now: Timestamp, notes: &mut Vec<Note>) {
        if self.is_overdue(now) && !std::mem::replace(&mut self.told_overdue, true) {
            notes.push(Note::warning("CertificateOverdueForRefresh", "PodCertificate refresh overdue"));
        }
        if now > self.not_after && !std::mem::replace(&mut self.told_expired, true) {
            notes.push(Note::warning("CertificateExpired", "PodCertificate expired"));
        }
    }
}

/// What to do for a projection, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What to tell of the pod.
    pub notes: Vec<Note>,
    /// How far it is now.
    pub state: State,
    /// Whether to make a key and ask for a certificate.
    pub asks: bool,
}

/// Plans for a projection that is so far, whose request, where it waits for one, is as it is seen now. What is issued is due as late after the
/// signer's time as `jitter` says.
pub fn plan(state: State, request: Option<&PodCertificateRequest>, now: Timestamp, jitter: SignedDuration) -> Plan {
    let mut notes = Vec::new();
    let (state, asks) = match state {
        State::Initial => (State::Initial, true),
        State::Denied { .. } | State::Failed { .. } => (state, false),
        State::Fresh(certificate) if now < certificate.refresh_at => (State::Fresh(certificate), false),
        State::Fresh(mut certificate) => {
            certificate.complain(now, &mut notes);
            (State::Fresh(certificate), true)
        }
        State::Waiting(asked) => match request {
            None if now > asked.abandon_at => (State::Initial, true),
            None => (State::Waiting(asked), false),
            Some(request) => (verdict(request, &asked, jitter, &mut notes).unwrap_or(State::Waiting(asked)), false),
        },
        State::Refreshing(mut certificate, asked) => match request {
            None if now > asked.abandon_at => (State::Fresh(certificate), true),
            request => match request.and_then(|request| verdict(request, &asked, jitter, &mut notes)) {
                Some(state) => (state, false),
                None => {
                    certificate.complain(now, &mut notes);
                    (State::Refreshing(certificate, asked), false)
                }
            },
        },
    };
    Plan { notes, state, asks }
}

/// What the signer said; nothing while it has said nothing.
fn verdict(request: &PodCertificateRequest, asked: &Asked, jitter: SignedDuration, notes: &mut Vec<Note>) -> Option<State> {
    let status = request.status.as_ref()?;
    let known = |kind: &str| ["Denied", "Failed", "Issued"].contains(&kind);
    let condition = status.conditions.iter().flatten().find(|condition| known(&condition.type_))?;
    if condition.type_ == "Issued" {
        return issued(status, asked, jitter);
    }
    let (reason, message) = (condition.reason.clone(), condition.message.clone());
    let (is_denied, path) = (condition.type_ == "Denied", format!("{}/{}", request.metadata.namespace.as_deref().unwrap_or_default(), asked.name));
    let what = if is_denied { "was denied" } else { "failed" };
    let told = format!("PodCertificateRequest {path} {what}, reason={reason:?}, message={message:?}");
    notes.push(Note::warning(&condition.type_, told));
    Some(if is_denied { State::Denied { reason, message } } else { State::Failed { reason, message } })
}

/// What was issued. The API server lets nobody issue without all times.
fn issued(status: &PodCertificateRequestStatus, asked: &Asked, jitter: SignedDuration) -> Option<State> {
    let chain = cleaned_chain(status.certificate_chain.as_deref()?);
    Some(State::Fresh(Certificate {
        bundle: Arc::new(Bundle { key: asked.key.to_string(), chain }),
        refresh_at: shifted(status.begin_refresh_at.as_ref()?.0, jitter),
        not_after: status.not_after.as_ref()?.0,
        told_overdue: false,
        told_expired: false,
    }))
}
