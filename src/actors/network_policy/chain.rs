//! The chains of a pod and a direction.
//!
//! ```text
//! administrators' first rules ─► network policies, where one isolates the pod ─► drop
//!                            └─► else the baseline ─► pass
//! ```
//!
//! What it sends its own node is not the matter of network policies: of that, administrators' rules alone decide.
//!
//! What is let through returns. A rule that passes on to the next tier goes to a chain of its own for the rest, where there is such a rule.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use troupe_net::iptables::{End, Family, RuleSet, SetKind};

use super::{
    cluster::{Action, ClusterPolicyView, ClusterRule, HOME},
    deciding::Tiers,
    layout::TABLE,
    model::{Direction, PeerSet, Peers, PodView, PortMatch, RuleView},
    names,
};

/// Bytes of a comment; the kernel takes up to 255.
const LONGEST_COMMENT: usize = 200;

/// What a rule matches, before and behind its comment.
type Match = (String, String);

/// A line of a chain, without its target.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    matched: Match,
    comment: String,
    action: Action,
}

impl Line {
    fn text(&self, target: &str) -> String {
        let (before, after) = &self.matched;
        format!("{before}-m comment --comment \"{}\"{after} {target}", short(&self.comment))
    }
}

/// Writes the chains of a pod and a direction.
pub struct PodChain<'a> {
    pod: &'a PodView,
    direction: Direction,
    family: Family,
    rules: &'a mut RuleSet,
    /// The sets that lines refer to.
    sets: BTreeSet<(String, SetKind)>,
}

const RETURN: &str = "-j RETURN";
const DROP: &str = "-j DROP";

impl<'a> PodChain<'a> {
    pub fn new(pod: &'a PodView, direction: Direction, family: Family, rules: &'a mut RuleSet) -> Self {
        PodChain { pod, direction, family, rules, sets: BTreeSet::new() }
    }

    /// What the tiers say.
    pub fn write(mut self, tiers: &Tiers<'_>) {
        let admin = self.cluster_lines(&tiers.admin);
        let rest: Vec<String> = match &tiers.isolating {
            Some(allowed) => self.isolated(allowed.iter().map(|(policy, rule)| (policy.key.to_string(), &policy.key.namespace, *rule))),
            None => {
                self.cluster_lines(&tiers.baseline).iter().map(|line| line.text(if line.action == Action::Deny { DROP } else { RETURN })).collect()
            }
        };
        self.lead_to_node(tiers.isolating.is_some(), &admin, &rest);
        self.put(&admin, rest);
    }

    /// Leads what goes to the node itself to administrators' rules.
    fn lead_to_node(&mut self, isolated: bool, admin: &[Line], rest: &[String]) {
        let ips: Vec<IpAddr> = self.pod.ips_of(self.family).collect();
        let has_rules = !admin.is_empty() || !(isolated || rest.is_empty());
        if self.direction == Direction::Ingress || ips.is_empty() || !has_rules {
            return;
        }
        // Where nobody isolates the pod, the chain of what it sends others has no rules but administrators'.
        let chain = if isolated { names::to_node_chain(&self.pod.key) } else { names::pod_chain(self.direction, &self.pod.key) };
        for ip in ips {
            let lead = format!("-s {ip}/{} -j {chain}", self.family.host_prefix());
            self.rules.line(TABLE, &names::to_node_dispatch_chain(ip), End::Head, lead);
        }
        for line in admin.iter().filter(|_| isolated) {
            self.rules.push(TABLE, &chain, line.text(if line.action == Action::Deny { DROP } else { RETURN }));
        }
    }

    /// Nothing passes.
    pub fn close(mut self) {
        let rest = self.isolated(std::iter::empty());
        self.put(&[], rest);
    }

