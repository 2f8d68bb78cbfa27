//! The watchers of one resource: a unit of its own, so that writes of the resource wait for nobody's selectors.
//!
//! In: [`Told`] from the resource's actor, in order: changes, new watchers, the time for bookmarks. Out: deliveries into watchers' queues.
//! It works in slices between which other resources' watchers have their turn. Selections are indexed by what they select and equal ones
//! are asked once. Selectors that take long are asked when nobody else waits; whoever lags too far behind is dropped and resumes, and
//! then what it has missed is searched on its own account.

mod groups;
mod index;
#[cfg(test)]
mod tests;

use std::{collections::VecDeque, sync::Arc, vec};

use actix::Message;

pub use self::groups::{Moment, Watcher};
use self::{
    groups::{Concerned, Groups},
    index::GroupId,
};
use super::{Change, Selection, metrics::CacheCounts};
use crate::runtime::{
    envelope::Reply,
    host::{On, Unit, UnitContext},
    placement::ArbiterGroup,
    turn::{BYTES, Turn, give_way},
    unit::Policy,
};

/// Messages that may wait; more end all watches.
const MAILBOX: usize = 4096;
/// News that may wait to be told, and bytes of the objects that they keep. Watches that are behind by more end.
const MOST_WAITING: usize = 4096;
const MOST_BYTES: usize = 64 << 20;
/// The same of expensive selectors.
const MOST_EXPENSIVE: usize = 1024;
/// What a turn counts for each watcher that is told something, and for each selector that takes long.
const PER_WATCHER: usize = BYTES / 512;
const EXPENSIVE: usize = BYTES / 32;

/// News for watchers, in order.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Told {
    /// Something was missed: all watches end before this.
    pub anew: bool,
    pub news: News,
}

/// What watchers are told.
#[derive(Debug)]
pub enum News {
    Changes(Vec<Change>),
    Watcher(Arc<Selection>, Watcher),
    /// Bookmarks may be due.
    Time(Moment),
}

/// What a group is told.
#[derive(Clone, Debug)]
enum Item {
    Change(Arc<Change>),
    Time(Moment),
}

impl Item {
    /// The bytes of the objects that it keeps.
    fn bytes(&self) -> usize {
        match self {
            Item::Change(change) => change.previous.iter().chain(&change.current).map(|object| object.encoded_length()).sum(),
            Item::Time(..) => 0,
        }
    }
}

/// An item with the groups that are still to be told.
#[derive(Debug)]
struct Round {
    item: Item,
    groups: vec::IntoIter<GroupId>,
}

/// Items in the order in which they came, of bounded number and size.
#[derive(Debug)]
struct Waiting<T> {
    items: VecDeque<T>,
    bytes: usize,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Waiting { items: VecDeque::new(), bytes: 0 }
    }
}

impl<T> Waiting<T> {
    fn push(&mut self, item: T, bytes: usize) {
        self.bytes += bytes;
        self.items.push_back(item);
    }

    fn pop(&mut self, bytes: impl Fn(&T) -> usize) -> Option<T> {
        let item = self.items.pop_front()?;
        self.bytes -= bytes(&item);
        Some(item)
    }

    fn exceeds(&self, items: usize, bytes: usize) -> bool {
        self.items.len() > items || self.bytes > bytes
    }
}

/// The unit.
pub struct Watchers {
    groups: Groups,
    waiting: Waiting<Item>,
    /// Rounds of groups whose selectors take long.
    expensive: Waiting<Round>,
    /// The round under way.
    round: Option<Round>,
    is_going_on: bool,
    counts: CacheCounts,
}

impl Watchers {
    pub fn new(counts: CacheCounts) -> Self {
        Watchers { groups: Groups::default(), waiting: Waiting::default(), expensive: Waiting::default(), round: None, is_going_on: false, counts }
    }

    /// Whoever watches can resume, so restarts are cheap to allow.
    pub fn policy() -> Policy {
        Policy { mailbox: MAILBOX, intensity: 20, group: ArbiterGroup::Watches, ..Policy::default() }
    }

