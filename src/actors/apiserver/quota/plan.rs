//! Judges charges against the quotas they concern. Pure.

use std::collections::BTreeMap;

use troupe_api::{
    meta::{Revision, amounts::Amounts},
    quota::{self, Demand},
    status::Status,
};

/// A quota as far as charges concern it.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    pub hard: Amounts,
    pub used: Amounts,
}

/// Why a charge was not taken.
#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
    Exceeded(String),
    Failed(Status),
}

/// Takes charges in their order, each wholly or not at all; `accounts` hold what is used afterwards.
/// Demands on quotas that are gone cost nothing. A charge that is not enforced may overdraw.
pub fn judge(accounts: &mut BTreeMap<String, Account>, charges: &[(&[Demand], bool)]) -> Vec<Result<(), Refusal>> {
    charges.iter().map(|(demands, enforce)| take(accounts, demands, *enforce)).collect()
}

fn take(accounts: &mut BTreeMap<String, Account>, demands: &[Demand], enforce: bool) -> Result<(), Refusal> {
    for demand in demands.iter().filter(|_| enforce) {
        let Some(account) = accounts.get(&demand.quota) else { continue };
        let amounts = demand.amounts.masked(&account.hard);
        if let Some(why) = quota::exceeded(&demand.quota, &amounts, &account.used, &account.hard) {
            return Err(Refusal::Exceeded(why));
        }
    }
    for demand in demands {
        if let Some(account) = accounts.get_mut(&demand.quota) {
            account.used.add(&demand.amounts.masked(&account.hard));
        }
    }
    Ok(())
}

/// A run of our own writes to one quota with nobody else's in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    first: Revision,
    last: Revision,
}

impl Chain {
    /// The chain after a write of ours that replaced `replaced` with `written`.
    pub fn extend(chain: Option<Chain>, replaced: Revision, written: Revision) -> Chain {
        match chain {
            Some(chain) if chain.last == replaced => Chain { last: written, ..chain },
            _ => Chain { first: written, last: written },
        }
    }

    /// Whether what was charged at `charged` can be taken off `current`: only if nobody counted since, for a count
    /// does not include what never came to be.
    pub fn covers(&self, charged: Revision, current: Revision) -> bool {
        self.first <= charged && self.last == current
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn amounts(pods: &str) -> Amounts {
        Amounts::read(Some(&json!({"pods": pods})))
    }

    fn accounts(used: [&str; 2]) -> BTreeMap<String, Account> {
        ["a", "b"].into_iter().zip(used).map(|(name, used)| (name.to_owned(), Account { hard: amounts("2"), used: amounts(used) })).collect()
    }

    fn demand(quota: &str) -> Demand {
        Demand { quota: quota.into(), amounts: amounts("1") }
    }

    #[test]
    fn the_last_unit_is_spent_once() {
        let mut accounts = accounts(["1", "0"]);
        let demands = [demand("a")];
        let verdicts = judge(&mut accounts, &[(&demands, true), (&demands, true)]);
        assert_eq!(verdicts[0], Ok(()));
        assert_eq!(verdicts[1], Err(Refusal::Exceeded("exceeded quota: a, requested: pods=1, used: pods=2, limited: pods=2".into())));
    }

    #[test]
    fn a_charge_that_one_quota_refuses_costs_the_others_nothing() {
        let mut accounts = accounts(["0", "2"]);
        let both = [demand("a"), demand("b")];
        assert!(judge(&mut accounts, &[(&both, true)])[0].is_err());
        assert_eq!(accounts["a"].used, amounts("0"));
    }

    #[test]
    fn what_is_not_enforced_may_overdraw_and_quotas_that_are_gone_cost_nothing() {
        let mut accounts = accounts(["2", "0"]);
        let demands = [demand("a"), demand("gone")];
        assert_eq!(judge(&mut accounts, &[(&demands, false)]), [Ok(())]);
        assert_eq!(accounts["a"].used, amounts("3"));
    }

    #[test]
    fn refunds_need_an_unbroken_chain() {
        let chain = Chain::extend(None, Revision(1), Revision(2));
        let chain = Chain::extend(Some(chain), Revision(2), Revision(5));
        assert!(chain.covers(Revision(2), Revision(5)));
        assert!(!chain.covers(Revision(2), Revision(6)), "somebody wrote since");
        let broken = Chain::extend(Some(chain), Revision(6), Revision(7));
        assert!(!broken.covers(Revision(5), Revision(7)), "somebody wrote in between");
    }
}
