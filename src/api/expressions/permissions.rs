//! Who may do what: what expressions can ask, and who answers.

use std::{fmt, sync::Arc};

/// Whose permissions are asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Whoever made the request.
    Requester,
    ServiceAccount {
        namespace: Box<str>,
        name: Box<str>,
    },
}

/// What somebody wants to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Question {
    /// Set where it is about no resource.
    pub path: Option<Box<str>>,
    pub group: Box<str>,
    pub resource: Box<str>,
    pub subresource: Box<str>,
    pub namespace: Box<str>,
    pub name: Box<str>,
    pub field_selector: Box<str>,
    pub label_selector: Box<str>,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub allowed: bool,
    pub reason: Box<str>,
}

/// Says who may do what; never waits.
pub trait Permissions: Send + Sync {
    /// Whether somebody may do `verb`.
    fn check(&self, subject: &Subject, question: &Question, verb: &str) -> Answer;
}

/// One that expressions can ask.
#[derive(Clone)]
pub struct Access(pub Arc<dyn Permissions>);

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Access")
    }
}

/// A question that is being put together.
#[derive(Clone, Debug)]
pub struct Inquiry {
    pub access: Access,
    pub subject: Subject,
    pub question: Question,
}
