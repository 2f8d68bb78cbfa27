//! From policies to rules. Pure.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use troupe_net::iptables::{End, Family, RuleSet, SetKind, net_entries};

use super::{
    layout::TABLE,
    model::{Direction, PeerSet, Peers, PodView, PolicyView, PortMatch, RuleView},
    names,
};

/// Bytes of a comment; the kernel takes up to 255.
const LONGEST_COMMENT: usize = 200;

/// What a rule matches, before and behind its comment.
type Match = (String, String);

/// The rules of a pod of this node, of all policies of its namespace. A pod that no policy isolates has none.
pub fn pod_rules(pod: &PodView, policies: &[Arc<PolicyView>], family: Family) -> RuleSet {
    let mut rules = RuleSet::default();
    let chosen: Vec<&PolicyView> = policies.iter().map(Arc::as_ref).filter(|policy| policy.selects(pod)).collect();
    for direction in [Direction::Egress, Direction::Ingress] {
        let mut isolating = chosen.iter().filter_map(|policy| Some((*policy, policy.rules(direction)?))).peekable();
        if isolating.peek().is_some() {
            PodChain { pod, direction, family, rules: &mut rules }.write(isolating);
        }
    }
    rules
}

/// The rules of a pod about which nothing is known but that it must not be open: only its own node reaches it.
pub fn closed(pod: &PodView, family: Family) -> RuleSet {
    let mut rules = RuleSet::default();
    for direction in [Direction::Egress, Direction::Ingress] {
        PodChain { pod, direction, family, rules: &mut rules }.write(std::iter::empty());
    }
    rules
}

/// A set with its entries. Entries of pods come from the slices that tell of them.
pub fn peer_rules(set: &PeerSet, pods: impl IntoIterator<Item = String>, family: Family) -> RuleSet {
    let name = names::set(family, &set.id());
    let mut rules = RuleSet::default();
    rules.set(&name, set.kind());
    match set {
        PeerSet::Blocks(blocks) => {
            let ours = blocks.iter().filter(|block| family.has(block.ip()));
            ours.flat_map(|block| net_entries(*block)).for_each(|entry| rules.member(&name, entry));
        }
        PeerSet::Pods(_) | PeerSet::Ports(..) => pods.into_iter().for_each(|entry| rules.member(&name, entry)),
    }
    rules
}

/// Writes the chain of a pod and a direction.
struct PodChain<'a> {
    pod: &'a PodView,
    direction: Direction,
    family: Family,
    rules: &'a mut RuleSet,
}

impl PodChain<'_> {
    fn write<'p>(&mut self, isolating: impl Iterator<Item = (&'p PolicyView, &'p [RuleView])>) {
        let (mut matches, mut sets) = (Vec::new(), BTreeSet::new());
        for (policy, rules) in isolating {
            for rule in rules {
                if rule.ports.is_none() && rule.peers == Peers::Everybody {
                    // Whatever the other rules say.
                    return;
                }
                let (of_rule, of_sets) = self.matches(rule, &policy.key.namespace);
                sets.extend(of_sets);
                matches.extend(of_rule.into_iter().map(|(selector, ports)| (selector, ports, policy.key.to_string())));
            }
        }
        let chain = names::pod_chain(self.direction, &self.pod.key);
        let (own, other) = if self.direction == Direction::Egress { ("-s", "-d") } else { ("-d", "-s") };
        let ips: Vec<IpAddr> = self.pod.ips_of(self.family).collect();
        if ips.is_empty() {
            return;
        }
        for ip in &ips {
            // No pod is kept from itself.
            self.rules.push(TABLE, &chain, format!("{other} {ip}/{} -j RETURN", self.family.host_prefix()));
            let lead = format!("{own} {ip}/{} -j {chain}", self.family.host_prefix());
            self.rules.line(TABLE, &names::dispatch_chain(self.direction, *ip), End::Head, lead);
        }
        let mut seen = BTreeSet::new();
        for (before, after, policy) in matches {
            if seen.insert((before.clone(), after.clone())) {
                self.rules.push(TABLE, &chain, format!("{before}-m comment --comment \"{}\"{after} -j RETURN", short(&policy)));
            }
        }
        let last = format!("{} is isolated", self.pod.key);
        self.rules.push(TABLE, &chain, format!("-m comment --comment \"{}\" -j DROP", short(&last)));
        sets.into_iter().for_each(|(name, kind)| self.rules.set(&name, kind));
    }

    /// What the rule lets through, as matches before and behind the comment, and the sets that they refer to.
    fn matches(&self, rule: &RuleView, home: &Arc<str>) -> (Vec<Match>, Vec<(String, SetKind)>) {
        let (mut matches, mut sets) = (Vec::new(), Vec::new());
        let end = if self.direction == Direction::Egress { "dst" } else { "src" };
        for set in rule.peer_sets(self.direction, home) {
            let name = names::set(self.family, &set.id());
            match set.kind() {
                SetKind::AddressPort => matches.push((format!("-m set --match-set {name} dst,dst "), String::new())),
                SetKind::Net => matches.extend(self.ports(rule).into_iter().map(|port| {
                    let (protocol, port) = port.unwrap_or_default();
                    (format!("{protocol}-m set --match-set {name} {end} "), port)
                })),
            }
            sets.push((name, set.kind()));
        }
        if rule.peers == Peers::Everybody {
            matches.extend(self.ports(rule).into_iter().flatten());
        }
        (matches, sets)
    }

    /// The rule's ports, as matches before and behind others; one `None` where it is about all.
    fn ports(&self, rule: &RuleView) -> Vec<Option<Match>> {
        let Some(ports) = &rule.ports else { return vec![None] };
        let one = |protocol: &str, first: u16, last: u16| {
            let numbers = if first == last { first.to_string() } else { format!("{first}:{last}") };
            Some((format!("-p {protocol} "), format!(" -m {protocol} --dport {numbers}")))
        };
        let mut matches = Vec::new();
        for port in ports {
            match port {
                PortMatch::All(protocol) => matches.push(Some((format!("-p {} ", protocol.lower()), String::new()))),
                PortMatch::Range(protocol, first, last) => matches.push(one(protocol.lower(), *first, *last)),
                // Going out it is in a set with the pods that have it.
                PortMatch::Named(..) if self.direction == Direction::Egress => {}
                PortMatch::Named(protocol, name) => {
                    matches.extend(self.pod.numbers(name, *protocol).into_iter().map(|port| one(protocol.lower(), port, port)));
                }
            }
        }
        matches
    }
}

fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_COMMENT)]
}
