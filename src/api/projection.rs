//! The parts of the metadata that generic code needs, decoded once per version and held small: there is one for every
//! object, and most of their texts are the same.

use std::{
    cell::RefCell,
    fmt,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash},
    sync::Arc,
};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};

/// See the module.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MetaProjection {
    pub name: Arc<str>,
    #[serde(deserialize_with = "common")]
    pub namespace: Arc<str>,
    pub uid: Arc<str>,
    pub generation: i64,
    pub creation_timestamp: Option<Common>,
    pub deletion_timestamp: Option<Common>,
    pub deletion_grace_period_seconds: Option<i64>,
    pub labels: Labels,
    pub finalizers: Vec<Common>,
    #[serde(deserialize_with = "owners")]
    pub owner_references: Arc<[OwnerProjection]>,
}

impl MetaProjection {
    /// The owner that is marked as controller.
    pub fn controller(&self) -> Option<&OwnerProjection> {
        self.owner_references.iter().find(|owner| owner.controller)
    }

    /// Bytes that it takes in memory, roughly: texts that many have in common are not counted, lists are. The same for as long as it lives.
    pub(crate) fn footprint(&self) -> usize {
        const COUNTS: usize = 2 * size_of::<usize>();
        let texts = 2 * COUNTS + self.name.len() + self.uid.len();
        let labels = self.labels.len() * size_of::<Pair>();
        let lists = self.finalizers.capacity() * size_of::<Common>() + self.owner_references.len() * size_of::<OwnerProjection>();
        COUNTS + size_of::<Self>() + texts + labels + lists
    }

    /// Gives back what decoding took and did not need.
    pub(crate) fn shrink(&mut self) {
        self.finalizers.shrink_to_fit();
    }
}

/// An owner reference as the garbage collector and controllers need it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerProjection {
    #[serde(deserialize_with = "common")]
    pub api_version: Arc<str>,
    #[serde(deserialize_with = "common")]
    pub kind: Arc<str>,
    #[serde(deserialize_with = "common")]
    pub name: Arc<str>,
    #[serde(deserialize_with = "common")]
    pub uid: Arc<str>,
    pub controller: bool,
    pub block_owner_deletion: bool,
}

impl OwnerProjection {
    fn is_long(&self) -> bool {
        [&self.api_version, &self.kind, &self.name, &self.uid].iter().any(|text| text.len() > LONGEST_TEXT)
    }
}

/// A label's name and value.
type Pair = (Arc<str>, Arc<str>);

/// Labels in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct Labels(Arc<[Pair]>);

impl Labels {
    pub fn get(&self, name: &str) -> Option<&str> {
        self.get_shared(name).map(|value| &**value)
    }

    /// The same, shared with these labels.
    pub fn get_shared(&self, name: &str) -> Option<&Arc<str>> {
        let at = self.0.binary_search_by(|(known, _)| (**known).cmp(name)).ok()?;
        Some(&self.0[at].1)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (&**name, &**value))
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Pairs;
        impl<'de> Visitor<'de> for Pairs {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of labels")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut labels = Vec::new();
                while let Some((Common(name), Common(value))) = map.next_entry()? {
                    labels.push((name, value));
                }
                labels.sort_by(|(one, _), (other, _)| one.cmp(other));
                Ok(Labels(recent_labels(labels)))
            }
        }
        deserializer.deserialize_map(Pairs)
    }
}

/// A text that many objects have: whoever decodes it soon again shares it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Common(pub Arc<str>);

impl std::ops::Deref for Common {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Common {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = Common;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Common, E> {
                Ok(Common(recent(text)))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

fn common<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<str>, D::Error> {
    Common::deserialize(deserializer).map(|Common(text)| text)
}

fn owners<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<[OwnerProjection]>, D::Error> {
    Vec::deserialize(deserializer).map(recent_owners)
}

/// Texts that a thread remembers, and lists of each kind.
const REMEMBERED: usize = 1024;
const LISTS: usize = 256;
/// Longer lists and texts are not remembered: whoever makes some has a thread hold them.
const LONGEST: usize = 16;
const LONGEST_TEXT: usize = 512;

/// Values that a thread remembers; a value has one place, where it takes the place of the one before.
struct Recent<T: ?Sized>(Vec<Option<Arc<T>>>);

impl<T: ?Sized + Eq + Hash> Recent<T> {
    fn new(places: usize) -> Self {
        Recent(vec![None; places])
    }

