//! Addresses that somebody on a link answers for who is no node of the cluster. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use jiff::{SignedDuration, Timestamp};
use troupe_api::load_balancing::MOST_ANSWERED;

/// How often it is asked whether somebody still answers.
const AGAIN: SignedDuration = SignedDuration::from_secs(60);

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strangers {
    /// When it was heard last, by address; never by this daemon where there is no time.
    heard: BTreeMap<IpAddr, Option<Timestamp>>,
    /// What the Node object says.
    told: BTreeSet<IpAddr>,
}

impl Strangers {
    /// What the Node object says at the start.
    pub fn known(told: BTreeSet<IpAddr>) -> Self {
        Strangers { heard: told.iter().map(|address| (*address, None)).collect(), told }
    }

    /// Whether somebody was heard who answers for an address.
    pub fn has(&self, address: IpAddr) -> bool {
        self.heard.contains_key(&address)
    }

    /// Somebody answers for an address; `true` when that is new.
    pub fn heard(&mut self, address: IpAddr, now: Timestamp) -> bool {
        let is_new = !self.heard.contains_key(&address);
        if is_new && self.heard.len() >= MOST_ANSWERED {
            return false;
        }
        self.heard.insert(address, Some(now));
        is_new
    }

    /// Nobody answers for an address any more.
    pub fn silent(&mut self, address: IpAddr) {
        self.heard.remove(&address);
    }

    /// Those that are to be asked for again.
    pub fn due(&self, now: Timestamp) -> Vec<IpAddr> {
        let is_due = |heard: &Option<Timestamp>| heard.is_none_or(|heard| now.duration_since(heard) >= AGAIN);
        self.heard.iter().filter(|(_, heard)| is_due(heard)).map(|(address, _)| *address).collect()
    }

    /// What the Node object should say and does not; nothing (`null`) where there is none.
    pub fn untold(&self) -> Option<Option<String>> {
        let is_told = self.heard.keys().eq(self.told.iter());
        (!is_told).then(|| Some(self.text()).filter(|text| !text.is_empty()))
    }

    /// The Node object says it.
    pub fn told(&mut self) {
        self.told = self.heard.keys().copied().collect();
    }

    /// All addresses, with commas between.
    pub fn text(&self) -> String {
        self.heard.keys().map(ToString::to_string).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn what_is_heard_is_told_once_and_asked_for_again_until_nobody_answers() {
        let [one, other] = [[192, 0, 2, 10], [192, 0, 2, 11]].map(IpAddr::from);
        let mut strangers = Strangers::known([one].into());
        assert_eq!((strangers.untold(), strangers.due(at(0))), (None, vec![one]), "an earlier daemon heard it");
        assert!(!strangers.heard(one, at(0)) && strangers.heard(other, at(10)));
        assert_eq!(strangers.untold(), Some(Some("192.0.2.10,192.0.2.11".to_owned())));
        strangers.told();
        assert_eq!((strangers.untold(), strangers.due(at(60))), (None, vec![one]));
        strangers.silent(one);
        strangers.silent(other);
        assert_eq!(strangers.untold(), Some(None), "the annotation goes");
    }
}
