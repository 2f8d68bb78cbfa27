//! Addresses that somebody on a link answers for who is no node of the cluster. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use jiff::{SignedDuration, Timestamp};
use troupe_api::load_balancing::MOST_ANSWERED;

/// How often it is asked whether somebody still answers.
const AGAIN: SignedDuration = SignedDuration::from_secs(60);

/// What is known of who answers for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heard {
    /// Since when; `None` where the Node object says so and this daemon did not hear it begin.
    since: Option<Timestamp>,
    /// When it was heard last; never by this daemon where there is no time.
    last: Option<Timestamp>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strangers {
    heard: BTreeMap<IpAddr, Heard>,
    /// What the Node object says.
    told: BTreeSet<IpAddr>,
}

impl Strangers {
    /// What the Node object says at the start.
    pub fn known(told: BTreeSet<IpAddr>) -> Self {
        Strangers { heard: told.iter().map(|address| (*address, Heard { since: None, last: None })).collect(), told }
    }

    /// Whether somebody was heard who answers for an address.
    pub fn has(&self, address: IpAddr) -> bool {
        self.heard.contains_key(&address)
    }

    /// Somebody answers for an address; `true` when that is new.
    pub fn heard(&mut self, address: IpAddr, now: Timestamp) -> bool {
        if let Some(known) = self.heard.get_mut(&address) {
            known.last = Some(now);
            return false;
        }
        let has_room = self.heard.len() < MOST_ANSWERED;
        if has_room {
            self.heard.insert(address, Heard { since: Some(now), last: Some(now) });
        }
        has_room
    }

    /// Nobody answers for an address any more.
    pub fn silent(&mut self, address: IpAddr) {
        self.heard.remove(&address);
    }

    /// Those that are to be asked for again.
    pub fn due(&self, now: Timestamp) -> Vec<IpAddr> {
        let is_due = |heard: &Heard| heard.last.is_none_or(|last| now.duration_since(last) >= AGAIN);
        self.heard.iter().filter(|(_, heard)| is_due(heard)).map(|(address, _)| *address).collect()
    }

    /// What the Node object should say and does not: those that somebody was heard to answer for over such a time. A machine that has just left
    /// the cluster answers for as long as what it announced stands.
    pub fn untold(&self, over: SignedDuration) -> Option<BTreeSet<IpAddr>> {
        let lasts = |heard: &Heard| heard.since.zip(heard.last).is_none_or(|(since, last)| last.duration_since(since) >= over);
        let lasting: BTreeSet<IpAddr> = self.heard.iter().filter(|(_, heard)| lasts(heard)).map(|(address, _)| *address).collect();
        (lasting != self.told).then_some(lasting)
    }

    /// The Node object says it of these.
    pub fn told(&mut self, told: BTreeSet<IpAddr>) {
        self.told = told;
    }

    /// All addresses, with commas between.
    pub fn text(&self) -> String {
        text(self.heard.keys())
    }
}

/// Addresses with commas between.
pub fn text<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>) -> String {
    addresses.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    const OVER: SignedDuration = SignedDuration::from_secs(30);

    #[test]
    fn what_is_heard_for_a_while_is_told_once_and_asked_for_again_until_nobody_answers() {
        let [one, other] = [[192, 0, 2, 10], [192, 0, 2, 11]].map(IpAddr::from);
        let mut strangers = Strangers::known([one].into());
        assert_eq!((strangers.untold(OVER), strangers.due(at(0))), (None, vec![one]), "an earlier daemon heard it");
        assert!(!strangers.heard(one, at(0)) && strangers.heard(other, at(10)) && !strangers.heard(other, at(39)));
        assert_eq!(strangers.untold(OVER), None, "it may be a machine that has just left the cluster");
        assert!(!strangers.heard(other, at(40)));
        let both = strangers.untold(OVER).expect("is told");
        assert_eq!(text(&both), "192.0.2.10,192.0.2.11");
        strangers.told(both);
        assert_eq!((strangers.untold(OVER), strangers.due(at(60))), (None, vec![one]));
        strangers.silent(one);
        strangers.silent(other);
        assert_eq!(strangers.untold(OVER), Some(BTreeSet::new()), "the annotation goes");
    }
}
