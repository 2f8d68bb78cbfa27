//! Digests: what somebody plans on, read once of each version of an object, however often it is looked at, and however little memory there is
//! for typed objects.
//!
//! A digest is made of one version and of nothing else. It is made when first asked for, and kept by the UID of its object while the cache has
//! that: no more are kept than there are objects. All who ask a cache for digests of one type share them. Locks are held for looking up and for
//! keeping, never while something is decoded.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    sync::Arc,
};

use imbl::OrdMap;
use parking_lot::Mutex;
use troupe_api::{
    meta::{ObjectKey, Revision},
    projection::MetaProjection,
    stored::{KubeObject, StoredObject},
};

use super::Cache;
use crate::runtime::turn::Turn;

/// What is kept of an object of type `K`: a pure function of a version, and small.
pub trait Digest<K>: Send + Sync + 'static {
    /// Reads an object. Its metadata may be shared.
    fn of(meta: &Arc<MetaProjection>, object: &K) -> Self;
}

/// The digest of a version.
struct Kept<D> {
    revision: Revision,
    digest: Arc<D>,
}

/// A book with so much room is never too large.
const ROOM: usize = 1024;

/// Digests of one type, by the UIDs of their objects.
struct Book<D>(Mutex<HashMap<Arc<str>, Kept<D>>>);

impl<D> Default for Book<D> {
    fn default() -> Self {
        Book(Mutex::default())
    }
}

impl<D> Book<D> {
    /// What is known of versions, in their order.
    fn find<'a>(&self, versions: impl IntoIterator<Item = &'a StoredObject>) -> Vec<Option<Arc<D>>> {
        let kept = self.0.lock();
        let known = |stored: &StoredObject| kept.get(&stored.meta().uid).filter(|known| known.revision == stored.revision);
        versions.into_iter().map(|stored| known(stored).map(|known| known.digest.clone())).collect()
    }
}

/// A book of which only the objects are known.
trait Forget: Send + Sync {
    fn forget(&self, uids: &[Arc<str>]);
}

impl<D: Send + Sync> Forget for Book<D> {
    fn forget(&self, uids: &[Arc<str>]) {
        let mut kept = self.0.lock();
        for uid in uids {
            kept.remove(uid);
        }
        if kept.capacity() > ROOM && kept.len() < kept.capacity() / 4 {
            let room = 2 * kept.len();
            kept.shrink_to(room);
        }
    }
}

/// A [`Book`] under its type.
struct Typed {
    book: Arc<dyn Any + Send + Sync>,
    forgets: Arc<dyn Forget>,
}

/// The digests that are kept of a cache's objects.
#[derive(Default)]
pub struct Books(Mutex<HashMap<TypeId, Typed>>);

impl Books {
    fn book<D: Send + Sync + 'static>(&self) -> Arc<Book<D>> {
        let mut books = self.0.lock();
        let made = || {
            let book: Arc<Book<D>> = Arc::default();
            Typed { book: book.clone(), forgets: book }
        };
        let book = books.entry(TypeId::of::<D>()).or_insert_with(made).book.clone();
        book.downcast().expect("filed under its own type")
    }

    /// Objects that the cache has no longer are forgotten. Called when it has them no longer: what is read of them afterwards is not kept.
    pub fn forget(&self, uids: &[Arc<str>]) {
        for typed in self.0.lock().values() {
            typed.forgets.forget(uids);
        }
    }

    /// The same for those that a new list lacks.
    pub fn forget_gone(&self, before: &OrdMap<ObjectKey, Arc<StoredObject>>, listed: &OrdMap<ObjectKey, Arc<StoredObject>>) {
        if self.0.lock().is_empty() {
            return;
        }
        let is_gone = |key: &ObjectKey, old: &StoredObject| listed.get(key).is_none_or(|new| new.meta().uid != old.meta().uid);
        let gone = before.iter().filter(|(key, old)| is_gone(key, old)).map(|(_, old)| old.meta().uid.clone());
        self.forget(&gone.collect::<Vec<_>>());
    }
}

/// The digests of a cache's objects. Cheap to clone.
pub struct Digests<K, D> {
    cache: Cache<K>,
    book: Arc<Book<D>>,
}

impl<K, D> Clone for Digests<K, D> {
    fn clone(&self) -> Self {
        Digests { cache: self.cache.clone(), book: self.book.clone() }
    }
}

impl<K: KubeObject> Cache<K> {
    /// Digests of its objects, shared by all who ask for this type.
    pub fn digests<D: Digest<K>>(&self) -> Digests<K, D> {
        Digests { cache: self.clone(), book: self.0.books.book() }
    }
}

impl<K: KubeObject, D: Digest<K>> Digests<K, D> {
    /// The digest of the object there is; `None` also of one that does not decode.
    pub fn get(&self, key: &ObjectKey) -> Option<Arc<D>> {
        let stored = self.cache.stored(key)?;
        self.of(&stored)
    }

