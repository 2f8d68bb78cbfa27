//! The writes that webhooks kept from happening lately, so that people find out what is in an object's way.
//!
//! A client hears of it once, a controller tells in an event at best; who asks later, asks here (`troupe why`).

use std::collections::{HashMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde::Serialize;
use troupe_api::{meta::Object, status::Status};

use super::{configuration::Hook, failure::Failure};
use crate::admission::Attributes;

/// Refusals that are kept, of all namespaces together, and for how long.
const MOST: usize = 256;
const KEPT: SignedDuration = SignedDuration::from_mins(15);
/// Bytes of what is said that are kept.
const LONGEST: usize = 1 << 10;

/// What was refused, and by whom.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refused {
    /// `ValidatingWebhookConfiguration` or `MutatingWebhookConfiguration`.
    pub configuration_kind: &'static str,
    pub configuration: String,
    pub webhook: String,
    pub operation: &'static str,
    pub kind: String,
    pub subresource: String,
    pub namespace: String,
    /// Empty where it was to be generated.
    pub name: String,
    /// What a generated name begins with.
    pub generate_name: String,
    /// Kind and name of the controller that the object belongs to.
    pub owner: Option<(String, String)>,
}

/// A refusal, as often as it happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Refusal {
    #[serde(flatten)]
    pub refused: Refused,
    /// The webhook did not say no: it could not be asked, or said nothing that can be used.
    pub failed: bool,
    pub message: String,
    pub count: u64,
    pub last: Timestamp,
}

/// See the module. Shared by all webhooks of a server.
#[derive(Debug, Default)]
pub struct Refusals(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    known: HashMap<Refused, Refusal>,
    /// Each once, by when it came first.
    order: VecDeque<Refused>,
}

impl Refusals {
    /// Notes that a request fails by a webhook of a configuration of this kind.
    pub(super) fn note(&self, hook: &Hook, kind: &'static str, request: &Attributes<'_>, failed: bool, status: &Status) {
        if request.dry_run {
            return;
        }
        let now = request.reads.clock().now();
        let (refused, message) = (refused(hook, kind, request), beginning(&status.message).to_owned());
        self.0.lock().note(refused, failed, message, now);
    }

    /// Those of the last minutes, the newest first. Older ones are forgotten.
    pub fn recent(&self, now: Timestamp) -> Vec<Refusal> {
        let mut kept = self.0.lock();
        let Kept { known, order } = &mut *kept;
        known.retain(|_, refusal| now.duration_since(refusal.last) < KEPT);
        order.retain(|refused| known.contains_key(refused));
        let mut recent: Vec<Refusal> = known.values().cloned().collect();
        drop(kept);
        recent.sort_by(|one, other| other.last.cmp(&one.last).then_with(|| one.refused.name.cmp(&other.refused.name)));
        recent
    }
}

impl Kept {
    fn note(&mut self, refused: Refused, failed: bool, message: String, now: Timestamp) {
        let count = self.known.get(&refused).map_or(0, |known| known.count) + 1;
        if count == 1 {
            self.order.push_back(refused.clone());
        }
        self.known.insert(refused.clone(), Refusal { refused, failed, message, count, last: now });
        while self.order.len() > MOST {
            let Some(superfluous) = superfluous(&self.order).and_then(|at| self.order.remove(at)) else { return };
            self.known.remove(&superfluous);
        }
    }
}

/// Where the one is that is forgotten for others: the oldest of the namespace that has most, so that no namespace pushes out another's. Pure.
fn superfluous(order: &VecDeque<Refused>) -> Option<usize> {
    let mut counts = HashMap::<&str, usize>::new();
    for refused in order {
        *counts.entry(&refused.namespace).or_default() += 1;
    }
    let most = counts.values().copied().max()?;
    order.iter().position(|refused| counts.get(refused.namespace.as_str()) == Some(&most))
}

/// Whether a request fails because of the webhook's state, and not by its decision.
pub(super) fn is_failure(failure: &Failure) -> bool {
    !matches!(failure, Failure::Denied(_))
}

fn refused(hook: &Hook, kind: &'static str, request: &Attributes<'_>) -> Refused {
    let object = request.object().or(request.old);
    let text = |path: &[&str]| object.map_or("", |object| object.str(path)).to_owned();
    // What never came into being is not known by the name that was generated for it; many tries are one.
    let generate_name = if request.target.name.is_empty() { text(&["metadata", "generateName"]) } else { String::new() };
    let name = match (request.target.name.is_empty(), generate_name.is_empty()) {
        (false, _) => request.target.name.to_string(),
        (true, true) => text(&["metadata", "name"]),
        (true, false) => String::new(),
    };
    Refused {
        configuration_kind: kind,
        configuration: hook.configuration.clone(),
        webhook: hook.name.clone(),
        operation: request.operation.upper(),
        kind: request.target.resource.kind.to_string(),
        subresource: request.target.subresource.to_string(),
        namespace: request.target.namespace.to_string(),
        name,
        generate_name,
        owner: object.and_then(controller),
    }
}

fn controller(object: &Object) -> Option<(String, String)> {
    let owners = object.list(&["metadata", "ownerReferences"]);
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    Some((owner["kind"].as_str()?.to_owned(), owner["name"].as_str()?.to_owned()))
}

/// As much of a text as is kept.
fn beginning(text: &str) -> &str {
    let mut end = text.len().min(LONGEST);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(namespace: &str, name: String) -> Refused {
        Refused {
            configuration_kind: "ValidatingWebhookConfiguration",
            configuration: "guard".into(),
            webhook: "a.example.com".into(),
            operation: "CREATE",
            kind: "Pod".into(),
            subresource: String::new(),
            namespace: namespace.into(),
            name,
            generate_name: String::new(),
            owner: None,
        }
    }

    #[test]
    fn many_refusals_in_one_namespace_push_out_none_of_another() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let mut kept = Kept::default();
        kept.note(pod("quiet", "one".into()), false, "no".into(), now);
        for number in 0..2 * MOST {
            kept.note(pod("loud", number.to_string()), false, "no".into(), now);
        }
        assert_eq!((kept.known.len(), kept.order.len()), (MOST, MOST));
        assert!(kept.known.contains_key(&pod("quiet", "one".into())));
        assert!(kept.known.contains_key(&pod("loud", (2 * MOST - 1).to_string())), "the newest stay");
        assert!(!kept.known.contains_key(&pod("loud", "0".into())));
    }
}
