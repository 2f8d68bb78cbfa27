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

use crate::stored::StoredObject;

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
pub struct Memos<T> {
    slot: fn(&StoredObject) -> &MemoSlot<T>,
    budget: usize,
    used: Arc<AtomicUsize>,
    book: Mutex<VecDeque<Weak<StoredObject>>>,
}

impl<T> fmt::Debug for Memos<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memos").field("budget", &self.budget).field("used", &self.used()).finish_non_exhaustive()
    }
}

impl<T> Memos<T> {
    /// A book that holds at most `budget` bytes of memos.
    pub fn new(budget: usize, slot: fn(&StoredObject) -> &MemoSlot<T>) -> Self {
        Memos { slot, budget, used: Arc::default(), book: Mutex::default() }
    }

    /// Bytes that all memos hold now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Puts a memo of `cost` bytes into the object's slot, in place of what is there.
    pub fn keep(&self, object: &Arc<StoredObject>, value: T, cost: usize) {
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

    fn make_room(&self, book: &mut VecDeque<Weak<StoredObject>>) {
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
    form: Box<str>,
    bytes: Bytes,
}

/// The other encodings of objects.
pub type Encodings = Memos<Encoded>;

impl Encodings {
    /// A book for at most `budget` bytes.
    pub fn of_objects(budget: usize) -> Self {
        Memos::new(budget, |object| &object.encoding)
    }

    /// The encoding of `object` in `form`; `make` makes it where there is none.
    pub fn get(&self, object: &Arc<StoredObject>, form: &str, make: impl FnOnce() -> Vec<u8>) -> Bytes {
        if let Some(known) = Self::known(object, form) {
            return known;
        }
        let bytes = Bytes::from(make());
        self.keep(object, Encoded { form: form.into(), bytes: bytes.clone() }, bytes.len());
        bytes
    }

    /// The encoding of `object` in `form`, if there is one.
    pub fn known(object: &StoredObject, form: &str) -> Option<Bytes> {
        object.encoding.peek(|memo| (&*memo.form == form).then(|| memo.bytes.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::Revision;

    fn object(name: &str) -> Arc<StoredObject> {
        let encoded = format!("{{\"kind\":\"ConfigMap\",\"apiVersion\":\"v1\",\"metadata\":{{\"name\":\"{name}\"}}}}");
        Arc::new(StoredObject::new(encoded.into(), Revision(1)).expect("the store's form"))
    }

    #[test]
    fn a_memo_is_made_once_and_dies_with_its_object() {
        let (memos, object) = (Encodings::of_objects(1600), object("a"));
        assert_eq!(memos.get(&object, "x", || vec![1; 10]), vec![1; 10]);
        assert_eq!(memos.get(&object, "x", || panic!("made twice")), vec![1; 10]);
        assert_eq!(memos.get(&object, "y", || vec![2; 20]), vec![2; 20]);
        assert_eq!(memos.used(), 20);
        drop(object);
        assert_eq!(memos.used(), 0);
    }

    #[test]
    fn the_budget_holds_and_what_is_asked_for_stays() {
        let memos = Encodings::of_objects(160);
        let objects: Vec<_> = (0..100).map(|at| object(&at.to_string())).collect();
        for object in &objects {
            memos.get(object, "x", || vec![0; 10]);
            assert_eq!(memos.get(&objects[0], "x", || panic!("the favourite went")).len(), 10);
            assert!(memos.used() <= 160, "{}", memos.used());
        }
        memos.get(&objects[0], "big", || vec![0; 100]);
        assert!(memos.used() <= 160, "what is long is not kept");
    }

    #[test]
    fn entries_of_objects_that_are_gone_do_not_pile_up() {
        let memos = Encodings::of_objects(1 << 20);
        for at in 0..1000 {
            memos.get(&object(&at.to_string()), "x", || vec![0; 10]);
        }
        assert!(memos.book.lock().len() < 10);
    }
}
