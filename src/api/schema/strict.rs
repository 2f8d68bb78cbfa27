//! Unknown and duplicate fields: where they are, how upstream words them, and what `fieldValidation` makes of them.

use std::fmt;

use crate::{service::FieldValidation, status::Status};

/// The path of a field as messages show it, such as `spec.containers[0].imagee`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPath(pub String);

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What strict decoding objects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StrictProblem {
    Unknown(FieldPath),
    Duplicate(FieldPath),
}

impl fmt::Display for StrictProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StrictProblem::Unknown(path) => write!(f, "unknown field \"{path}\""),
            StrictProblem::Duplicate(path) => write!(f, "duplicate field \"{path}\""),
        }
    }
}

/// Upstream reports no more problems of one body than this.
pub const PROBLEM_LIMIT: usize = 100;

/// The text of a strict decoding error.
pub fn message(problems: &[StrictProblem]) -> String {
    let listed = problems.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    format!("strict decoding error: {listed}")
}

/// Applies `fieldValidation` to the problems of a create's or update's body: warnings to send, or a 400.
/// `kind` and `version` are those that the body names.
pub fn check(problems: &[StrictProblem], validation: FieldValidation, kind: &str, version: &str) -> Result<Vec<String>, Status> {
    match validation {
        _ if problems.is_empty() => Ok(Vec::new()),
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(problems.iter().map(ToString::to_string).collect()),
        FieldValidation::Strict => Err(cannot_be_handled(kind, version, message(problems))),
    }
}

/// The 400 of a body that is no object of its kind.
pub fn cannot_be_handled(kind: &str, version: &str, why: impl fmt::Display) -> Status {
    Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"))
}
