//! What follows from what is known of the ways. Pure.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::NodeCondition, apimachinery::pkg::apis::meta::v1::Time};
use troupe_net::{iptables::Family, overlay::Via};

use super::book::{Book, Change};

/// The condition, as upstream names it.
pub const NETWORK_UNAVAILABLE: &str = "NetworkUnavailable";
const UNREACHABLE: &str = "PodNetworkUnreachable";
const REACHABLE: &str = "PodNetworkReachable";
/// Names that a message tells.
const NAMED: usize = 5;

/// How a node's network does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is too early to tell, or as many ways work as do not.
    Undecided,
    /// There is nobody to reach: no other node is Ready.
    Alone,
    /// At least half of the other nodes are reached, by each family.
    Reachable,
    /// More than half of them are out of reach.
    Unreachable { family: Family, out_of_reach: Vec<String>, asked: usize },
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Undecided => f.write_str("it is not decided yet whether pods of other nodes are reached"),
            Verdict::Alone => f.write_str("there is no other node that is ready"),
            Verdict::Reachable => f.write_str("pods of other nodes are reached"),
            Verdict::Unreachable { family, out_of_reach, asked } => {
                let named = out_of_reach.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
                let more = if out_of_reach.len() > NAMED { ", …" } else { "" };
                write!(f, "pods of {} of {asked} other nodes are out of reach ({}): {named}{more}", out_of_reach.len(), family.name())
            }
        }
    }
}

/// What the ways say together.
pub fn judge(book: &Book) -> Verdict {
    let mut verdict = Verdict::Alone;
    for family in Family::ALL {
        let tracks: Vec<_> = book.family(family).collect();
        if tracks.is_empty() {
            continue;
        }
        let out_of_reach: Vec<String> = tracks.iter().filter(|(_, track)| track.is_out_of_reach()).map(|(peer, _)| peer.name.to_string()).collect();
        if 2 * out_of_reach.len() > tracks.len() {
            return Verdict::Unreachable { family, out_of_reach, asked: tracks.len() };
        }
        let reached = tracks.iter().filter(|(_, track)| track.is_reached()).count();
        verdict = match verdict {
            Verdict::Alone | Verdict::Reachable if 2 * reached >= tracks.len() => Verdict::Reachable,
            _ => Verdict::Undecided,
        };
    }
    verdict
}

/// The condition to write; `None` when the one `before` says so already, or there is nothing to say.
pub fn condition(verdict: &Verdict, before: Option<&NodeCondition>, now: Timestamp) -> Option<NodeCondition> {
    let (status, reason) = match verdict {
        Verdict::Undecided => return None,
        // Whoever was alone from the beginning has nothing to take back.
        Verdict::Alone if before.is_none() => return None,
        Verdict::Alone => ("False", "NoOtherNodes"),
        Verdict::Reachable => ("False", REACHABLE),
        Verdict::Unreachable { .. } => ("True", UNREACHABLE),
    };
    if before.is_some_and(|before| before.status == status) {
        return None;
    }
    Some(NodeCondition {
        type_: NETWORK_UNAVAILABLE.into(),
        status: status.into(),
        reason: Some(reason.into()),
        message: Some(verdict.to_string()),
        last_heartbeat_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    })
}

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    pub warning: bool,
    pub reason: &'static str,
    pub message: String,
}

/// The event of a way that changed.
pub fn note_of(change: &Change, via: Option<Via>) -> Note {
    let Change { peer, reached, since } = change;
    let by = via.map(|via| format!(", {}", backend(via))).unwrap_or_default();
    let way = format!("pods of the node {} ({}{by})", peer.name, peer.family.name());
    let since = since.map(|since| format!(" since {}", whole_second(since))).unwrap_or_default();
    if *reached {
        return Note { warning: false, reason: REACHABLE, message: format!("{way} are reached again") };
    }
    Note { warning: true, reason: UNREACHABLE, message: format!("{way} are out of reach{since}, though it is Ready") }
}

/// The event of a condition that was written.
pub fn note_of_condition(condition: &NodeCondition, node: &str) -> Note {
    let unavailable = condition.status == "True";
    let reason = if unavailable { NETWORK_UNAVAILABLE } else { "NetworkAvailable" };
    let why = condition.message.clone().unwrap_or_default();
    Note { warning: unavailable, reason, message: format!("Node {node} status is now: {reason}: {why}") }
}

