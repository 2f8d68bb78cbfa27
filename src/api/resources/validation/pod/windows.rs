//! Operating systems, and what only pods on Windows have.

use super::super::Field;
use crate::{meta::names, status::FieldError};

const LONGEST_SPEC: usize = 64 * 1024;
const LONGEST_DOMAIN: usize = 256;
const LONGEST_USER: usize = 104;
const NOT_ON_LINUX: &str = "windows options cannot be set for a linux pod";
const NOT_ON_WINDOWS: &str = "cannot be set for a windows pod";

/// Checks `os`, and that nothing else contradicts it.
pub fn os(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let os = spec.child("os");
    if !os.is_set() {
        return;
    }
    match os.child("name").text() {
        "" => errors.push(os.child("name").required("")),
        "linux" => on_linux(errors, spec),
        "windows" => on_windows(errors, spec),
        name => errors.push(FieldError::not_supported(os, name, &["linux", "windows"])),
    }
}

fn on_linux(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let mut check = |owner: &Field<'_>| {
        let context = owner.child("securityContext");
        let options = context.child("windowsOptions");
        if options.is_set() {
            errors.push(options.forbidden(NOT_ON_LINUX));
        }
    };
    check(spec);
    super::visit_containers(spec, |container| check(container));
}

fn on_windows(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let mut none = |field: Field<'_>, is_there: bool| {
        if is_there {
            errors.push(field.forbidden(NOT_ON_WINDOWS));
        }
    };
    let context = spec.child("securityContext");
    for name in ["appArmorProfile", "seLinuxOptions"] {
        none(context.child(name), context.child(name).is_set());
    }
    none(spec.child("hostUsers"), spec.child("hostUsers").is_set());
    for name in ["hostPID", "hostIPC"] {
        none(spec.child(name), spec.child(name).is_true());
    }
    for name in ["seccompProfile", "fsGroup", "fsGroupChangePolicy"] {
        none(context.child(name), context.child(name).is_set());
    }
    none(context.child("sysctls"), !context.child("sysctls").items().is_empty());
    none(spec.child("shareProcessNamespace"), spec.child("shareProcessNamespace").is_set());
    for name in ["runAsUser", "runAsGroup", "supplementalGroups", "supplementalGroupsPolicy", "seLinuxChangePolicy"] {
        none(context.child(name), context.child(name).is_set());
    }
    super::visit_containers(spec, |container| {
        let context = container.child("securityContext");
        for name in [
            "appArmorProfile",
            "seLinuxOptions",
            "seccompProfile",
            "capabilities",
            "readOnlyRootFilesystem",
            "privileged",
            "allowPrivilegeEscalation",
            "procMount",
            "runAsUser",
            "runAsGroup",
        ] {
            none(context.child(name), context.child(name).is_set());
        }
    });
}

/// Checks `windowsOptions`.
pub fn options(errors: &mut Vec<FieldError>, options: &Field<'_>) {
    if !options.is_set() {
        return;
    }
    let name = options.child("gmsaCredentialSpecName");
    if name.is_set() {
        name.judge(errors, names::subdomain(name.text(), false));
    }
    let spec = options.child("gmsaCredentialSpec");
    if spec.is_set() && spec.text().is_empty() {
        errors.push(spec.invalid("gmsaCredentialSpec cannot be an empty string"));
    } else if spec.text().len() > LONGEST_SPEC {
        errors.push(spec.invalid("gmsaCredentialSpec size must be under 64 KiB"));
    }
    let user = options.child("runAsUserName");
    if user.is_set() {
        user_name(errors, &user);
    }
}

fn user_name(errors: &mut Vec<FieldError>, field: &Field<'_>) {
    let name = field.text();
    let parts: Vec<&str> = name.split('\\').collect();
    let (domain, user) = match parts[..] {
        _ if name.is_empty() => return errors.push(field.invalid("runAsUserName cannot be an empty string")),
        _ if name.bytes().any(|byte| byte.is_ascii_control()) => {
            return errors.push(field.invalid("runAsUserName cannot contain control characters"));
        }
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return errors.push(field.invalid("runAsUserName cannot contain more than one backslash")),
    };
    let mut fault = |wrong: bool, why: &str| {
        if wrong {
            errors.push(field.invalid(why));
        }
    };
    let length = domain.map_or(0, str::len);
    fault(length >= LONGEST_DOMAIN, "runAsUserName's Domain length must be under 256 characters");
    let known = domain.is_none_or(|domain| is_net_bios(domain) || is_dns(domain));
    fault(!known, "runAsUserName's Domain doesn't match the NetBios nor the DNS format");
    fault(user.is_empty(), "runAsUserName's User cannot be empty");
    fault(user.len() > LONGEST_USER, "runAsUserName's User length must not be longer than 104 characters");
    let blank = !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' '));
    fault(blank, "runAsUserName's User cannot contain only periods or spaces");
    let strange = user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']);
    fault(strange, "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]");
}

fn is_net_bios(domain: &str) -> bool {
    let length = domain.chars().count();
    (1..=15).contains(&length) && !domain.starts_with('.') && !domain.contains(['\\', '/', ':', '*', '?', '"', '<', '>', '|'])
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| names::label(&label.to_ascii_lowercase(), false).is_empty())
}

/// Checks `hostProcess`: all containers or none, and only on the host's network.
pub fn host_process(errors: &mut Vec<FieldError>, spec: &Field<'_>) {
    let of = |owner: &Field<'_>| owner.child("securityContext").child("windowsOptions").child("hostProcess").value.as_bool();
    let own = of(spec);
    let (mut containers, mut on_host) = (0, 0);
    super::visit_containers(spec, |container| {
        containers += 1;
        let (context, asked) = (container.child("securityContext"), of(container));
        if let (Some(pod), Some(asked)) = (own, asked)
            && pod != asked
        {
            let options = context.child("windowsOptions");
            let detail = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            errors.push(options.child("hostProcess").invalid(detail));
        }
        on_host += i32::from(asked.or(own) == Some(true));
    });
    if on_host == 0 {
        return;
    }
    if on_host != containers {
        errors.push(spec.invalid_as("", "If pod contains any hostProcess containers then all containers must be HostProcess containers"));
    }
    if !spec.child("hostNetwork").is_true() {
        errors.push(spec.child("hostNetwork").invalid_as(false, "hostNetwork must be true if pod contains any hostProcess containers"));
    }
}