    fn put(self, admin: &[Line], rest: Vec<String>) {
        let ips: Vec<IpAddr> = self.pod.ips_of(self.family).collect();
        if ips.is_empty() || (admin.is_empty() && rest.is_empty()) {
            return;
        }
        let (chain, next) = (names::pod_chain(self.direction, &self.pod.key), names::next_tier_chain(self.direction, &self.pod.key));
        let end = if self.direction == Direction::Egress { "-s" } else { "-d" };
        for ip in &ips {
            let lead = format!("{end} {ip}/{} -j {chain}", self.family.host_prefix());
            self.rules.line(TABLE, &names::dispatch_chain(self.direction, *ip), End::Head, lead);
        }
        let onward = format!("-g {next}");
        let is_apart = !rest.is_empty() && admin.iter().any(|line| line.action == Action::Pass);
        for line in admin {
            let target = match line.action {
                Action::Deny => DROP,
                Action::Pass if is_apart => onward.as_str(),
                Action::Accept | Action::Pass => RETURN,
            };
            self.rules.push(TABLE, &chain, line.text(target));
        }
        if is_apart {
            self.rules.push(TABLE, &chain, onward.as_str());
        }
        let last = if is_apart { &next } else { &chain };
        rest.into_iter().for_each(|rule| self.rules.push(TABLE, last, rule));
        self.sets.into_iter().for_each(|(name, kind)| self.rules.set(&name, kind));
    }

    /// What network policies come to: what they allow, and no more. Nothing where one of them allows everything.
    fn isolated<'r>(&mut self, allowed: impl Iterator<Item = (String, &'r Arc<str>, &'r RuleView)>) -> Vec<String> {
        let (mut lines, mut sets) = (Vec::new(), BTreeSet::new());
        for (comment, home, rule) in allowed {
            if rule.ports.is_none() && rule.peers == Peers::Everybody {
                // Whatever the other rules say.
                return Vec::new();
            }
            let (matches, of_rule) = self.matches(rule, home);
            sets.extend(of_rule);
            lines.extend(matches.into_iter().map(|matched| Line { matched, comment: comment.clone(), action: Action::Accept }));
        }
        self.sets.extend(sets);
        let other = if self.direction == Direction::Egress { "-d" } else { "-s" };
        // No pod is kept from itself.
        let own = self.pod.ips_of(self.family).map(|ip| format!("{other} {ip}/{} {RETURN}", self.family.host_prefix()));
        let last = format!("{} is isolated", self.pod.key);
        let last = format!("-m comment --comment \"{}\" {DROP}", short(&last));
        own.chain(distinct(lines).iter().map(|line| line.text(RETURN))).chain([last]).collect()
    }

    /// The lines of administrators' rules of a tier.
    fn cluster_lines(&mut self, rules: &[(&ClusterPolicyView, &ClusterRule)]) -> Vec<Line> {
        let (home, mut lines) = (HOME.into(), Vec::new());
        let direction = if self.direction == Direction::Egress { "egress" } else { "ingress" };
        for (policy, rule) in rules {
            let comment = format!("{} {direction} rule {} of {}: {}", policy.tier.name(), rule.number, policy.name, rule.action.name());
            let (matches, sets) = self.matches(&rule.rule, &home);
            self.sets.extend(sets);
            lines.extend(matches.into_iter().map(|matched| Line { matched, comment: comment.clone(), action: rule.action }));
        }
        distinct(lines)
    }

    /// What a rule is about, as matches before and behind the comment, and the sets that they refer to.
    fn matches(&self, rule: &RuleView, home: &Arc<str>) -> (Vec<Match>, Vec<(String, SetKind)>) {
        let (mut matches, mut sets) = (Vec::new(), Vec::new());
        let end = if self.direction == Direction::Egress { "dst" } else { "src" };
        for set in rule.peer_sets(self.direction, home) {
            let name = names::set(self.family, &set.id());
            match set.kind() {
                SetKind::AddressPort => matches.push((format!("-m set --match-set {name} dst,dst "), String::new())),
                SetKind::Net => {
                    // Of the addresses of its machine the kernel knows more than the API.
                    let elsewhere = if matches!(set, PeerSet::Domain(_)) { "-m addrtype ! --dst-type LOCAL " } else { "" };
                    matches.extend(self.ports(rule).into_iter().map(|port| {
                        let (protocol, port) = port.unwrap_or_default();
                        (format!("{protocol}{elsewhere}-m set --match-set {name} {end} "), port)
                    }));
                }
            }
            sets.push((name, set.kind()));
        }
        if rule.peers == Peers::Everybody {
            matches.extend(self.ports(rule).into_iter().map(Option::unwrap_or_default));
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

/// What was matched before is decided already.
fn distinct(mut lines: Vec<Line>) -> Vec<Line> {
    let mut seen = BTreeSet::new();
    lines.retain(|line| seen.insert(line.matched.clone()));
    lines
}

fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(LONGEST_COMMENT)]
}
