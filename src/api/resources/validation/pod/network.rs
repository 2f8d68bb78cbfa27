//! Names and ports of a pod: host network, DNS, hostname, hosts file.

use super::super::Field;
use crate::{meta::names, status::FieldError};

const MOST_SERVERS: usize = 3;
const MOST_SEARCHES: usize = 32;
const LONGEST_SEARCHES: usize = 2048;
const LONGEST_HOSTNAME: usize = 64;

/// On the node's network a port is the node's port. A template may leave that to be filled in.
pub fn host_ports(errors: &mut Vec<FieldError>, spec: &Field<'_>, is_pod: bool) {
    if !spec.child("hostNetwork").is_true() {
        return;
    }
    for container in spec.child("containers").each() {
        for port in container.child("ports").each() {
            let (host, inner) = (port.child("hostPort").int(), port.child("containerPort").int());
            if (is_pod || host != 0) && host != inner {
                errors.push(port.child("hostPort").invalid_as(host, "must match `containerPort` when `hostNetwork` is true"));
            }
        }
    }
}

/// Checks `dnsConfig`: each part of it becomes a word in a line of `resolv.conf`.
pub fn dns(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let config = spec.child("dnsConfig");
    let servers = config.child("nameservers");
    if spec.child("dnsPolicy").text() == "None" {
        if !config.is_set() {
            return errors.push(config.required("must provide `dnsConfig` when `dnsPolicy` is None"));
        }
        if servers.items().is_empty() {
            return errors.push(servers.required("must provide at least one DNS nameserver when `dnsPolicy` is None"));
        }
    }
    if servers.items().len() > MOST_SERVERS {
        errors.push(servers.invalid(format!("must not have more than {MOST_SERVERS} nameservers")));
    }
    for server in servers.each() {
        server.check_ip(errors);
    }
    searches(errors, &config.child("searches"));
    for option in config.child("options").each() {
        if option.child("name").text().is_empty() {
            errors.push(option.required("must not be empty"));
        }
        for part in ["name", "value"] {
            if option.child(part).text().contains(|c: char| c.is_whitespace() || c.is_control()) {
                errors.push(option.child(part).invalid("must not contain whitespace or control characters"));
            }
        }
    }
}

fn searches(errors: &mut Vec<FieldError>, searches: &Field<'_>) {
    if searches.items().len() > MOST_SEARCHES {
        errors.push(searches.invalid(format!("must not have more than {MOST_SEARCHES} search paths")));
    }
    let length = searches.each().map(|search| search.text().len() + 1).sum::<usize>().saturating_sub(1);
    if length > LONGEST_SEARCHES {
        errors.push(searches.invalid(format!("must not have more than {LONGEST_SEARCHES} characters (including spaces) in the search list")));
    }
    for search in searches.each().filter(|search| search.text() != ".") {
        let name = search.text().strip_suffix('.').unwrap_or(search.text());
        errors.extend(names::subdomain_with_underscore(name).into_iter().map(|message| search.invalid_as(name, message)));
    }
}

/// Checks `hostnameOverride`.
pub fn hostname(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let forced = spec.child("hostnameOverride");
    if !forced.is_set() {
        return;
    }
    if spec.child("setHostnameAsFQDN").is_true() {
        errors.push(forced.forbidden("may not be specified when setHostnameAsFQDN is true"));
    }
    if spec.child("hostNetwork").is_true() {
        errors.push(forced.forbidden("may not be specified when hostNetwork is true"));
    }
    if forced.text().len() > LONGEST_HOSTNAME {
        errors.push(forced.too_long(LONGEST_HOSTNAME));
    }
    forced.judge(errors, names::subdomain(forced.text(), false));
}

/// Checks `hostAliases`: lines of the hosts file.
pub fn host_aliases(errors: &mut Vec<FieldError>, aliases: &Field<'_>) {
    for alias in aliases.each() {
        alias.child("ip").check_ip(errors);
        for hostname in alias.child("hostnames").each() {
            hostname.judge(errors, names::subdomain(hostname.text(), false));
        }
    }
}
