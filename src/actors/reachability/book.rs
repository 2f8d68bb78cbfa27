//! What is known of each way: who answered how often in a row. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use troupe_net::iptables::Family;

use super::peers::Peer;

/// So many questions without an answer make a node unreachable: one packet may be lost.
pub const MISSES: u32 = 3;
/// After so many it counts as out of reach: a node that had died would not be Ready any more.
pub const OVERDUE: u32 = 20;
/// So many answers in a row make it reachable again.
pub const HITS: u32 = 2;

/// Who was asked in a round, and how long the answers took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Round {
    pub asked: BTreeSet<IpAddr>,
    pub answered: BTreeMap<IpAddr, Duration>,
}

/// What is known of one way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Track {
    /// Questions in a row without an answer, and when the first of them was asked.
    misses: u32,
    since: Option<Timestamp>,
    /// Answers in a row.
    hits: u32,
    /// It was unreachable, and has not answered often enough since.
    failed: bool,
    overdue: bool,
    /// How long the last answer took; `None` when the last question had none.
    pub rtt: Option<Duration>,
}

impl Track {
    /// It answers.
    pub fn is_reached(&self) -> bool {
        !self.failed && self.hits > 0
    }

    /// It is Ready, and was not heard for longer than a dead node is Ready.
    pub fn is_out_of_reach(&self) -> bool {
        self.overdue
    }

    /// Since when it does not answer.
    pub fn unreachable_since(&self) -> Option<Timestamp> {
        self.since.filter(|_| self.failed)
    }

    /// Takes a question in; says whether the way came to be out of reach (`Some(false)`) or was so and is reached again.
    fn note(&mut self, answer: Option<Duration>, now: Timestamp) -> Option<bool> {
        self.rtt = answer;
        if answer.is_none() {
            (self.hits, self.misses) = (0, self.misses.saturating_add(1));
            self.since = self.since.or(Some(now));
            self.failed |= self.misses >= MISSES;
            let was = self.overdue;
            self.overdue |= self.misses >= OVERDUE;
            return (self.overdue && !was).then_some(false);
        }
        (self.hits, self.misses) = (self.hits.saturating_add(1), 0);
        if self.failed && self.hits < HITS {
            return None;
        }
        (self.since, self.failed) = (None, false);
        std::mem::take(&mut self.overdue).then_some(true)
    }
}

/// A way that came to be out of reach, or back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub peer: Peer,
    pub reached: bool,
    /// Since when it is, or was, not reached.
    pub since: Option<Timestamp>,
}

/// All ways, by family and name of the other node.
#[derive(Clone, Debug, Default)]
pub struct Book(BTreeMap<(Family, Arc<str>), (Peer, Track)>);

impl Book {
    /// Takes a round in. Whoever is no peer any more, or is somewhere else, is forgotten.
    pub fn note(&mut self, peers: &[Peer], round: &Round, now: Timestamp) -> Vec<Change> {
        let mut before = std::mem::take(&mut self.0);
        let mut changes = Vec::new();
        for peer in peers {
            let key = (peer.family, peer.name.clone());
            let mut track = before.remove(&key).filter(|(known, _)| known == peer).map(|(_, track)| track).unwrap_or_default();
            if round.asked.contains(&peer.target) {
                let since = track.since;
                if let Some(reached) = track.note(round.answered.get(&peer.target).copied(), now) {
                    changes.push(Change { peer: peer.clone(), reached, since });
                }
            }
            self.0.insert(key, (peer.clone(), track));
        }
        changes
    }

    /// What is known of a way.
    pub fn of(&self, peer: &Peer) -> Option<&Track> {
        self.0.get(&(peer.family, peer.name.clone())).map(|(_, track)| track)
    }

    /// All ways of a family.
    pub fn family(&self, family: Family) -> impl Iterator<Item = (&Peer, &Track)> {
        self.0.values().filter(move |(peer, _)| peer.family == family).map(|(peer, track)| (peer, track))
    }
}

#[cfg(test)]
pub mod testing {
    use super::*;
    use crate::reachability::peers::Sight;

    /// Rounds in which all were asked and the nodes of these numbers answered; one a second.
    pub fn rounds(book: &mut Book, sight: &Sight, answering: &[u8], count: u32) -> Vec<Change> {
        let asked: BTreeSet<IpAddr> = sight.peers.iter().map(|peer| peer.target).collect();
        let answered = answering.iter().map(|number| (IpAddr::from([10, 244, *number, 1]), Duration::from_micros(200))).collect();
        let round = Round { asked, answered };
        (0..count).flat_map(|second| book.note(&sight.peers, &round, Timestamp::from_second(second.into()).expect("a time"))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::rounds, *};
    use crate::reachability::peers::testing::sight_of;

    #[test]
    fn a_lost_packet_changes_nothing_and_a_silent_node_is_told_of_once() {
        let (sight, mut book) = (sight_of(2), Book::default());
        let peer = &sight.peers[0];
        assert_eq!(rounds(&mut book, &sight, &[2], 1), []);
        rounds(&mut book, &sight, &[], MISSES - 1);
        assert_eq!(book.of(peer).expect("known").unreachable_since(), None);
        rounds(&mut book, &sight, &[], 1);
        assert_eq!(book.of(peer).expect("known").unreachable_since(), Some(Timestamp::UNIX_EPOCH));
        let changes = rounds(&mut book, &sight, &[], 2 * OVERDUE);
        assert_eq!(changes, [Change { peer: peer.clone(), reached: false, since: Some(Timestamp::UNIX_EPOCH) }]);
        // One answer may be chance.
        assert_eq!(rounds(&mut book, &sight, &[2], 1), []);
        assert!(!book.of(peer).expect("known").is_reached());
        assert_eq!(rounds(&mut book, &sight, &[2], 3).len(), 1);
        assert!(book.of(peer).expect("known").is_reached() && !book.of(peer).expect("known").is_out_of_reach());
    }

    #[test]
    fn what_nobody_could_ask_counts_neither_way() {
        let (sight, mut book) = (sight_of(2), Book::default());
        for _ in 0..2 * OVERDUE {
            assert_eq!(book.note(&sight.peers, &Round::default(), Timestamp::UNIX_EPOCH), []);
        }
        let track = book.of(&sight.peers[0]).expect("known");
        assert!(!track.is_reached() && !track.is_out_of_reach() && track.unreachable_since().is_none());
    }

    #[test]
    fn a_node_that_was_not_ready_begins_afresh() {
        let (sight, mut book) = (sight_of(2), Book::default());
        rounds(&mut book, &sight, &[], OVERDUE);
        assert!(book.of(&sight.peers[0]).expect("known").is_out_of_reach());
        book.note(&[], &Round::default(), Timestamp::UNIX_EPOCH);
        assert!(book.of(&sight.peers[0]).is_none());
        rounds(&mut book, &sight, &[], 1);
        assert!(!book.of(&sight.peers[0]).expect("known").is_out_of_reach());
    }
}
