//! Encodings of stored objects other than the store's, kept within a budget: see [`crate::memo`].

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    memo::{Encoded, Memos},
    stored::StoredObject,
};

/// The other encodings of objects.
pub type Encodings = Memos<StoredObject, Encoded>;

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
        assert!(memos.noted() < 10);
    }
}
