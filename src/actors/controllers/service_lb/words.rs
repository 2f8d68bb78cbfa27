//! Which of what nodes say about addresses counts: that somebody answers for one who is none of the cluster's machines. Pure.
//!
//! What two nodes say counts for as long as they say it, and so does what the only node says that may announce. One node's word alone counts
//! for a while only, since whoever owns a node may have it say anything: after that the address may be given again, after all others. Saying
//! it no more and saying it again begins no new while.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

/// For how long the word of one node alone counts. Others look at what it names meanwhile, within a minute or two.
const ALONE: SignedDuration = SignedDuration::from_mins(10);
/// For how long it is known that it was said.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(1);
/// More words of nodes alone are not kept: what is said beyond them does not count.
const MOST: usize = 65_536;

/// Who says what now: the addresses of each node that may announce.
pub type Said = [(Arc<str>, BTreeSet<IpAddr>)];

/// When a node said first, and last, that somebody answers for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Word {
    first: Timestamp,
    last: Timestamp,
}

/// What was said, and when. Lost with the process: what one node says alone counts for another while then.
#[derive(Debug, Default)]
pub struct Words {
    known: BTreeMap<(IpAddr, Arc<str>), Word>,
}

/// What follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Given to nobody, and taken from who has them.
    pub answered: BTreeSet<IpAddr>,
    /// Given where no others are left, and left to who has them.
    pub doubted: BTreeSet<IpAddr>,
}

impl Words {
    /// Judges what is said now. `is_only` where no more than one node may announce.
    pub fn judge(&mut self, said: &Said, is_only: bool, now: Timestamp) -> Verdict {
        let mut by_address: BTreeMap<IpAddr, Vec<&Arc<str>>> = BTreeMap::new();
        for (node, addresses) in said {
            for address in addresses {
                by_address.entry(*address).or_default().push(node);
            }
        }
        let mut verdict = Verdict::default();
        for (address, nodes) in by_address {
            // Each word is noted: another node's may end.
            let mut is_so = is_only || nodes.len() > 1;
            for node in nodes {
                is_so |= self.counts(address, node, now);
            }
            if is_so {
                verdict.answered.insert(address)
            } else {
                verdict.doubted.insert(address)
            };
        }
        self.known.retain(|_, word| now.duration_since(word.last) < REMEMBERED);
        verdict
    }

    /// Whether a node's word alone still counts.
    fn counts(&mut self, address: IpAddr, node: &Arc<str>, now: Timestamp) -> bool {
        let key = (address, node.clone());
        if let Some(word) = self.known.get_mut(&key) {
            word.last = now;
            return now.duration_since(word.first) < ALONE;
        }
        let has_room = self.known.len() < MOST;
        if has_room {
            self.known.insert(key, Word { first: now, last: now });
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(60 * minute).expect("a time")
    }

    fn address() -> IpAddr {
        [192, 0, 2, 10].into()
    }

    fn said(nodes: &[&str]) -> Vec<(Arc<str>, BTreeSet<IpAddr>)> {
        nodes.iter().map(|node| ((*node).into(), BTreeSet::from([address()]))).collect()
    }

    fn is_answered(words: &mut Words, nodes: &[&str], minute: i64) -> bool {
        let verdict = words.judge(&said(nodes), false, at(minute));
        assert_eq!(verdict.answered.len() + verdict.doubted.len(), usize::from(!nodes.is_empty()), "it is one of both");
        !verdict.answered.is_empty()
    }

    #[test]
    fn one_nodes_word_counts_for_a_while_and_two_nodes_words_for_as_long_as_they_are_said() {
        let mut words = Words::default();
        assert!(is_answered(&mut words, &["a"], 0) && is_answered(&mut words, &["a"], 9));
        assert!(!is_answered(&mut words, &["a"], 10));
        assert!(is_answered(&mut words, &["a", "b"], 30) && is_answered(&mut words, &["a", "b"], 300));
        assert!(!is_answered(&mut words, &["b"], 301), "it has said so for long");
        assert!(!is_answered(&mut words, &[], 302));
    }

    #[test]
    fn a_word_that_is_taken_back_and_given_again_counts_no_longer_for_that() {
        let mut words = Words::default();
        assert!(is_answered(&mut words, &["a"], 0));
        assert!(!is_answered(&mut words, &[], 5));
        assert!(!is_answered(&mut words, &["a"], 12), "the while is over");
        assert!(!is_answered(&mut words, &[], 72));
        assert!(is_answered(&mut words, &["a"], 73), "that was an hour ago");
    }

    #[test]
    fn the_only_node_that_may_announce_is_believed() {
        let mut words = Words::default();
        for minute in [0, 10, 600] {
            let verdict = words.judge(&said(&["a"]), true, at(minute));
            assert_eq!(verdict, Verdict { answered: [address()].into(), ..Verdict::default() });
        }
    }
}
