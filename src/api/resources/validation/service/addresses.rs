//! The addresses of a service: what it is reached by inside the cluster and from outside.

use std::collections::BTreeSet;

use super::{
    super::{
        address,
        ip::{self, Known},
    },
    Field, is_headless, kind,
};
use crate::status::FieldError;

const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];

/// Checks `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy` against each other. `old` is the spec that an update changes.
pub fn cluster_ips(errors: &mut Vec<FieldError>, spec: &Field<'_>, old: &Field<'_>) {
    if kind(spec) == "ExternalName" {
        return;
    }
    first_alike(errors, spec);
    families(errors, spec);
    let ips = spec.child("clusterIPs");
    let mut all_good = true;
    let before = old.child("clusterIPs");
    let known = Known::of_lists([before.items()]);
    for (index, ip) in ips.each().enumerate() {
        if index > 0 || ip.text() != "None" {
            all_good &= ip::address_or_known(errors, &ip, &known);
        } else if ips.items().len() > 1 {
            all_good = false;
            errors.push(ips.invalid("'None' must be the first and only value"));
        }
    }
    if ips.items().len() > 2 {
        errors.push(ips.invalid("may only hold up to 2 values"));
    }
    if all_good {
        of_their_families(errors, spec);
    }
}

/// The single address is the first of the list.
fn first_alike(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let (one, all) = (spec.child("clusterIP"), spec.child("clusterIPs"));
    match (one.text(), all.items().first()) {
        ("", None) => {}
        ("", Some(_)) => errors.push(all.invalid("must be empty when `clusterIP` is not specified")),
        (_, None) => errors.push(all.required("")),
        (one, Some(first)) if first != one => errors.push(all.invalid("first value must match `clusterIP`")),
        (_, Some(_)) => {}
    }
}

fn families(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let mut seen = BTreeSet::new();
    for family in spec.child("ipFamilies").each() {
        family.check_supported(errors, &FAMILIES);
        if !seen.insert(family.text().to_owned()) {
            errors.push(family.duplicate());
        }
    }
    spec.child("ipFamilyPolicy").check_supported(errors, &POLICIES);
}

fn is_ipv6(ip: &str) -> bool {
    address::parse(ip).is_some_and(|ip| ip.is_ipv6())
}

/// One address for each family, in the order of the families.
fn of_their_families(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let (ips, families) = (spec.child("clusterIPs"), spec.child("ipFamilies"));
    let v6 = ips.each().filter(|ip| is_ipv6(ip.text())).count();
    let all = ips.items().len();
    if all > 1 && (v6 == 0 || v6 == all) {
        errors.push(ips.invalid("may specify no more than one IP for each IP family"));
    }
    if is_headless(spec) {
        return;
    }
    for (index, (ip, family)) in ips.each().zip(families.each()).enumerate() {
        let wrong = match family.text() {
            "IPv4" => is_ipv6(ip.text()),
            "IPv6" => !is_ipv6(ip.text()),
            _ => false,
        };
        if wrong {
            errors.push(ip.invalid(format!("expected an {} value as indicated by `ipFamilies[{index}]`", family.text())));
        }
    }
}

/// Addresses that lead to nodes and from there to the service.
pub fn external(errors: &mut Vec<FieldError>, spec: &Field<'_>, old: &Field<'_>) {
    let before = old.child("externalIPs");
    let known = Known::of_lists([before.items()]);
    for ip in spec.child("externalIPs").each() {
        if ip::address_or_known(errors, &ip, &known) {
            ip::endpoint(errors, &ip.to_string(), ip.text());
        }
    }
}
