//! What providers answered, for as long as it counts. Pure.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use troupe_api::meta::time::shifted;

use super::{
    super::model::Coordinates,
    protocol::{Auths, GLOBAL, registry},
};

/// Answers that are kept at most.
const MOST: usize = 1000;

/// For whom an answer is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct AccountKey {
    pub account: Coordinates,
    pub annotations: BTreeMap<String, String>,
    /// Where it is for this token alone.
    pub token_hash: Option<String>,
}

/// For which image, registry or all, and for whom; `None` for all pods.
type Key = (String, Option<AccountKey>);

/// See the module.
#[derive(Default)]
pub(super) struct Cache(BTreeMap<Key, (Timestamp, Arc<Auths>)>);

impl Cache {
    /// What counts for an image, the answer about itself first.
    pub(super) fn get(&self, image: &str, account: Option<&AccountKey>, now: Timestamp) -> Option<Arc<Auths>> {
        let known = |about: &str| self.0.get(&(about.to_owned(), account.cloned()));
        let counts = |about: &&str| known(about).is_some_and(|(until, _)| now <= *until);
        let about = [image, registry(image), GLOBAL].into_iter().find(counts)?;
        known(about).map(|(_, auths)| auths.clone())
    }

    pub(super) fn put(&mut self, key: Key, auths: Arc<Auths>, now: Timestamp, lasts: Duration) {
        self.0.retain(|_, (until, _)| now <= *until);
        if self.0.len() >= MOST {
            // It would be the first to be asked for again anyway.
            let first = self.0.iter().min_by_key(|(_, (until, _))| *until).map(|(key, _)| key.clone());
            if let Some(first) = first {
                self.0.remove(&first);
            }
        }
        let until = shifted(now, SignedDuration::try_from(lasts).unwrap_or(SignedDuration::MAX));
        self.0.insert(key, (until, auths));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_found_by_image_registry_or_for_all_until_they_end() {
        let (start, minute) = (Timestamp::UNIX_EPOCH, Duration::from_secs(60));
        let at = |seconds: i64| shifted(start, SignedDuration::from_secs(seconds));
        let auths = |place: &str| Arc::new(Auths::from([(place.to_owned(), Default::default())]));
        let mut cache = Cache::default();
        let account = AccountKey { account: Coordinates::default(), annotations: BTreeMap::new(), token_hash: None };
        cache.put((GLOBAL.into(), None), auths("all"), start, minute);
        cache.put(("a.example".into(), None), auths("registry"), start, minute / 2);
        cache.put(("a.example/b".into(), None), auths("image"), start, minute / 4);
        cache.put(("a.example/b".into(), Some(account.clone())), auths("account"), start, minute);
        let found = |cache: &Cache, image: &str, account: Option<&AccountKey>, seconds: i64| {
            cache.get(image, account, at(seconds)).and_then(|auths| auths.keys().next().cloned())
        };
        assert_eq!(found(&cache, "a.example/b", None, 15).as_deref(), Some("image"));
        assert_eq!(found(&cache, "a.example/b", None, 16).as_deref(), Some("registry"));
        assert_eq!(found(&cache, "a.example/b", None, 31).as_deref(), Some("all"));
        assert_eq!(found(&cache, "c.example/b", None, 61), None);
        assert_eq!(found(&cache, "a.example/b", Some(&account), 31).as_deref(), Some("account"));
        let other = AccountKey { token_hash: Some("t".into()), ..account };
        assert_eq!(found(&cache, "a.example/b", Some(&other), 0), None, "nobody gets what is for all where accounts count");
        for number in 0..2 * MOST {
            cache.put((number.to_string(), None), auths("x"), at(100), minute);
        }
        assert!(cache.0.len() == MOST && cache.0.contains_key(&((2 * MOST - 1).to_string(), None)));
    }
}