    /// The value, shared with the last one of its place if that was the same.
    fn share(&mut self, value: impl AsRef<T> + Into<Arc<T>>) -> Arc<T> {
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(value.as_ref());
        let place = usize::try_from(hash % self.0.len() as u64).expect("a small number");
        match &self.0[place] {
            Some(known) if **known == *value.as_ref() => known.clone(),
            _ => self.0[place].insert(value.into()).clone(),
        }
    }
}

/// The text, shared with others that were decoded just before.
pub(crate) fn recent(text: &str) -> Arc<str> {
    thread_local! {
        static TEXTS: RefCell<Recent<str>> = RefCell::new(Recent::new(REMEMBERED));
    }
    if text.len() > LONGEST_TEXT { text.into() } else { TEXTS.with_borrow_mut(|recent| recent.share(text)) }
}

/// The labels, shared like that: those of pods of one template are mostly the same.
fn recent_labels(labels: Vec<Pair>) -> Arc<[Pair]> {
    thread_local! {
        static LABELS: RefCell<Recent<[Pair]>> = RefCell::new(Recent::new(LISTS));
    }
    let is_long = labels.len() > LONGEST || labels.iter().any(|(name, value)| name.len().max(value.len()) > LONGEST_TEXT);
    if is_long { labels.into() } else { LABELS.with_borrow_mut(|recent| recent.share(labels)) }
}

/// The same of owners.
fn recent_owners(owners: Vec<OwnerProjection>) -> Arc<[OwnerProjection]> {
    thread_local! {
        static OWNERS: RefCell<Recent<[OwnerProjection]>> = RefCell::new(Recent::new(LISTS));
    }
    let is_long = owners.len() > LONGEST || owners.iter().any(OwnerProjection::is_long);
    if is_long { owners.into() } else { OWNERS.with_borrow_mut(|recent| recent.share(owners)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_found_whatever_their_order() {
        let labels: Labels = serde_json::from_str(r#"{"b": "2", "a": "1", "c\n": "3"}"#).expect("labels");
        assert_eq!(["a", "b", "c\n", "d"].map(|name| labels.get(name)), [Some("1"), Some("2"), Some("3"), None]);
        assert!(serde_json::from_str::<Labels>(r#"{"a": 1}"#).is_err());
    }

    #[test]
    fn objects_share_the_texts_that_they_have_in_common() {
        let decode = |name: &str| {
            let owner = r#"{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u", "controller": true}"#;
            let meta = format!(r#"{{"name": "{name}", "namespace": "n", "labels": {{"app": "web"}}, "ownerReferences": [{owner}]}}"#);
            serde_json::from_str::<MetaProjection>(&meta).expect("metadata")
        };
        let (one, other) = (decode("one"), decode("other"));
        assert_eq!((&*one.name, &*other.name), ("one", "other"));
        assert!(Arc::ptr_eq(&one.namespace, &other.namespace));
        assert!(Arc::ptr_eq(&one.labels.0[0].1, &other.labels.0[0].1));
        assert!(Arc::ptr_eq(&one.labels.0, &other.labels.0) && Arc::ptr_eq(&one.owner_references, &other.owner_references));
    }

    #[test]
    fn long_lists_and_texts_are_nobody_elses() {
        let decode = |count: usize| {
            let labels: Vec<String> = (0..count).map(|at| format!(r#""l{at}": "v""#)).collect();
            serde_json::from_str::<Labels>(&format!("{{{}}}", labels.join(","))).expect("labels")
        };
        let is_shared = |count| Arc::ptr_eq(&decode(count).0, &decode(count).0);
        assert!(is_shared(LONGEST) && !is_shared(LONGEST + 1));
        let owners = |length: usize| recent_owners(vec![OwnerProjection { name: "o".repeat(length).into(), ..OwnerProjection::default() }]);
        let text = |length: usize| recent(&"t".repeat(length));
        assert!(Arc::ptr_eq(&owners(LONGEST_TEXT), &owners(LONGEST_TEXT)) && Arc::ptr_eq(&text(LONGEST_TEXT), &text(LONGEST_TEXT)));
        assert!(!Arc::ptr_eq(&owners(LONGEST_TEXT + 1), &owners(LONGEST_TEXT + 1)));
        assert!(!Arc::ptr_eq(&text(LONGEST_TEXT + 1), &text(LONGEST_TEXT + 1)));
    }

    #[test]
    fn texts_that_share_a_place_stay_themselves() {
        let texts: Vec<String> = (0..4 * REMEMBERED).map(|at| at.to_string()).collect();
        let held: Vec<Arc<str>> = texts.iter().map(|text| recent(text)).collect();
        assert!(held.iter().zip(&texts).all(|(held, text)| **held == **text));
    }
}