/// What leads there, as flannel names its backends.
pub fn backend(via: Via) -> &'static str {
    match via {
        Via::Link(_) => "route",
        Via::Tunnel(_) => "vxlan",
    }
}

fn whole_second(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reachability::{
        book::{OVERDUE, testing::rounds},
        peers::testing::sight_of,
    };

    /// The verdict of the first of so many nodes, when those of these numbers answer for long enough.
    fn verdict(nodes: u8, answering: &[u8]) -> Verdict {
        let (sight, mut book) = (sight_of(nodes), Book::default());
        rounds(&mut book, &sight, answering, OVERDUE);
        judge(&book)
    }

    fn is_unreachable(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Unreachable { .. })
    }

    #[test]
    fn a_single_dead_node_takes_no_other_one_out() {
        assert_eq!(verdict(3, &[2]), Verdict::Reachable);
        assert_eq!(verdict(4, &[2, 3]), Verdict::Reachable);
        assert_eq!(verdict(5, &[2, 3]), Verdict::Reachable, "half of them");
        assert!(is_unreachable(&verdict(5, &[2])));
        assert!(is_unreachable(&verdict(2, &[])));
        assert_eq!(verdict(1, &[]), Verdict::Alone);
    }

    #[test]
    fn nothing_is_decided_before_a_dead_node_would_be_known_as_dead() {
        let (sight, mut book) = (sight_of(2), Book::default());
        book.note(&sight.peers, &Default::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(judge(&book), Verdict::Undecided, "nobody was asked yet");
        rounds(&mut book, &sight, &[], OVERDUE - 1);
        assert_eq!(judge(&book), Verdict::Undecided);
        rounds(&mut book, &sight, &[], 1);
        let verdict = judge(&book);
        assert_eq!(verdict.to_string(), "pods of 1 of 1 other nodes are out of reach (IPv4): n2");
        rounds(&mut book, &sight, &[2], 1);
        assert!(is_unreachable(&judge(&book)), "one answer may be chance");
        rounds(&mut book, &sight, &[2], 1);
        assert_eq!(judge(&book), Verdict::Reachable);
        book.note(&[], &Default::default(), Timestamp::UNIX_EPOCH);
        assert_eq!(judge(&book), Verdict::Alone, "the other is not Ready any more");
    }

    #[test]
    fn the_condition_is_written_when_it_changes_and_planning_again_plans_nothing() {
        let now = Timestamp::UNIX_EPOCH;
        let unreachable = verdict(2, &[]);
        assert_eq!(condition(&Verdict::Alone, None, now), None, "a node alone says nothing");
        assert_eq!(condition(&Verdict::Undecided, None, now), None);
        let mut before = None;
        for (verdict, status, reason) in [
            (&unreachable, "True", UNREACHABLE),
            (&Verdict::Reachable, "False", REACHABLE),
            (&unreachable, "True", UNREACHABLE),
            (&Verdict::Alone, "False", "NoOtherNodes"),
        ] {
            let written = condition(verdict, before.as_ref(), now).expect("it changes");
            assert_eq!((written.status.as_str(), written.reason.as_deref()), (status, Some(reason)));
            assert_eq!(condition(verdict, Some(&written), now), None);
            assert_eq!(condition(&Verdict::Undecided, Some(&written), now), None, "what is said stays");
            before = Some(written);
        }
    }

    #[test]
    fn events_tell_whom_by_which_way_and_since_when() {
        let sight = sight_of(2);
        let mut change = Change { peer: sight.peers[0].clone(), reached: false, since: Some(Timestamp::UNIX_EPOCH) };
        let note = note_of(&change, Some(Via::Tunnel([10, 244, 2, 0].into())));
        assert_eq!(note.message, "pods of the node n2 (IPv4, vxlan) are out of reach since 1970-01-01T00:00:00Z, though it is Ready");
        change.reached = true;
        assert_eq!(note_of(&change, None).message, "pods of the node n2 (IPv4) are reached again");
    }
}
