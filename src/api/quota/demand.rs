//! What a write costs each quota of its namespace.

use super::{Evaluator, hard, scopes, used};
use crate::meta::{Object, amounts::Amounts, operation::Operation};

/// A write on its way to the commit.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    pub evaluator: &'a Evaluator,
    pub operation: Operation,
    pub new: &'a Object,
    /// The object as it is stored, for updates.
    pub old: Option<&'a Object>,
}

/// What one quota is to be charged.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// The quota's name.
    pub quota: String,
    pub amounts: Amounts,
}

/// What a write costs each quota it counts against; nothing where it costs nothing more than before.
///
/// # Errors
/// Why the write is forbidden whatever room there is, in upstream's words.
pub fn demands(quotas: &[Object], write: Write<'_>, now: jiff::Timestamp) -> Result<Vec<Demand>, String> {
    let mut concerned = Vec::new();
    for quota in quotas {
        if is_concerned(quota, write) {
            check(quota, write)?;
            concerned.push(quota);
        }
    }
    let cost = write.evaluator.cost(write.new, now);
    let negative = cost.negative();
    if !negative.is_empty() {
        return Err(format!("quota usage is negative for resource(s): {}", negative.join(",")));
    }
    let demands = concerned.into_iter().map(|quota| Demand { quota: quota.name().to_owned(), amounts: demand(quota, write, &cost, now) });
    Ok(demands.filter(|demand| !demand.amounts.is_empty()).collect())
}

pub(super) fn in_scope(quota: &Object, evaluator: &Evaluator, object: &Object) -> bool {
    scopes::of(quota).iter().all(|scope| evaluator.in_scope(scope, object))
}

pub(super) fn is_concerned(quota: &Object, write: Write<'_>) -> bool {
    hard(quota).names().any(|name| write.evaluator.tracks(name)) && in_scope(quota, write.evaluator, write.new)
}

fn check(quota: &Object, write: Write<'_>) -> Result<(), String> {
    let tracked = hard(quota).only(|name| write.evaluator.tracks(name));
    if let Some(missing) = write.evaluator.missing(tracked.names(), write.new) {
        return Err(format!("failed quota: {}: {missing}", quota.name()));
    }
    let known = used(quota);
    if tracked.names().any(|name| known.get(name).is_none()) {
        let names: Vec<&str> = tracked.names().collect();
        return Err(format!("status unknown for quota: {}, resources: {}", quota.name(), names.join(",")));
    }
    Ok(())
}

/// An update costs what it adds, if the object counted against this quota before.
fn demand(quota: &Object, write: Write<'_>, cost: &Amounts, now: jiff::Timestamp) -> Amounts {
    let counted = |old: &&Object| write.operation == Operation::Update && in_scope(quota, write.evaluator, old);
    let more = match write.old.filter(counted) {
        Some(old) => cost.less(&write.evaluator.cost(old, now)),
        None => cost.clone(),
    };
    more.without_zeros().masked(&hard(quota))
}

/// The refusal when `demand` on top of `used` is more than `hard` allows.
pub fn exceeded(quota: &str, demand: &Amounts, used: &Amounts, hard: &Amounts) -> Option<String> {
    let mut sum = used.clone();
    sum.add(demand);
    let sum = sum.masked(demand);
    let over = sum.above(hard);
    if over.is_empty() {
        return None;
    }
    let part = |amounts: &Amounts| amounts.only(|name| over.contains(&name));
    Some(format!("exceeded quota: {quota}, requested: {}, used: {}, limited: {}", part(demand), part(used), part(hard)))
}
