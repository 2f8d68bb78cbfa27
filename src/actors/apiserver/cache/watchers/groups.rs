//! Watchers by what they select: those with equal selections are a group, which is asked once about a change.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use troupe_api::{meta::Revision, service::WatchItem};

use super::{
    super::{
        Change, Delivery, Selection,
        queue::{Refused, Sender},
    },
    index::{Filing, GroupId, SelectionIndex},
};

/// How often a watcher that asked for bookmarks gets one.
const BOOKMARK_EVERY: Duration = Duration::from_secs(55);
/// How long before its end a watch gets its last bookmark.
const BEFORE_END: Duration = Duration::from_secs(2);
/// Selectors that say something of more labels are expensive.
const MANY_LABELS: usize = 16;

/// A moment at which bookmarks may be due.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Everything up to here was told before.
    pub revision: Revision,
    /// The newest change of the resource.
    pub changed: Revision,
    pub now: Instant,
}

/// One watch.
#[derive(Debug)]
pub struct Watcher {
    pub queue: Sender,
    /// Changes up to this revision are not news to it.
    pub from: Revision,
    /// When the next bookmark is due, for those who asked for them.
    next_bookmark: Option<Instant>,
    ends: Option<Instant>,
    /// Up to here it knows that it has seen everything, for those who want to know soon after each change.
    told: Option<Revision>,
}

impl Watcher {
    /// A watcher of changes behind `from`; `bookmarks` holds the end of its watch, if it wants any.
    pub fn new(queue: Sender, from: Revision, bookmarks: Option<Option<Instant>>, now: Instant) -> Self {
        Watcher { queue, from, next_bookmark: bookmarks.map(|ends| next_bookmark(now, ends)), ends: bookmarks.flatten(), told: None }
    }

    /// The same for one that knows that it has seen everything up to `told`, and gets a bookmark whenever there was a change since.
    #[must_use]
    pub fn with_progress(self, told: Revision) -> Self {
        Watcher { told: Some(told), ..self }
    }

    /// Marks everything up to a revision as told.
    fn knows(&mut self, revision: Revision) {
        self.told = self.told.map(|told| told.max(revision));
    }

    /// Marks the bookmark that is due as sent, if one is.
    fn takes_bookmark(&mut self, moment: Moment) -> bool {
        let is_due = self.next_bookmark.is_some_and(|due| due <= moment.now) || self.told.is_some_and(|told| told < moment.changed);
        let takes = is_due && self.from <= moment.revision;
        if takes {
            self.next_bookmark = self.next_bookmark.map(|_| next_bookmark(moment.now, self.ends));
            self.knows(moment.revision);
        }
        takes
    }
}

/// When a watch that got a bookmark now gets the next one: after a while, but shortly before its end in any case.
fn next_bookmark(now: Instant, ends: Option<Instant>) -> Instant {
    let regular = now + BOOKMARK_EVERY;
    let last = ends.and_then(|ends| ends.checked_sub(BEFORE_END)).filter(|last| *last > now);
    last.map_or(regular, |last| last.min(regular))
}

#[derive(Debug)]
struct Group {
    selection: Arc<Selection>,
    filing: Filing,
    watchers: Vec<Watcher>,
}

/// Groups that a change or a bookmark concerns, in the order of their numbers.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Concerned {
    pub cheap: Vec<GroupId>,
    /// Those with selectors that take long. Whoever has such waits for those who have not.
    pub expensive: Vec<GroupId>,
}

/// All watchers of one resource.
#[derive(Debug, Default)]
pub struct Groups {
    /// In boxes: a tree has room for eleven entries from its beginning, and most resources have one group.
    all: BTreeMap<GroupId, Box<Group>>,
    by_selection: HashMap<Arc<Selection>, GroupId>,
    index: SelectionIndex,
    next: GroupId,
    /// Watchers dropped because their queue was full, or because they could not be told in time.
    pub overflowed: u64,
}

