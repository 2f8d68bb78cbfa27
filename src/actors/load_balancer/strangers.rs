//! Addresses that somebody on a link answers for who is no node of the cluster. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use jiff::{SignedDuration, Timestamp};
use troupe_api::load_balancing::MOST_ANSWERED;

/// How often it is asked whether somebody still answers.
const AGAIN: SignedDuration = SignedDuration::from_secs(60);

/// So many addresses that one machine answers for on one link are a router's with proxy ARP rather than its own.
const MANY: usize = 8;
/// More addresses are not kept: the Node object names fewer.
const MOST_KEPT: usize = 4096;

/// Who answered: a link and the hardware address that was heard there.
pub type Machine = (u32, String);

/// What is known of who answers for an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Heard {
    /// Since when; `None` where the Node object says so and this daemon did not hear it begin.
    since: Option<Timestamp>,
    /// When it was heard last; never by this daemon where there is no time.
    last: Option<Timestamp>,
    /// Who that was.
    by: Option<Machine>,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strangers {
    heard: BTreeMap<IpAddr, Heard>,
    /// What the Node object says.
    told: BTreeSet<IpAddr>,
    /// When it was asked about addresses that other nodes name, and nobody was heard.
    checked: BTreeMap<IpAddr, Timestamp>,
    /// The machines of which it was told that they answer for many.
    complained: BTreeSet<Machine>,
}

impl Strangers {
    /// What the Node object says at the start.
    pub fn known(told: BTreeSet<IpAddr>) -> Self {
        Strangers { heard: told.iter().map(|address| (*address, Heard::default())).collect(), told, ..Strangers::default() }
    }

    /// Whether somebody was heard who answers for an address.
    pub fn has(&self, address: IpAddr) -> bool {
        self.heard.contains_key(&address)
    }

    /// Somebody answers for an address; `true` when that is new.
    pub fn heard(&mut self, address: IpAddr, by: Machine, now: Timestamp) -> bool {
        if let Some(known) = self.heard.get_mut(&address) {
            (known.last, known.by) = (Some(now), Some(by));
            return false;
        }
        let has_room = self.heard.len() < MOST_KEPT;
        if has_room {
            self.heard.insert(address, Heard { since: Some(now), last: Some(now), by: Some(by) });
        }
        has_room
    }

    /// Nobody answers for an address any more, or nobody does whom another node heard.
    pub fn silent(&mut self, address: IpAddr, now: Timestamp) {
        self.heard.remove(&address);
        self.checked.insert(address, now);
    }

    /// Those that are to be asked for again.
    pub fn due(&self, now: Timestamp) -> Vec<IpAddr> {
        let is_due = |heard: &Heard| heard.last.is_none_or(|last| now.duration_since(last) >= AGAIN);
        self.heard.iter().filter(|(_, heard)| is_due(heard)).map(|(address, _)| *address).collect()
    }

    /// Those that other nodes name and that are to be asked for here, too: one node's word alone keeps no address for long. What they name
    /// no more is forgotten.
    pub fn unchecked(&mut self, named: &BTreeSet<IpAddr>, now: Timestamp) -> Vec<IpAddr> {
        self.checked.retain(|address, _| named.contains(address));
        let is_due = |address: &IpAddr| self.checked.get(address).is_none_or(|last| now.duration_since(*last) >= AGAIN);
        named.iter().copied().filter(|address| !self.has(*address) && is_due(address)).take(MOST_KEPT).collect()
    }

    /// What the Node object should say and does not: those that somebody was heard to answer for over such a time. A machine that has just left
    /// the cluster answers for as long as what it announced stands.
    pub fn untold(&self, over: SignedDuration) -> Option<BTreeSet<IpAddr>> {
        let lasts = |heard: &Heard| heard.since.zip(heard.last).is_none_or(|(since, last)| last.duration_since(since) >= over);
        let lasting = self.heard.iter().filter(|(_, heard)| lasts(heard)).map(|(address, _)| *address);
        let lasting: BTreeSet<IpAddr> = lasting.take(MOST_ANSWERED).collect();
        (lasting != self.told).then_some(lasting)
    }