    /// The digest of a version; `None` of one that does not decode.
    pub fn of(&self, stored: &StoredObject) -> Option<Arc<D>> {
        let known = self.book.find([stored]).pop().flatten();
        known.or_else(|| self.make(stored))
    }

    /// The digests of versions, in their order. Those that are not known are decoded a turn at a time; what does not decode is left out.
    pub async fn read(&self, versions: &[Arc<StoredObject>]) -> Vec<Arc<D>> {
        let mut digests = self.book.find(versions.iter().map(|stored| &**stored));
        let mut turn = Turn::default();
        for (digest, stored) in digests.iter_mut().zip(versions).filter(|(digest, _)| digest.is_none()) {
            *digest = self.make(stored);
            turn.step().await;
        }
        digests.into_iter().flatten().collect()
    }

    fn make(&self, stored: &StoredObject) -> Option<Arc<D>> {
        let object = Cache::<K>::decode_once(stored)?;
        let digest = Arc::new(D::of(stored.shared_meta(), &*object));
        self.keep(stored, &digest);
        Some(digest)
    }

    /// Keeps it if the cache still has this version. An object is forgotten when the cache has it no longer, so nothing is kept of one that is
    /// gone.
    fn keep(&self, stored: &StoredObject, digest: &Arc<D>) {
        let uid = &stored.meta().uid;
        let mut kept = self.book.0.lock();
        let is_here = self.cache.stored(&stored.key).is_some_and(|here| here.revision == stored.revision && here.meta().uid == *uid);
        if is_here && !uid.is_empty() {
            kept.insert(uid.clone(), Kept { revision: stored.revision, digest: digest.clone() });
        }
    }
}

