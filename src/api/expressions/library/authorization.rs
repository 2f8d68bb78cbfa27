//! Who may do what (`k8s.io/apiserver/pkg/cel/library/authz.go`).

use super::{Context, Row};
use crate::expressions::{
    meter::Fault,
    permissions::{Answer, Inquiry, Question, Subject},
    values::{Named, Val, no_overload},
};

pub(super) const FUNCTIONS: &[Row] = &[
    ("path", path, &[("authorizer_path", "authorizer.(string) -> pathcheck")]),
    ("group", group, &[("authorizer_group", "authorizer.(string) -> groupcheck")]),
    ("serviceAccount", service_account, &[("authorizer_serviceaccount", "authorizer.(string, string) -> authorizer")]),
    ("resource", resource, &[("groupcheck_resource", "groupcheck.(string) -> resourcecheck")]),
    ("subresource", subresource, &[("resourcecheck_subresource", "resourcecheck.(string) -> resourcecheck")]),
    ("namespace", namespace, &[("resourcecheck_namespace", "resourcecheck.(string) -> resourcecheck")]),
    ("name", name, &[("resourcecheck_name", "resourcecheck.(string) -> resourcecheck")]),
    ("fieldSelector", field_selector, &[("authorizer_fieldselector", "resourcecheck.(string) -> resourcecheck")]),
    ("labelSelector", label_selector, &[("authorizer_labelselector", "resourcecheck.(string) -> resourcecheck")]),
    ("check", check, &[("pathcheck_check", "pathcheck.(string) -> decision"), ("resourcecheck_check", "resourcecheck.(string) -> decision")]),
    ("errored", errored, &[("decision_errored", "decision.() -> bool")]),
    ("error", error, &[("decision_error", "decision.() -> string")]),
    ("allowed", allowed, &[("decision_allowed", "decision.() -> bool")]),
    ("reason", reason, &[("decision_reason", "decision.() -> string")]),
];

type Ran<'a> = Result<Val<'a>, Fault>;

/// The value that a call is on, and its first text.
fn operands<'b>(args: &'b [Val<'_>]) -> Result<(&'b Named, &'b str), Fault> {
    match args {
        [Val::Named(named), Val::String(text), ..] => Ok((named, text)),
        _ => Err(no_overload()),
    }
}

fn path<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    let (Named::Authorizer(inquiry), path) = operands(args)? else { return Err(no_overload()) };
    if path.trim().is_empty() {
        return Err(Fault::error("path must not be empty"));
    }
    let question = Question { path: Some(path.into()), ..Question::default() };
    Ok(Val::named(Named::PathCheck(Inquiry { question, ..inquiry.clone() })))
}

fn group<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    let (Named::Authorizer(inquiry), group) = operands(args)? else { return Err(no_overload()) };
    let question = Question { group: group.into(), ..Question::default() };
    Ok(Val::named(Named::GroupCheck(Inquiry { question, ..inquiry.clone() })))
}

fn service_account<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    let (Named::Authorizer(inquiry), namespace) = operands(args)? else { return Err(no_overload()) };
    let Some(Val::String(name)) = args.get(2) else { return Err(no_overload()) };
    if !is_label_or_subdomain(name, 253) {
        return Err(Fault::error("Invalid service account name"));
    }
    if namespace.contains('.') || !is_label_or_subdomain(namespace, 63) {
        return Err(Fault::error("Invalid service account namespace"));
    }
    let subject = Subject::ServiceAccount { namespace: namespace.into(), name: (**name).into() };
    Ok(Val::named(Named::Authorizer(Inquiry { subject, ..inquiry.clone() })))
}

/// Whether a text is a name of DNS in lower case.
fn is_label_or_subdomain(name: &str, longest: usize) -> bool {
    let is_label = |label: &str| {
        let inner = label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        !label.is_empty() && inner && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= longest && name.split('.').all(is_label)
}

fn resource<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    let (Named::GroupCheck(inquiry), resource) = operands(args)? else { return Err(no_overload()) };
    if resource.trim().is_empty() {
        return Err(Fault::error("resource must not be empty"));
    }
    let question = Question { resource: resource.into(), ..inquiry.question.clone() };
    Ok(Val::named(Named::ResourceCheck(Inquiry { question, ..inquiry.clone() })))
}

/// A question about a resource with one more part.
fn with<'a>(args: &[Val<'a>], set: impl FnOnce(&mut Question, Box<str>)) -> Ran<'a> {
    let (Named::ResourceCheck(inquiry), text) = operands(args)? else { return Err(no_overload()) };
    let mut inquiry = inquiry.clone();
    set(&mut inquiry.question, text.into());
    Ok(Val::named(Named::ResourceCheck(inquiry)))
}

fn subresource<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    with(args, |question, text| question.subresource = text)
}

fn namespace<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    with(args, |question, text| question.namespace = text)
}

fn name<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    with(args, |question, text| question.name = text)
}

fn field_selector<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    with(args, |question, text| question.field_selector = text)
}

fn label_selector<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    with(args, |question, text| question.label_selector = text)
}

fn check<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    let (Named::ResourceCheck(inquiry) | Named::PathCheck(inquiry), verb) = operands(args)? else { return Err(no_overload()) };
    Ok(Val::named(Named::Decision(inquiry.access.0.check(&inquiry.subject, &inquiry.question, verb))))
}

fn decision<'b>(args: &'b [Val<'_>]) -> Result<&'b Answer, Fault> {
    match args {
        [Val::Named(named)] => match &**named {
            Named::Decision(answer) => Ok(answer),
            _ => Err(no_overload()),
        },
        _ => Err(no_overload()),
    }
}

/// Authorizers read caches, which does not fail.
fn errored<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    decision(args).map(|_| Val::Bool(false))
}

fn error<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    decision(args).map(|_| Val::text(""))
}

fn allowed<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    decision(args).map(|answer| Val::Bool(answer.allowed))
}

fn reason<'a>(args: &[Val<'a>], _context: &mut Context<'_>) -> Ran<'a> {
    decision(args).map(|answer| Val::text(&*answer.reason))
}
