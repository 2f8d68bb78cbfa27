//! What an update may not do to a service: its first address and family stay, a second one comes and goes.

use super::{Field, is_headless, kind, needs_health_check, service, spec_of};
use crate::{meta::Object, resources::validation::IMMUTABLE, status::FieldError};

const FIXED: &str = "may not change once set";

/// Checks an update.
pub fn service_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = address_changes(new, old);
    let (now, before) = (spec_of(new), spec_of(old));
    let class = now.child("loadBalancerClass");
    if [&now, &before].iter().all(|spec| kind(spec) == "LoadBalancer") && class.value != before.child("loadBalancerClass").value {
        errors.push(class.invalid(FIXED));
    }
    let health = now.child("healthCheckNodePort");
    if needs_health_check(&now) && needs_health_check(&before) && health.int() != before.child("healthCheckNodePort").int() {
        errors.push(health.forbidden(IMMUTABLE));
    }
    errors.extend(service(new, Some(old)));
    errors
}

/// What an update may not do to addresses and families. It is asked before new addresses are taken, too.
pub fn address_changes(new: &Object, old: &Object) -> Vec<FieldError> {
    let (now, before, mut errors) = (spec_of(new), spec_of(old), Vec::new());
    if kind(&now) != "ExternalName" && kind(&before) != "ExternalName" {
        addresses(&mut errors, &now, &before);
        families(&mut errors, &now, &before);
    }
    errors
}

fn addresses(errors: &mut Vec<FieldError>, now: &Field<'_>, before: &Field<'_>) {
    if is_headless(now) && is_headless(before) {
        return;
    }
    let (new, old) = (now.child("clusterIPs"), before.child("clusterIPs"));
    let shown = |index: usize| new.index(index).invalid_as(new.value.clone(), FIXED);
    if new.items().len() == old.items().len() {
        let changed = new.items().iter().zip(old.items()).enumerate().filter(|(_, (new, old))| new != old);
        return errors.extend(changed.map(|(index, _)| shown(index)));
    }
    match (new.items().first(), old.items().first()) {
        (None, _) => errors.push(new.index(0).invalid_as(new.value.clone(), "primary clusterIP can not be unset")),
        (Some(new), Some(old)) if new != old => errors.push(shown(0)),
        _ => {}
    }
    if new.items().len() == 1 && old.items().len() > 1 {
        released(errors, now, "must be set to 'SingleStack' when releasing the secondary clusterIP");
    }
}

fn released(errors: &mut Vec<FieldError>, now: &Field<'_>, detail: &str) {
    let policy = now.child("ipFamilyPolicy");
    if policy.text() != "SingleStack" {
        errors.push(policy.invalid(detail));
    }
}

/// The families of headless services may change, and those of services that become headless or cease to be so.
fn families(errors: &mut Vec<FieldError>, now: &Field<'_>, before: &Field<'_>) {
    if is_headless(now) || is_headless(before) {
        return;
    }
    let (new, old, ips) = (now.child("ipFamilies"), before.child("ipFamilies"), now.child("clusterIPs"));
    let first = new.index(0);
    if new.items().len() == old.items().len() {
        let changed = new.items().iter().zip(old.items()).filter(|(new, old)| new != old);
        return errors.extend(changed.map(|_| first.invalid_as(new.value.clone(), FIXED)));
    }
    let is_released = new.items().len() < old.items().len();
    if is_released && ips.items().is_empty() {
        errors.push(first.invalid_as(new.value.clone(), "primary ipFamily can not be unset"));
    }
    if let (Some(new), Some(old)) = (new.items().first(), old.items().first())
        && new != old
    {
        errors.push(first.invalid_as(ips.value.clone(), FIXED));
    }
    if is_released && new.items().len() == 1 {
        released(errors, now, "must be set to 'SingleStack' when releasing the secondary ipFamily");
    }
}