    fn hear(&mut self, told: Told) {
        if told.anew {
            self.drop_all();
        }
        match told.news {
            // Changes before it are not news to it, and it is there for all later ones.
            News::Watcher(selection, watcher) => self.groups.add(selection, watcher),
            News::Changes(changes) => changes.into_iter().for_each(|change| self.queue(Item::Change(Arc::new(change)))),
            News::Time(moment) => self.queue(Item::Time(moment)),
        }
        if self.waiting.exceeds(MOST_WAITING, MOST_BYTES) {
            self.drop_all();
        }
    }

    fn queue(&mut self, item: Item) {
        let bytes = item.bytes();
        self.waiting.push(item, bytes);
    }

    fn drop_all(&mut self) {
        let overflowed = self.groups.overflowed;
        let everybody = self.groups.everybody();
        self.groups.drop_groups(&everybody.cheap);
        self.groups.drop_groups(&everybody.expensive);
        self.counts.terminated.add(self.groups.overflowed - overflowed);
        self.groups.clear();
        self.waiting = Waiting::default();
        self.expensive = Waiting::default();
        self.round = None;
    }

    /// Tells news for a while; `true` when everything is told.
    fn slice(&mut self) -> bool {
        let overflowed = self.groups.overflowed;
        let mut turn = Turn::default();
        let is_told = loop {
            match self.step() {
                None => break true,
                Some(cost) if turn.count_bytes(cost) => break false,
                Some(_) => {}
            }
        };
        self.counts.terminated.add(self.groups.overflowed - overflowed);
        is_told
    }

    /// Asks the next group; expensive selectors come when nothing else waits. Returns what that cost, in bytes as a turn counts them.
    fn step(&mut self) -> Option<usize> {
        if let Some(mut round) = self.round.take() {
            let Some(group) = round.groups.next() else { return Some(0) };
            let told = self.tell(group, &round.item);
            self.round = Some(round);
            return Some(told * PER_WATCHER);
        }
        if let Some(item) = self.waiting.pop(Item::bytes) {
            self.begin(item);
            return Some(0);
        }
        let round = self.expensive.items.front_mut()?;
        let (item, group) = (round.item.clone(), round.groups.next());
        let Some(group) = group else {
            self.expensive.pop(|round| round.item.bytes());
            return Some(0);
        };
        Some(self.tell(group, &item) * PER_WATCHER + EXPENSIVE)
    }

    fn tell(&mut self, group: GroupId, item: &Item) -> usize {
        match item {
            Item::Change(change) => self.groups.tell(group, change),
            Item::Time(moment) => self.groups.bookmark(group, *moment),
        }
    }

    /// Begins a round of those whom an item concerns. Expensive selectors are asked later.
    fn begin(&mut self, item: Item) {
        let Concerned { cheap, expensive } = match &item {
            Item::Change(change) => self.groups.concerned(change),
            Item::Time(..) => self.groups.everybody(),
        };
        if !expensive.is_empty() {
            self.expensive.push(Round { item: item.clone(), groups: expensive.into_iter() }, item.bytes());
            if self.expensive.exceeds(MOST_EXPENSIVE, MOST_BYTES) {
                self.groups.drop_groups(&self.groups.everybody().expensive);
                self.expensive = Waiting::default();
            }
        }
        self.round = Some(Round { item, groups: cheap.into_iter() });
    }

    fn go_on(&mut self, cx: &mut UnitContext<'_, Self>) {
        self.is_going_on = !self.slice();
        if self.is_going_on {
            cx.spawn_then(give_way(), |watchers, (), cx| watchers.go_on(cx));
        }
    }
}

impl Unit for Watchers {
    fn observe(&self) -> serde_json::Value {
        serde_json::json!({
            "watchers": self.groups.watchers(),
            "selections": self.groups.len(),
            "waiting": self.waiting.items.len(),
            "waitingForSelectors": self.expensive.items.len(),
            "droppedWatchers": self.groups.overflowed,
        })
    }
}

impl On<Told> for Watchers {
    fn on(&mut self, told: Told, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.hear(told);
        if !self.is_going_on {
            self.go_on(cx);
        }
        Reply::Now(())
    }
}