/// The digest of an object that is in no cache.
#[cfg(test)]
pub(crate) fn digest_of<K: KubeObject, D: Digest<K>>(object: &K) -> Arc<D> {
    let meta = serde_json::to_value(object.metadata()).and_then(serde_json::from_value::<MetaProjection>).expect("metadata");
    Arc::new(D::of(&Arc::new(meta), object))
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;
    use troupe_api::{
        decoding::decoded_here,
        meta::{Cause, Object},
    };

    use super::*;

    /// A ConfigMap's name, and what it says.
    #[derive(Debug, PartialEq, Eq)]
    struct Says {
        name: Arc<str>,
        text: String,
    }

    impl Digest<ConfigMap> for Says {
        fn of(meta: &Arc<MetaProjection>, object: &ConfigMap) -> Self {
            let text = object.data.as_ref().and_then(|data| data.get("text")).cloned().unwrap_or_default();
            Says { name: meta.name.clone(), text }
        }
    }

    /// How much a ConfigMap says.
    struct Length(usize);

    impl Digest<ConfigMap> for Length {
        fn of(_: &Arc<MetaProjection>, object: &ConfigMap) -> Self {
            Length(object.data.iter().flatten().map(|(_, text)| text.len()).sum())
        }
    }

    fn stored(name: &str, uid: &str, text: &str, revision: u64) -> Arc<StoredObject> {
        let metadata = json!({"name": name, "namespace": "n", "uid": uid, "resourceVersion": revision.to_string()});
        let tree = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"text": text}});
        Arc::new(StoredObject::from_object(&Object::from_value(tree).expect("an object")).expect("well formed"))
    }

    fn filled(objects: &[Arc<StoredObject>]) -> Cache<ConfigMap> {
        let cache = Cache::default();
        cache.replace_now(objects.iter().map(|stored| (stored.key.clone(), stored.clone())).collect(), Revision(1));
        cache
    }

    fn put(cache: &Cache<ConfigMap>, stored: &Arc<StoredObject>) {
        cache.apply(stored.key.clone(), Some(stored.clone()), stored.revision, &Cause::default());
    }

    fn remove(cache: &Cache<ConfigMap>, name: &str, revision: u64) {
        cache.apply(ObjectKey::new("n", name), None, Revision(revision), &Cause::default());
    }

    fn text(digests: &Digests<ConfigMap, Says>, name: &str) -> Option<String> {
        digests.get(&ObjectKey::new("n", name)).map(|says| says.text.clone())
    }

    fn kept<D>(digests: &Digests<ConfigMap, D>) -> usize {
        digests.book.0.lock().len()
    }

    fn decoded(look: impl FnOnce()) -> usize {
        let before = decoded_here().objects;
        look();
        decoded_here().objects - before
    }

    #[test]
    fn each_version_is_decoded_once_for_all_who_ask() {
        let mut objects: Vec<_> = (0..50).map(|at| stored(&format!("c{at:02}"), &at.to_string(), "old", 1)).collect();
        let cache = filled(&objects);
        let (one, other) = (cache.digests::<Says>(), cache.digests::<Says>());
        let read = |digests: &Digests<ConfigMap, Says>, objects: &[Arc<StoredObject>]| digests.read(objects).now_or_never().expect("few take a turn");
        assert_eq!(decoded(|| assert_eq!(read(&one, &objects).len(), 50)), 50);
        assert_eq!(decoded(|| assert_eq!(read(&other, &objects).len(), 50)), 0);
        objects[7] = stored("c07", "7", "new", 2);
        put(&cache, &objects[7]);
        assert_eq!(decoded(|| assert_eq!(read(&one, &objects)[7].text, "new")), 1, "only what is new");
        let names: Vec<String> = read(&one, &objects).iter().map(|says| says.name.to_string()).collect();
        assert!(names.is_sorted() && names.len() == 50, "in the order of what was asked for: {names:?}");
        assert_eq!(cache.digests::<Length>().get(&objects[7].key).map(|length| length.0), Some(3), "another type has its own");
    }

    #[test]
    fn what_is_gone_is_forgotten_and_not_kept_afterwards() {
        let objects = [stored("a", "1", "x", 1), stored("b", "2", "x", 1), stored("c", "3", "x", 1)];
        let cache = filled(&objects);
        let digests = cache.digests::<Says>();
        assert!(["a", "b", "c"].iter().all(|name| text(&digests, name).is_some()));
        assert_eq!(kept(&digests), 3);
        remove(&cache, "a", 2);
        assert_eq!((text(&digests, "a"), kept(&digests)), (None, 2));
        assert_eq!(digests.of(&objects[0]).map(|says| says.text.clone()).as_deref(), Some("x"), "whoever has the version may read it");
        assert_eq!(kept(&digests), 2);
        cache.replace_now([(objects[2].key.clone(), objects[2].clone())].into_iter().collect(), Revision(3));
        assert_eq!(kept(&digests), 1, "a new list lacks b");
        assert_eq!(decoded(|| assert!(text(&digests, "c").is_some())), 0);
    }

    #[test]
    fn another_object_of_the_same_name_is_another_one() {
        let cache = filled(&[stored("a", "1", "first", 5)]);
        let digests = cache.digests::<Says>();
        assert_eq!(text(&digests, "a").as_deref(), Some("first"));
        remove(&cache, "a", 6);
        put(&cache, &stored("a", "2", "second", 7));
        assert_eq!((text(&digests, "a").as_deref(), kept(&digests)), (Some("second"), 1));
        // Its deletion was not seen, and its revision says nothing: a store may have been put back.
        put(&cache, &stored("a", "3", "third", 7));
        assert_eq!((text(&digests, "a").as_deref(), kept(&digests)), (Some("third"), 1));
        cache.replace_now([stored("a", "4", "fourth", 7)].map(|stored| (stored.key.clone(), stored)).into_iter().collect(), Revision(8));
        assert_eq!((text(&digests, "a").as_deref(), kept(&digests)), (Some("fourth"), 1));
    }

    #[test]
    fn an_older_version_does_not_take_the_place_of_the_newest() {
        let (old, new) = (stored("a", "1", "old", 1), stored("a", "1", "new", 2));
        let cache = filled(std::slice::from_ref(&old));
        let digests = cache.digests::<Says>();
        put(&cache, &new);
        assert_eq!(text(&digests, "a").as_deref(), Some("new"));
        assert_eq!(digests.of(&old).map(|says| says.text.clone()).as_deref(), Some("old"));
        assert_eq!(decoded(|| assert_eq!(text(&digests, "a").as_deref(), Some("new"))), 0);
    }

    #[test]
    fn room_is_given_back_when_most_objects_are_gone() {
        let objects: Vec<_> = (0..3 * ROOM).map(|at| stored(&format!("c{at:05}"), &at.to_string(), "x", 1)).collect();
        let cache = Cache::default();
        let mut revision = 1;
        objects.iter().for_each(|stored| put(&cache, stored));
        let digests = cache.digests::<Length>();
        assert!(objects.iter().all(|stored| digests.of(stored).is_some()));
        let before = digests.book.0.lock().capacity();
        for stored in &objects[10..] {
            revision += 1;
            remove(&cache, &stored.key.name, revision);
        }
        let kept = digests.book.0.lock();
        assert_eq!(kept.len(), 10);
        assert!(kept.capacity() < before / 2, "{} of {before}", kept.capacity());
    }

    #[test]
    fn very_many_are_read_a_turn_at_a_time_and_damaged_ones_left_out() {
        let mut objects: Vec<_> = (0..2000).map(|at| stored(&format!("c{at:05}"), &at.to_string(), "x", 1)).collect();
        let damaged = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "d", "namespace": "n", "uid": "d"}, "data": 7});
        objects.push(Arc::new(StoredObject::from_object(&Object::from_value(damaged).expect("an object")).expect("well formed")));
        let cache = Cache::default();
        objects.iter().for_each(|stored| put(&cache, stored));
        let digests = cache.digests::<Says>();
        assert!(digests.read(&objects).now_or_never().is_none(), "it gives way");
        let mut read = std::pin::pin!(digests.read(&objects));
        let mut task = std::task::Context::from_waker(std::task::Waker::noop());
        let found = loop {
            if let std::task::Poll::Ready(found) = read.as_mut().poll(&mut task) {
                break found;
            }
        };
        assert_eq!((found.len(), kept(&digests)), (2000, 2000));
    }
}
