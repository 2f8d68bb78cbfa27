//! Further encodings of object versions: made when first asked for, shared by all readers, kept within a byte budget.
//!
//! A memo lies in its object's slot and dies with it, so finding one takes no lock. The book of all of them is gone through
//! in turn when the budget is spent: a memo that was asked for since the last time stays, another one goes.

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

/// Memos longer than this part of the budget are not kept.
const LARGEST_PART: usize = 16;

/// The place of an object's memo.
#[derive(Default)]
pub struct MemoSlot(ArcSwapOption<Memo>);

impl fmt::Debug for MemoSlot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("MemoSlot").field(&self.0.load().as_ref().map(|memo| memo.bytes.len())).finish()
    }
}

struct Memo {
    form: Box<str>,
    bytes: Bytes,
    asked: AtomicBool,
    used: Arc<AtomicUsize>,
}

impl Drop for Memo {
    fn drop(&mut self) {
        self.used.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

/// The book of all memos.
#[derive(Debug)]
pub struct Memos {
    budget: usize,
    used: Arc<AtomicUsize>,
    book: Mutex<VecDeque<Weak<StoredObject>>>,
}

impl Memos {
    /// A book that holds at most `budget` bytes of memos.
    pub fn new(budget: usize) -> Self {
        Memos { budget, used: Arc::default(), book: Mutex::default() }
    }

    /// The memo of `object` in `form`; `make` makes it where there is none.
    pub fn get(&self, object: &Arc<StoredObject>, form: &str, make: impl FnOnce() -> Vec<u8>) -> Bytes {
        if let Some(known) = Self::peek(object, form) {
            return known;
        }
        let bytes = Bytes::from(make());
        if bytes.len() <= self.budget / LARGEST_PART {
            self.keep(object, form, bytes.clone());
        }
        bytes
    }

    /// The memo of `object` in `form`, if there is one.
    pub fn peek(object: &StoredObject, form: &str) -> Option<Bytes> {
        let slot = object.memo.0.load();
        let memo = slot.as_ref().filter(|memo| &*memo.form == form)?;
        memo.asked.store(true, Ordering::Relaxed);
        Some(memo.bytes.clone())
    }

    /// Bytes that all memos hold now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn keep(&self, object: &Arc<StoredObject>, form: &str, bytes: Bytes) {
        self.used.fetch_add(bytes.len(), Ordering::Relaxed);
        let memo = Memo { form: form.into(), bytes, asked: AtomicBool::new(false), used: self.used.clone() };
        object.memo.0.store(Some(Arc::new(memo)));
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
            let asked = object.memo.0.load().as_ref().is_some_and(|memo| memo.asked.swap(false, Ordering::Relaxed));
            if asked {
                book.push_back(entry);
            } else {
                object.memo.0.store(None);
            }
        }
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
        let (memos, object) = (Memos::new(1600), object("a"));
        assert_eq!(memos.get(&object, "x", || vec![1; 10]), vec![1; 10]);
        assert_eq!(memos.get(&object, "x", || panic!("made twice")), vec![1; 10]);
        assert_eq!(memos.get(&object, "y", || vec![2; 20]), vec![2; 20]);
        assert_eq!(memos.used(), 20);
        drop(object);
        assert_eq!(memos.used(), 0);
    }

    #[test]
    fn the_budget_holds_and_what_is_asked_for_stays() {
        let memos = Memos::new(160);
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
        let memos = Memos::new(1 << 20);
        for at in 0..1000 {
            memos.get(&object(&at.to_string()), "x", || vec![0; 10]);
        }
        assert!(memos.book.lock().len() < 10);
    }
}
