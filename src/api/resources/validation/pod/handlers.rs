//! Probes and lifecycle hooks.

use super::{
    super::{Field, LONGEST_GRACE, grace_period},
    Facts,
};
use crate::{meta::names, status::FieldError};

const SIGNALS_OF_WINDOWS: [&str; 2] = ["SIGKILL", "SIGTERM"];
#[rustfmt::skip]
const SIGNALS: [&str; 65] = [
    "SIGABRT", "SIGALRM", "SIGBUS", "SIGCHLD", "SIGCLD", "SIGCONT", "SIGFPE", "SIGHUP", "SIGILL", "SIGINT", "SIGIO", "SIGIOT", "SIGKILL",
    "SIGPIPE", "SIGPOLL", "SIGPROF", "SIGPWR", "SIGQUIT", "SIGRTMAX", "SIGRTMAX-1", "SIGRTMAX-10", "SIGRTMAX-11", "SIGRTMAX-12", "SIGRTMAX-13",
    "SIGRTMAX-14", "SIGRTMAX-2", "SIGRTMAX-3", "SIGRTMAX-4", "SIGRTMAX-5", "SIGRTMAX-6", "SIGRTMAX-7", "SIGRTMAX-8", "SIGRTMAX-9", "SIGRTMIN",
    "SIGRTMIN+1", "SIGRTMIN+10", "SIGRTMIN+11", "SIGRTMIN+12", "SIGRTMIN+13", "SIGRTMIN+14", "SIGRTMIN+15", "SIGRTMIN+2", "SIGRTMIN+3", "SIGRTMIN+4",
    "SIGRTMIN+5", "SIGRTMIN+6", "SIGRTMIN+7", "SIGRTMIN+8", "SIGRTMIN+9", "SIGSEGV", "SIGSTKFLT", "SIGSTOP", "SIGSYS", "SIGTERM", "SIGTRAP", "SIGTSTP",
    "SIGTTIN", "SIGTTOU", "SIGURG", "SIGUSR1", "SIGUSR2", "SIGVTALRM", "SIGWINCH", "SIGXCPU", "SIGXFSZ",
];

/// Checks the hooks and probes of a container that runs for long.
pub fn all(errors: &mut Vec<FieldError>, container: &Field<'_>, facts: &Facts<'_>) {
    lifecycle(errors, &container.child("lifecycle"), facts);
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let field = container.child(name);
        if field.is_set() {
            probe(errors, &field, name == "readinessProbe", facts);
        }
    }
}

fn lifecycle(errors: &mut Vec<FieldError>, lifecycle: &Field<'_>, facts: &Facts<'_>) {
    for name in ["postStart", "preStop"] {
        let hook = lifecycle.child(name);
        if hook.is_set() {
            handler(errors, &hook, &["exec", "httpGet", "tcpSocket", "sleep"], facts);
        }
    }
    let signal = lifecycle.child("stopSignal");
    match facts.os {
        _ if !signal.is_set() => {}
        "" => errors.push(signal.forbidden("may not be set for containers with empty `spec.os.name`")),
        "windows" => signal.check_supported(errors, &SIGNALS_OF_WINDOWS),
        "linux" => signal.check_supported(errors, &SIGNALS),
        _ => {}
    }
}

fn probe(errors: &mut Vec<FieldError>, probe: &Field<'_>, readiness: bool, facts: &Facts<'_>) {
    handler(errors, probe, &["exec", "httpGet", "tcpSocket", "grpc"], facts);
    for number in ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"] {
        probe.child(number).check_non_negative(errors);
    }
    let grace = probe.child("terminationGracePeriodSeconds");
    if grace.number().is_some_and(|seconds| seconds <= 0) {
        errors.push(grace.invalid("must be greater than 0"));
    }
    grace_period(errors, &grace.to_string(), grace.number());
    let successes = probe.child("successThreshold");
    if readiness && grace.is_set() {
        errors.push(grace.invalid("must not be set for readinessProbes"));
    } else if !readiness && successes.int() != 1 {
        errors.push(successes.invalid_as(successes.int(), "must be 1"));
    }
}

fn handler(errors: &mut Vec<FieldError>, handler: &Field<'_>, kinds: &[&str], facts: &Facts<'_>) {
    let mut first = true;
    for kind in kinds {
        let action = handler.child(kind);
        if !action.is_set() {
            continue;
        }
        if !std::mem::take(&mut first) {
            errors.push(action.forbidden("may not specify more than 1 handler type"));
            continue;
        }
        match *kind {
            "exec" => {
                if action.child("command").items().is_empty() {
                    errors.push(action.child("command").required(""));
                }
            }
            "httpGet" => http_get(errors, &action),
            "sleep" => sleep(errors, &action, facts.grace),
            _ => action.child("port").check_port(errors),
        }
    }
    if first {
        errors.push(handler.required("must specify a handler type"));
    }
}

/// What is sent must stay one request: upstream's client refuses line ends when it is too late, here they are not let in.
fn http_get(errors: &mut Vec<FieldError>, get: &Field<'_>) {
    get.child("path").check_required(errors);
    get.child("port").check_port(errors);
    if !["HTTP", "HTTPS"].contains(&get.child("scheme").text()) {
        errors.push(get.child("scheme").with(&get.child("scheme").text().into()).not_supported(&["HTTP", "HTTPS"]));
    }
    let headers = get.child("httpHeaders");
    for header in headers.each() {
        let (name, value) = (header.child("name"), header.child("value"));
        headers.with(name.value).judge(errors, names::http_header(name.text()));
        no_control_characters(errors, &value);
    }
    for part in ["path", "host"] {
        no_control_characters(errors, &get.child(part));
    }
}

fn no_control_characters(errors: &mut Vec<FieldError>, part: &Field<'_>) {
    if part.text().chars().any(|c| c.is_control() && c != '\t') {
        errors.push(part.invalid("must not contain control characters"));
    }
}

/// A sleep ends within the grace period. Where that is wrong it has an error of its own.
fn sleep(errors: &mut Vec<FieldError>, action: &Field<'_>, grace: Option<i64>) {
    let seconds = action.child("seconds").int();
    if let Some(grace) = grace
        && (seconds < 0 || seconds > grace || seconds > LONGEST_GRACE)
    {
        errors.push(action.invalid_as(seconds, format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})")));
    }
}
