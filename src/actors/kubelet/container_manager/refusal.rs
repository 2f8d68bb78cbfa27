//! Why a pod may not run here.

/// The reason of pods whose resources cannot be given although the scheduler's filters found enough.
const UNEXPECTED: &str = "UnexpectedAdmissionError";

/// Why a pod may not run here, as its status tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub reason: &'static str,
    pub message: String,
}

impl Refusal {
    pub fn new(reason: &'static str, message: impl Into<String>) -> Self {
        Refusal { reason, message: message.into() }
    }

    /// What upstream has no reason of its own for.
    pub fn unexpected(why: &str) -> Self {
        Refusal::new(UNEXPECTED, format!("Allocate failed due to {why}, which is unexpected"))
    }
}
