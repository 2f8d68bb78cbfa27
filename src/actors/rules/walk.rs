//! Walks the chains of planned rules with a packet, as the kernel would. Pure.

use std::net::SocketAddr;

use troupe_net::iptables::{ChainId, End, RuleSet, Table};

use super::matching::{Matched, Passing, Target, UnknownMatch, masked, matched};

/// The rule that decided.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    pub chain: String,
    /// What the rule says of itself.
    pub comment: String,
}

/// Why nothing can be said.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimulationError {
    #[error(transparent)]
    Match(#[from] UnknownMatch),
    #[error("there is no chain {0}")]
    Chain(String),
    #[error("chains lead in a circle")]
    Circle,
}

/// How a packet leaves a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// To whoever led there.
    Returned,
    /// No further rule of the table is asked.
    Accepted,
    Dropped(Hit),
    /// Dropped, and its sender is told.
    Refused(Hit),
}

/// Rules that lead to rules.
const DEEPEST: usize = 16;

/// A packet among rules.
pub struct Walk<'a> {
    rules: &'a RuleSet,
    pub passing: Passing<'a>,
    /// Decides where a rule leaves it to chance; `None` where that cannot be.
    chance: &'a mut dyn FnMut() -> Option<bool>,
    /// The rules that let it through, if any had to.
    pub passed: Vec<Hit>,
}

impl<'a> Walk<'a> {
    pub fn new(rules: &'a RuleSet, passing: Passing<'a>, chance: &'a mut dyn FnMut() -> Option<bool>) -> Self {
        Walk { rules, passing, chance, passed: Vec::new() }
    }

    /// Goes through a chain and all that it leads to.
    ///
    /// # Errors
    /// When a rule is not understood, or chains are not there or lead in a circle.
    pub fn chain(&mut self, table: Table, name: &str) -> Result<Ending, SimulationError> {
        self.descend(table, name, 0)
    }

    fn descend(&mut self, table: Table, name: &str, depth: usize) -> Result<Ending, SimulationError> {
        if depth > DEEPEST {
            return Err(SimulationError::Circle);
        }
        for rule in self.content(table, name)? {
            let Some(Matched { target, comment, by_chance }) = matched(rule, &self.passing, self.rules)? else { continue };
            if by_chance && !(self.chance)().ok_or_else(|| UnknownMatch(rule.to_owned()))? {
                continue;
            }
            let hit = || Hit { chain: name.to_owned(), comment: comment.to_owned() };
            match target.name {
                "RETURN" => {
                    self.passed.extend((!comment.is_empty()).then(hit));
                    return Ok(Ending::Returned);
                }
                "ACCEPT" => return Ok(Ending::Accepted),
                "DROP" => return Ok(Ending::Dropped(hit())),
                "REJECT" => return Ok(Ending::Refused(hit())),
                "MARK" | "DNAT" | "MASQUERADE" => {
                    if self.change(&target).ok_or_else(|| UnknownMatch(rule.to_owned()))? {
                        return Ok(Ending::Accepted);
                    }
                }
                next if target.is_goto => return self.descend(table, next, depth + 1),
                next => match self.descend(table, next, depth + 1)? {
                    Ending::Returned => {}
                    ending => return Ok(ending),
                },
            }
        }
        Ok(Ending::Returned)
    }

    /// Does to the packet what a target does; true when no further rule of the table is asked.
    fn change(&mut self, target: &Target<'_>) -> Option<bool> {
        let passing = &mut self.passing;
        match target.name {
            "MARK" => {
                let (value, mask) = masked(target.argument)?;
                passing.mark = (passing.mark & !mask) ^ value;
                Some(false)
            }
            "DNAT" => {
                let to: SocketAddr = target.argument.parse().ok()?;
                (passing.packet.destination, passing.packet.port, passing.is_translated) = (to.ip(), Some(to.port()), true);
                Some(true)
            }
            _ => {
                passing.is_masqueraded = true;
                Some(true)
            }
        }
    }

    /// The rules of a chain in their order: lines at its head come before those at its end.
    fn content(&self, table: Table, name: &str) -> Result<Vec<&'a str>, SimulationError> {
        let (id, all) = (ChainId::new(table, name), self.rules);
        if let Some(rules) = all.chains.get(&id) {
            return Ok(rules.iter().map(String::as_str).collect());
        }
        let at = |end: End| all.lines.iter().filter(move |line| line.end == end);
        let lines: Vec<&str> = at(End::Head).chain(at(End::Tail)).filter(|line| line.chain == id).map(|line| line.rule.as_str()).collect();
        if lines.is_empty() && !all.shared.contains(&id) { Err(SimulationError::Chain(name.to_owned())) } else { Ok(lines) }
    }
}