impl Groups {
    /// How many different selections there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn watchers(&self) -> usize {
        self.all.values().map(|group| group.watchers.len()).sum()
    }

    pub fn add(&mut self, selection: Arc<Selection>, watcher: Watcher) {
        let known = self.by_selection.get(&selection).and_then(|id| self.all.get_mut(id));
        if let Some(group) = known {
            group.watchers.push(watcher);
            return;
        }
        let (id, filing) = (self.next, Filing::of(&selection));
        self.next += 1;
        self.index.insert(&filing, &selection.resource, id);
        self.by_selection.insert(selection.clone(), id);
        self.all.insert(id, Box::new(Group { selection, filing, watchers: vec![watcher] }));
    }

    /// The groups that may select what a change is about.
    pub fn concerned(&self, change: &Change) -> Concerned {
        self.split(self.index.concerned(change).into_iter())
    }

    pub fn everybody(&self) -> Concerned {
        self.split(self.all.keys().copied())
    }

    fn split(&self, groups: impl Iterator<Item = GroupId>) -> Concerned {
        let (expensive, cheap) = groups.partition(|id| self.all.get(id).is_some_and(|group| group.selection.labels.len() > MANY_LABELS));
        Concerned { cheap, expensive }
    }

    /// Hands a change to a group if it selects it. Whoever is gone or full is dropped, which ends its stream. Returns how many watchers
    /// were looked at.
    pub fn tell(&mut self, id: GroupId, change: &Change) -> usize {
        let Some(group) = self.all.get(&id) else { return 0 };
        let Some(delivery) = group.selection.deliver(change) else { return 0 };
        self.deliver(id, |watcher| {
            let is_news = watcher.from < change.revision;
            is_news.then(|| {
                watcher.knows(change.revision);
                delivery.clone()
            })
        })
    }

    /// Sends a group the bookmarks that are due, and forgets watchers that are gone. Returns how many watchers were looked at.
    pub fn bookmark(&mut self, id: GroupId, moment: Moment) -> usize {
        let bookmark = || Delivery::Item(WatchItem::Bookmark { revision: moment.revision, initial_end: false });
        self.deliver(id, |watcher| watcher.takes_bookmark(moment).then(bookmark))
    }

    fn deliver(&mut self, id: GroupId, mut item_for: impl FnMut(&mut Watcher) -> Option<Delivery>) -> usize {
        let Some(group) = self.all.get_mut(&id) else { return 0 };
        let (looked_at, mut overflowed) = (group.watchers.len(), 0);
        group.watchers.retain_mut(|watcher| match item_for(watcher).map(|item| watcher.queue.send(item)) {
            None => !watcher.queue.is_closed(),
            Some(Ok(())) => true,
            Some(Err(Refused::Closed)) => false,
            Some(Err(Refused::Full)) => {
                overflowed += 1;
                false
            }
        });
        self.overflowed += overflowed;
        if group.watchers.is_empty() {
            self.remove(id);
        }
        looked_at
    }

    fn remove(&mut self, id: GroupId) {
        let Some(group) = self.all.remove(&id) else { return };
        self.index.remove(&group.filing, &group.selection.resource, id);
        self.by_selection.remove(&group.selection);
    }

    /// Ends the watches of some groups, which lag behind.
    pub fn drop_groups(&mut self, ids: &[GroupId]) {
        for id in ids {
            self.overflowed += self.all.get(id).map_or(0, |group| group.watchers.len() as u64);
            self.remove(*id);
        }
    }

    /// Ends all watches.
    pub fn clear(&mut self) {
        *self = Groups { next: self.next, overflowed: self.overflowed, ..Groups::default() };
    }

    #[cfg(test)]
    pub fn is_forgotten(&self) -> bool {
        self.all.is_empty() && self.by_selection.is_empty() && self.index.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bookmarks_come_now_and_then_and_shortly_before_the_end() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(next_bookmark(start, None), after(55));
        assert_eq!(next_bookmark(start, Some(after(600))), after(55));
        assert_eq!(next_bookmark(start, Some(after(30))), after(28));
        assert_eq!(next_bookmark(after(29), Some(after(30))), after(29 + 55), "the last one was sent");
    }
}
