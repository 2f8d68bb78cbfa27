//! Recent changes of one resource, from which watches resume.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use imbl::Vector;
use troupe_api::{
    meta::{Cause, Revision},
    resources::{Feature, Resource},
    stored::StoredObject,
};

/// The part of the usual bytes for a history that is to be short. Whoever resumes before it is told from the store.
const SHORT: usize = 4;

/// One change: what the object was before and is now. At least one of the two is there.
#[derive(Clone, Debug)]
pub struct Change {
    pub revision: Revision,
    pub previous: Option<Arc<StoredObject>>,
    pub current: Option<Arc<StoredObject>>,
    pub cause: Cause,
}

impl Change {
    fn bytes(&self) -> usize {
        // Itself, and the version that its cause names.
        const OVERHEAD: usize = 256;
        // The current version is shared with the snapshot; what history costs is the version it keeps alive.
        OVERHEAD + self.previous.as_ref().map_or(0, |object| object.footprint())
    }
}

/// Changes in revision order, at least five minutes of them unless they exceed the byte budget.
#[derive(Debug)]
pub struct History {
    changes: Vector<(Instant, Change)>,
    /// Changes behind this revision are all here.
    complete_after: Revision,
    bytes: usize,
    max_bytes: usize,
    keep: Duration,
}

impl History {
    pub fn new(complete_after: Revision, max_bytes: usize, keep: Duration) -> Self {
        History { changes: Vector::new(), complete_after, bytes: 0, max_bytes, keep }
    }

    /// The same of a resource, where `max_bytes` is what most may keep.
    pub fn of(resource: &Resource, complete_after: Revision, max_bytes: usize, keep: Duration) -> Self {
        let part = if resource.has(Feature::ShortHistory) { SHORT } else { 1 };
        History::new(complete_after, max_bytes / part, keep)
    }

    pub fn push(&mut self, change: Change, now: Instant) {
        self.bytes += change.bytes();
        self.changes.push_back((now, change));
        self.forget_old(now);
    }

    /// Lets go of what is too old, or too much.
    pub fn forget_old(&mut self, now: Instant) {
        while let Some((since, oldest)) = self.changes.front() {
            if self.bytes <= self.max_bytes && now.saturating_duration_since(*since) <= self.keep {
                break;
            }
            self.bytes -= oldest.bytes();
            self.complete_after = oldest.revision;
            self.changes.pop_front();
        }
    }

    /// When the oldest change is too old; `None` while there is none.
    pub fn expires(&self) -> Option<Instant> {
        let (since, _) = self.changes.front()?;
        since.checked_add(self.keep)
    }

    /// The oldest revision that a watch can resume from.
    pub fn complete_after(&self) -> Revision {
        self.complete_after
    }

    /// All changes behind `revision`, or `None` if some of them are forgotten. Costs the same however many they are.
    pub fn after(&self, revision: Revision) -> Option<Changes> {
        if revision < self.complete_after {
            return None;
        }
        Some(Changes(self.changes.clone().split_off(first_behind(&self.changes, revision))))
    }

    /// All changes that are not forgotten.
    pub fn all(&self) -> Changes {
        Changes(self.changes.clone())
    }
}

