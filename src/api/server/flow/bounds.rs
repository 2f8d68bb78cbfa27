//! How many requests of each priority level may be in work at once. Pure.

use k8s_openapi::api::flowcontrol::v1::PriorityLevelConfiguration;

/// Upstream's default of `nominalConcurrencyShares` of a limited level.
const DEFAULT_SHARES: u64 = 30;

/// The seats of one priority level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The level's own.
    pub nominal: usize,
    /// Of these, other levels may use so many while they are free.
    pub lendable: usize,
    /// With what it borrows it never has more.
    pub most: usize,
    /// Where requests wait for a seat; none where the level rejects at once.
    pub queuing: Option<Queuing>,
    /// Requests are never held back.
    pub exempt: bool,
}

/// The queues of one priority level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queuing {
    pub queues: u64,
    /// The queues among which a flow has the choice.
    pub hand: usize,
    /// Requests that wait in one queue at most.
    pub length: usize,
}

/// A flow has the choice among so many queues at most: more would hold the lock of the level for longer.
const LARGEST_HAND: u64 = 32;

/// The bounds of all levels together, in their order, when the server has `seats`.
pub fn bounds(levels: &[&PriorityLevelConfiguration], seats: usize) -> Vec<Bounds> {
    let all = levels.iter().map(|level| shares(level)).sum::<u64>().max(1);
    levels.iter().map(|level| bounds_of(level, seats, all)).collect()
}

fn is_exempt(level: &PriorityLevelConfiguration) -> bool {
    level.spec.as_ref().is_some_and(|spec| spec.type_ == "Exempt")
}

fn shares(level: &PriorityLevelConfiguration) -> u64 {
    let spec = level.spec.as_ref();
    let (given, default) = match is_exempt(level) {
        true => (spec.and_then(|spec| spec.exempt.as_ref()?.nominal_concurrency_shares), 0),
        false => (spec.and_then(|spec| spec.limited.as_ref()?.nominal_concurrency_shares), DEFAULT_SHARES),
    };
    given.map_or(default, |shares| u64::try_from(shares).unwrap_or(0))
}

fn bounds_of(level: &PriorityLevelConfiguration, seats: usize, all: u64) -> Bounds {
    let spec = level.spec.as_ref();
    let (limited, exempt) = (spec.and_then(|spec| spec.limited.as_ref()), spec.and_then(|spec| spec.exempt.as_ref()));
    let nominal = (seats as u64).saturating_mul(shares(level)).div_ceil(all);
    let percent = |percent: i32| nominal.saturating_mul(u64::try_from(percent).unwrap_or(0)).saturating_add(50) / 100;
    let lendable = limited.and_then(|limited| limited.lendable_percent).or(exempt.and_then(|exempt| exempt.lendable_percent)).unwrap_or(0);
    let borrowed = limited.and_then(|limited| limited.borrowing_limit_percent).map_or(seats as u64, percent);
    let queuing = limited.and_then(|limited| limited.limit_response.as_ref()).and_then(|response| response.queuing.as_ref());
    let whole = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Bounds {
        nominal: whole(nominal),
        lendable: whole(percent(lendable).min(nominal)),
        most: whole(nominal.saturating_add(borrowed)),
        queuing: queuing.map(|queuing| {
            let number = |given: Option<i32>, default: u64| given.map_or(default, |given| u64::try_from(given).unwrap_or(0).max(1));
            let queues = number(queuing.queues, 64);
            let hand = number(queuing.hand_size, 8).min(queues).min(LARGEST_HAND);
            Queuing { queues, hand: whole(hand), length: whole(number(queuing.queue_length_limit, 50)) }
        }),
        exempt: is_exempt(level),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use troupe_api::resources::flow_bootstrap::objects;

    fn typed(value: serde_json::Value) -> PriorityLevelConfiguration {
        serde_json::from_value(value).expect("a level")
    }

    #[test]
    fn the_built_in_levels_share_the_seats_as_upstream_has_it() {
        let levels: Vec<_> = objects().into_iter().filter(|object| object.kind() == "PriorityLevelConfiguration").collect();
        let levels: Vec<_> = levels.into_iter().map(|level| typed(level.into_value())).collect();
        let found = bounds(&levels.iter().collect::<Vec<_>>(), 600);
        let of = |name: &str| {
            let at = levels.iter().position(|level| level.metadata.name.as_deref() == Some(name)).expect(name);
            (found[at].nominal, found[at].lendable, found[at].queuing.is_some(), found[at].exempt)
        };
        assert_eq!(of("exempt"), (0, 0, false, true));
        assert_eq!(of("catch-all"), (13, 0, false, false));
        assert_eq!(of("system"), (74, 24, true, false));
        assert_eq!(of("node-high"), (98, 25, true, false));
        assert_eq!(of("leader-election"), (25, 0, true, false));
        assert_eq!(of("workload-high"), (98, 49, true, false));
        assert_eq!(of("workload-low"), (245, 221, true, false));
        assert_eq!(of("global-default"), (49, 25, true, false));
    }

    #[test]
    fn no_number_that_a_user_writes_breaks_the_sums() {
        let level = |shares: i32, lendable: i32, borrowing: i32| {
            let limited = json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable, "borrowingLimitPercent": borrowing,
                "limitResponse": {"type": "Queue", "queuing": {"queues": i32::MAX, "queueLengthLimit": i32::MAX}}});
            typed(json!({"metadata": {"name": "l"}, "spec": {"type": "Limited", "limited": limited}}))
        };
        let levels = [level(i32::MAX, i32::MAX, i32::MAX), level(-1, -5, -5), level(0, 100, 0)];
        let found = bounds(&levels.iter().collect::<Vec<_>>(), 600);
        assert_eq!((found[0].nominal, found[0].lendable), (600, 600));
        assert_eq!((found[1].nominal, found[1].lendable, found[1].most), (0, 0, 0));
        assert_eq!((found[2].nominal, found[2].most), (0, 0));
        assert_eq!(bounds(&[&typed(json!({"metadata": {"name": "empty"}}))], 0)[0].nominal, 0);
    }
}
