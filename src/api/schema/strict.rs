//! Unknown and duplicate fields: where they are, how upstream words them, and what `fieldValidation` makes of them.

use std::fmt;

use crate::{
    meta::request::FieldValidation,
    status::{Status, quoted},
};

/// The path of a field as messages show it, such as `spec.containers[0].imagee`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPath(pub String);

impl FieldPath {
    /// Names may be as long as a body is: messages show the beginning.
    const LONGEST: usize = 1024;

    /// A path as messages show it.
    pub fn shown(path: &str) -> Self {
        let end = path.floor_char_boundary(Self::LONGEST);
        FieldPath(if end < path.len() { format!("{}...", &path[..end]) } else { path.to_owned() })
    }
}

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
    /// A key of a YAML document that stood in its object before; `key` is quoted where it is text.
    Repeated {
        line: u32,
        key: String,
    },
}

impl StrictProblem {
    fn is_repeated(&self) -> bool {
        matches!(self, StrictProblem::Repeated { .. })
    }
}

impl fmt::Display for StrictProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StrictProblem::Unknown(path) => write!(f, "unknown field \"{path}\""),
            StrictProblem::Duplicate(path) => write!(f, "duplicate field \"{path}\""),
            StrictProblem::Repeated { line, key } => write!(f, "line {line}: key {key} already set in map"),
        }
    }
}

/// Upstream reports no more problems of one body than this.
pub const PROBLEM_LIMIT: usize = 100;

/// The text of a strict decoding error. What the reader of YAML has to say is one error, whose text has lines.
pub fn message(problems: &[StrictProblem]) -> String {
    let others = problems.iter().filter(|problem| !problem.is_repeated()).map(ToString::to_string);
    let listed: Vec<String> = repeated(problems).into_iter().chain(others).collect();
    format!("strict decoding error: {}", listed.join(", "))
}

/// The error of the reader of YAML, if it has one.
fn repeated(problems: &[StrictProblem]) -> Option<String> {
    let lines: Vec<String> = problems.iter().filter(|problem| problem.is_repeated()).map(|problem| format!("\n  {problem}")).collect();
    (!lines.is_empty()).then(|| format!("yaml: unmarshal errors:{}", lines.concat()))
}

/// Applies `fieldValidation` to the body of a server-side apply: warnings to send, or a 400.
pub fn check_applied(problems: &[StrictProblem], validation: FieldValidation) -> Result<Vec<String>, Status> {
    match (validation, repeated(problems)) {
        (FieldValidation::Strict, Some(why)) => Err(Status::bad_request(format!("error strict decoding YAML: error converting YAML to JSON: {why}"))),
        (FieldValidation::Warn, _) => Ok(problems.iter().map(ToString::to_string).collect()),
        (FieldValidation::Strict | FieldValidation::Ignore, _) => Ok(Vec::new()),
    }
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
    let (kind, version) = (quoted(kind), quoted(version));
    Status::bad_request(format!("{kind} in version \"{version}\" cannot be handled as a {kind}: {why}"))
}
