//! Devices that several claims share by capacity (KEP-5075, consumable capacity).

use k8s_openapi::{
    api::resource::v1::{CapacityRequestPolicy, CapacityRequestPolicyRange, Device, DeviceCapacity},
    apimachinery::pkg::api::resource::Quantity,
};
use troupe_api::meta::quantity;

use super::Amounts;

const UNIT: i128 = 1_000_000_000;

/// A quantity in billionths; what is none counts nothing.
pub fn amount(quantity: &Quantity) -> i128 {
    quantity::nanos(&quantity.0).unwrap_or(0)
}

/// Whether a device may be in several allocations.
pub fn is_shared(device: &Device) -> bool {
    device.allow_multiple_allocations == Some(true)
}

/// Whether what a request takes of a device is there beside what others take.
pub fn fits(device: &Device, asked: &Amounts, taken: &[&Amounts]) -> bool {
    let none = Default::default();
    let capacities = device.capacity.as_ref().unwrap_or(&none);
    if asked.keys().any(|name| !capacities.contains_key(name)) {
        return false;
    }
    capacities.iter().all(|(name, capacity)| {
        let consumed = consumed(asked.get(name).copied(), capacity);
        let others: i128 = taken.iter().filter_map(|taken| taken.get(name)).sum();
        !violates(consumed, capacity.request_policy.as_ref()) && consumed.saturating_add(others) <= amount(&capacity.value)
    })
}

/// What a request takes of a device.
pub fn consumption(device: &Device, asked: &Amounts) -> Amounts {
    device.capacity.iter().flatten().map(|(name, capacity)| (name.clone(), consumed(asked.get(name).copied(), capacity))).collect()
}

/// An amount as it is written down: like the capacity where it is that, else in the usual form.
pub fn written(device: &Device, name: &str, nanos: i128) -> Quantity {
    let of = device.capacity.as_ref().and_then(|capacities| capacities.get(name));
    let known = of.into_iter().flat_map(|capacity| {
        let policy = capacity.request_policy.as_ref();
        let values = policy.and_then(|policy| policy.valid_values.as_ref()).into_iter().flatten();
        std::iter::once(&capacity.value).chain(policy.and_then(|policy| policy.default.as_ref())).chain(values)
    });
    let same = known.into_iter().find(|known| amount(known) == nanos).cloned();
    same.unwrap_or_else(|| Quantity(quantity::canonical(nanos, true)))
}

fn consumed(asked: Option<i128>, capacity: &DeviceCapacity) -> i128 {
    let policy = capacity.request_policy.as_ref();
    let Some(asked) = asked else {
        return amount(policy.and_then(|policy| policy.default.as_ref()).unwrap_or(&capacity.value));
    };
    match policy {
        Some(CapacityRequestPolicy { valid_range: Some(range), .. }) => rounded(asked, range),
        Some(CapacityRequestPolicy { valid_values: Some(values), .. }) => values.iter().map(amount).find(|valid| asked <= *valid).unwrap_or(asked),
        _ => asked,
    }
}

/// Up to the least, or to the next step above it.
fn rounded(asked: i128, range: &CapacityRequestPolicyRange) -> i128 {
    let least = amount(&range.min);
    if asked <= least {
        return least;
    }
    match range.step.as_ref().map(amount).filter(|step| *step > 0) {
        Some(step) => {
            // Steps are counted in whole units.
            let above = whole(asked) - least;
            least + (above + step - 1).div_euclid(step) * step
        }
        None => asked,
    }
}

fn whole(amount: i128) -> i128 {
    amount.div_euclid(UNIT).saturating_add(i128::from(amount.rem_euclid(UNIT) != 0)).saturating_mul(UNIT)
}

fn violates(consumed: i128, policy: Option<&CapacityRequestPolicy>) -> bool {
    let Some(policy) = policy else { return false };
    if policy.default.as_ref().is_some_and(|default| amount(default) == consumed) {
        return false;
    }
    match (&policy.valid_range, &policy.valid_values) {
        (Some(range), _) => {
            let least = amount(&range.min);
            let off_step =
                range.step.as_ref().map(amount).filter(|step| *step > 0).is_some_and(|step| (whole(consumed) - least).rem_euclid(step) != 0);
            off_step || range.max.as_ref().is_some_and(|most| consumed > amount(most))
        }
        (None, Some(values)) if !values.is_empty() => !values.iter().any(|valid| amount(valid) == consumed),
        _ => false,
    }
}
