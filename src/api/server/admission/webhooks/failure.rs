//! Why a webhook does not let a request pass.

use troupe_api::status::Status;

/// What became of a question instead of a yes.
#[derive(Debug)]
pub enum Failure {
    /// There was no usable answer; the webhook's policy says whether that counts. `code` tells metrics what kind of failure it is.
    Calling { reason: String, code: u16 },
    /// The webhook said no.
    Denied(Status),
    /// This server cannot go on.
    Server(Status),
}

impl Failure {
    /// The endpoint did not answer, or not in the way it must.
    pub fn calling(reason: String) -> Self {
        Failure::Calling { reason, code: 503 }
    }

    pub fn code(&self) -> u16 {
        match self {
            Failure::Calling { code, .. } => *code,
            Failure::Denied(status) => status.code,
            Failure::Server(_) => 0,
        }
    }

    /// What the client sees of it.
    pub fn into_status(self, webhook: &str) -> Status {
        match self {
            Failure::Calling { reason, .. } => Status::internal(format!("failed calling webhook {webhook:?}: {reason}")),
            Failure::Denied(status) | Failure::Server(status) => status,
        }
    }
}
