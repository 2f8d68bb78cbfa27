//! Groups of the community's own: whoever defines kinds there says where that was approved.

use crate::{
    meta::{Object, url},
    status::FieldError,
};

const ANNOTATION: &str = "api-approved.kubernetes.io";
const SEE: &str = "see https://github.com/kubernetes/enhancements/pull/1111";

#[derive(PartialEq, Eq)]
enum State {
    Approved,
    Bypassed,
    Missing,
    Invalid,
}

fn state(object: &Object) -> State {
    let text = object.annotation(ANNOTATION).unwrap_or_default();
    if text.is_empty() {
        State::Missing
    } else if text.starts_with("unapproved") {
        State::Bypassed
    } else if url::parse(text).is_ok_and(|url| !url.host.is_empty() && !url.scheme.is_empty()) {
        State::Approved
    } else {
        State::Invalid
    }
}

/// Status, reason and message of the condition that tells of the approval; `None` for groups that need none.
pub fn condition(object: &Object) -> Option<(&'static str, &'static str, String)> {
    if !is_protected(object.str(&["spec", "group"])) {
        return None;
    }
    let text = object.annotation(ANNOTATION).unwrap_or_default();
    Some(match state(object) {
        State::Approved => ("True", "ApprovedAnnotation", format!("approved in {text}")),
        State::Bypassed => ("False", "UnapprovedAnnotation", format!("not approved: {text:?}")),
        State::Missing => ("False", "MissingAnnotation", format!("protected groups must have approval annotation {ANNOTATION:?}, {SEE}")),
        State::Invalid => (
            "False",
            "InvalidAnnotation",
            format!(
                "protected groups must have approval annotation {ANNOTATION:?} with either a URL or a reason starting with \"unapproved\", {SEE}"
            ),
        ),
    })
}

fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"].into_iter().any(|own| group.strip_suffix(own).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// Checks the approval. One that has not changed is not judged again.
pub(super) fn check(errors: &mut Vec<FieldError>, new: &Object, old: Option<&Object>) {
    let now = state(new);
    if !is_protected(new.str(&["spec", "group"])) || old.is_some_and(|old| state(old) == now) {
        return;
    }
    let field = format!("metadata.annotations[{ANNOTATION}]");
    match now {
        State::Approved | State::Bypassed => {}
        State::Missing => errors.push(FieldError::required(field, format!("protected groups must have approval annotation {ANNOTATION:?}, {SEE}"))),
        State::Invalid => {
            let detail = format!(
                "protected groups must have approval annotation {ANNOTATION:?} with either a URL or a reason starting with \"unapproved\", {SEE}"
            );
            errors.push(FieldError::invalid(field, new.annotation(ANNOTATION).unwrap_or_default(), detail));
        }
    }
}