    /// The Node object says it of these.
    pub fn told(&mut self, told: BTreeSet<IpAddr>) {
        self.told = told;
    }

    /// The machines that have come to answer for many addresses, and for how many; each once for as long as it does.
    pub fn answering_for_many(&mut self) -> Vec<(Machine, usize)> {
        let mut counts: BTreeMap<&Machine, usize> = BTreeMap::new();
        for machine in self.heard.values().filter_map(|heard| heard.by.as_ref()) {
            *counts.entry(machine).or_default() += 1;
        }
        let many: Vec<(Machine, usize)> = counts.into_iter().filter(|(_, count)| *count >= MANY).map(|(by, count)| (by.clone(), count)).collect();
        let before = std::mem::replace(&mut self.complained, many.iter().map(|(machine, _)| machine.clone()).collect());
        many.into_iter().filter(|(machine, _)| !before.contains(machine)).collect()
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
        let mut hear = |address, second| strangers.heard(address, router(), at(second));
        assert!(!hear(one, 0) && hear(other, 10) && !hear(other, 39));
        assert_eq!(strangers.untold(OVER), None, "it may be a machine that has just left the cluster");
        assert!(!strangers.heard(other, router(), at(40)));
        let both = strangers.untold(OVER).expect("is told");
        assert_eq!(text(&both), "192.0.2.10,192.0.2.11");
        strangers.told(both);
        assert_eq!((strangers.untold(OVER), strangers.due(at(60))), (None, vec![one]));
        strangers.silent(one, at(60));
        strangers.silent(other, at(60));
        assert_eq!(strangers.untold(OVER), Some(BTreeSet::new()), "the annotation goes");
    }
    fn router() -> Machine {
        (2, "02:00:00:00:00:99".to_owned())
    }

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    #[test]
    fn what_other_nodes_name_is_asked_about_once_a_minute() {
        let named = BTreeSet::from([address(1), address(2)]);
        let mut strangers = Strangers::default();
        assert_eq!(strangers.unchecked(&named, at(0)), [address(1), address(2)]);
        strangers.silent(address(1), at(0));
        assert!(strangers.heard(address(2), router(), at(0)));
        assert!(strangers.unchecked(&named, at(59)).is_empty());
        assert_eq!(strangers.unchecked(&named, at(60)), [address(1)], "who was heard is asked for again as such");
        strangers.silent(address(1), at(60));
        assert!(strangers.unchecked(&BTreeSet::new(), at(61)).is_empty());
        assert_eq!(strangers, Strangers { checked: BTreeMap::new(), ..strangers.clone() });
    }

    #[test]
    fn a_machine_that_answers_for_many_addresses_is_told_of_once() {
        let mut strangers = Strangers::default();
        for last in 1..8 {
            assert!(strangers.heard(address(last), router(), at(0)));
        }
        assert!(strangers.heard(address(99), (3, router().1), at(0)));
        assert!(strangers.answering_for_many().is_empty(), "it may have some");
        assert!(strangers.heard(address(8), router(), at(0)));
        assert_eq!(strangers.answering_for_many(), [(router(), 8)]);
        assert!(strangers.answering_for_many().is_empty());
        strangers.silent(address(8), at(1));
        assert!(strangers.answering_for_many().is_empty());
        assert!(strangers.heard(address(8), router(), at(2)));
        assert_eq!(strangers.answering_for_many(), [(router(), 8)]);
    }

    #[test]
    fn more_are_known_than_the_node_object_names() {
        let mut strangers = Strangers::default();
        for number in 0..300_u32 {
            let address = IpAddr::V4((0xC000_0200 + number).into());
            assert!(strangers.heard(address, router(), at(0)) && !strangers.heard(address, router(), at(30)));
        }
        assert_eq!(strangers.untold(OVER).map(|told| told.len()), Some(MOST_ANSWERED));
    }
}
