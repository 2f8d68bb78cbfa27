//! Further forms of object versions: made when first asked for, shared by all readers, kept within a byte budget.
//!
//! A memo lies in its object's slot and dies with it, so finding one takes no lock. The book of all of a kind is gone
//! through in turn when the budget is spent: a memo that was asked for since the last time stays, another one goes.

use std::{
    collections::VecDeque,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use parking_lot::Mutex;

/// Memos larger than this part of the budget are not kept.
const LARGEST_PART: usize = 2;

/// The place of an object's memo.
pub struct MemoSlot<T>(ArcSwapOption<Memo<T>>);

impl<T> Default for MemoSlot<T> {
    fn default() -> Self {
        MemoSlot(ArcSwapOption::empty())
    }
}

impl<T> MemoSlot<T> {
    /// What `wanted` makes of the memo, if there is one that it wants.
    pub fn peek<R>(&self, wanted: impl FnOnce(&T) -> Option<R>) -> Option<R> {
        let slot = self.0.load();
        let memo = slot.as_ref()?;
        let found = wanted(&memo.value)?;
        memo.asked.store(true, Ordering::Relaxed);
        Some(found)
    }
}

struct Memo<T> {
    value: T,
    /// Bytes, at least roughly.
    cost: usize,
    asked: AtomicBool,
    used: Arc<AtomicUsize>,
}

impl<T> Drop for Memo<T> {
    fn drop(&mut self) {
        self.used.fetch_sub(self.cost, Ordering::Relaxed);
    }
}

/// The book of all memos that lie in the same slot of their objects.
pub struct Memos<O, T> {
    slot: fn(&O) -> &MemoSlot<T>,
    budget: usize,
    used: Arc<AtomicUsize>,
    book: Mutex<VecDeque<Weak<O>>>,
}

impl<O, T> fmt::Debug for Memos<O, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memos").field("budget", &self.budget).field("used", &self.used()).finish_non_exhaustive()
    }
}

impl<O, T> Memos<O, T> {
    /// A book that holds at most `budget` bytes of memos.
    pub fn new(budget: usize, slot: fn(&O) -> &MemoSlot<T>) -> Self {
        Memos { slot, budget, used: Arc::default(), book: Mutex::default() }
    }

    /// Bytes that all memos hold now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Puts a memo of `cost` bytes into the object's slot, in place of what is there.
    pub fn keep(&self, object: &Arc<O>, value: T, cost: usize) {
        if cost > self.budget / LARGEST_PART {
            return;
        }
        self.used.fetch_add(cost, Ordering::Relaxed);
        let memo = Memo { value, cost, asked: AtomicBool::new(false), used: self.used.clone() };
        (self.slot)(object).0.store(Some(Arc::new(memo)));
        let mut book = self.book.lock();
        book.push_back(Arc::downgrade(object));
        // Two old entries a new one: those of objects that are gone do not pile up.
        for _ in 0..2 {
            let Some(entry) = book.pop_front() else { break };
            if entry.strong_count() > 0 {
                book.push_back(entry);
            }
        }
        self.make_room(&mut book);
    }

    /// How many objects are noted.
    #[cfg(test)]
    pub(crate) fn noted(&self) -> usize {
        self.book.lock().len()
    }

    fn make_room(&self, book: &mut VecDeque<Weak<O>>) {
        while self.used() > self.budget {
            let Some(entry) = book.pop_front() else { return };
            let Some(object) = entry.upgrade() else { continue };
            let slot = &(self.slot)(&object).0;
            let asked = slot.load().as_ref().is_some_and(|memo| memo.asked.swap(false, Ordering::Relaxed));
            if asked {
                book.push_back(entry);
            } else {
                slot.store(None);
            }
        }
    }
}

/// An encoding other than the store's, under its name.
pub struct Encoded {
    pub(crate) form: Box<str>,
    pub(crate) bytes: Bytes,
}