/// Where changes behind `revision` begin.
fn first_behind(changes: &Vector<(Instant, Change)>, revision: Revision) -> usize {
    let (mut low, mut high) = (0, changes.len());
    while low < high {
        let middle = usize::midpoint(low, high);
        if changes.get(middle).is_some_and(|(_, change)| change.revision <= revision) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

/// Changes in revision order, which share their memory with the history.
#[derive(Clone, Debug, Default)]
pub struct Changes(Vector<(Instant, Change)>);

impl Changes {
    /// What caused a version, where it is among these.
    pub fn cause_of(&self, object: &StoredObject) -> Option<&Cause> {
        let (_, change) = self.0.get(first_behind(&self.0, object.revision).checked_sub(1)?)?;
        let is_it = change.revision == object.revision && change.current.as_ref().is_some_and(|current| current.key == object.key);
        is_it.then_some(&change.cause)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Takes the first ones.
    pub fn take(&mut self, most: usize) -> Vec<Change> {
        let rest = self.0.split_off(most.min(self.0.len()));
        std::mem::replace(&mut self.0, rest).into_iter().map(|(_, change)| change).collect()
    }
}

#[cfg(test)]
mod tests {
    use troupe_api::resources::{Registry, builtin};

    use super::*;

    fn change(revision: u64) -> Change {
        Change { revision: Revision(revision), previous: None, current: None, cause: Cause::default() }
    }

    #[test]
    fn a_watch_resumes_inside_the_history_and_not_before_it() {
        let mut history = History::new(Revision(10), 1 << 20, Duration::from_secs(300));
        let start = Instant::now();
        history.push(change(12), start);
        history.push(change(15), start + Duration::from_secs(200));
        let after = |history: &History, revision| {
            history.after(Revision(revision)).map(|mut changes| changes.take(10).iter().map(|c| c.revision.0).collect::<Vec<_>>())
        };
        assert_eq!(after(&history, 10), Some(vec![12, 15]));
        assert_eq!(after(&history, 12), Some(vec![15]));
        assert_eq!(after(&history, 9), None);
        history.push(change(16), start + Duration::from_secs(301));
        assert_eq!(after(&history, 10), None, "the change at 12 is older than five minutes");
        assert_eq!(after(&history, 12), Some(vec![15, 16]));
    }

    #[test]
    fn what_is_old_goes_without_anything_new() {
        let mut history = History::new(Revision(10), 1 << 20, Duration::from_secs(300));
        let start = Instant::now();
        assert_eq!(history.expires(), None);
        history.push(change(12), start);
        assert_eq!(history.expires(), Some(start + Duration::from_secs(300)));
        history.forget_old(start + Duration::from_secs(300));
        assert_eq!(history.bytes, 256);
        history.forget_old(start + Duration::from_secs(301));
        assert_eq!((history.bytes, history.complete_after()), (0, Revision(12)));
        assert_eq!(history.after(Revision(12)).map(|changes| changes.len()), Some(0));
    }

    #[test]
    fn changes_are_taken_piece_by_piece_and_stay_as_they_were() {
        let mut history = History::new(Revision(0), 1 << 20, Duration::from_secs(300));
        (1..=1000).for_each(|revision| history.push(change(revision), Instant::now()));
        let mut after = history.after(Revision(500)).expect("all are there");
        history.push(change(1001), Instant::now());
        let mut seen = Vec::new();
        while !after.is_empty() {
            seen.extend(after.take(64).iter().map(|change| change.revision.0));
        }
        assert_eq!(seen, (501..=1000).collect::<Vec<_>>());
        assert_eq!(history.after(Revision(1000)).map(|changes| changes.len()), Some(1));
    }

    #[test]
    fn little_is_kept_of_definitions_leases_and_events() {
        let registry = Registry::new(builtin());
        let few = [("apiextensions.k8s.io", "CustomResourceDefinition", 3), ("coordination.k8s.io", "Lease", 3), ("", "Event", 3)];
        for (group, kind, oldest) in few.into_iter().chain([("", "Pod", 0)]) {
            let resource = registry.by_kind(group, kind).expect("a kind");
            let mut history = History::of(&resource, Revision(0), 2400, Duration::from_secs(300));
            (1..=5).for_each(|revision| history.push(change(revision), Instant::now()));
            assert_eq!(history.complete_after(), Revision(oldest), "{kind}");
        }
    }

    #[test]
    fn the_budget_counts_all_that_a_version_takes() {
        let tree = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n"}});
        let object = troupe_api::meta::Object::from_value(tree).expect("an object");
        let version = Arc::new(StoredObject::from_object(&object).expect("well formed"));
        let mut history = History::new(Revision(0), 1 << 20, Duration::from_secs(300));
        history.push(Change { previous: Some(version.clone()), current: Some(version.clone()), ..change(1) }, Instant::now());
        assert_eq!(history.bytes, 256 + version.footprint());
        assert!(history.bytes > 256 + version.encoded_length() + size_of::<StoredObject>());
        assert!(size_of::<(Instant, Change)>() <= 128, "{}", size_of::<(Instant, Change)>());
    }

    #[test]
    fn the_byte_budget_cuts_the_oldest_changes() {
        let mut history = History::new(Revision(0), 600, Duration::from_secs(300));
        for revision in 1..=5 {
            history.push(change(revision), Instant::now());
        }
        assert_eq!(history.complete_after(), Revision(3));
    }
}
