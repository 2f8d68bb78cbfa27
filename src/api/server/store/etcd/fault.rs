//! What an error of etcd, or of the way to it, says about the operation. Pure.

use std::error::Error as _;

use etcd_client::Error;
use tonic::{Code, ConnectError, Status};

use crate::store::StoreError;

/// An operation that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Certainly not done: another member, or the same one in a moment, may do it.
    NotDone(String),
    /// It may be done, now or a little later.
    Unclear(String),
    /// The revision asked for is compacted.
    Compacted,
    /// The revision asked for lies in the future.
    Future,
    /// The cluster's quota is used up.
    NoSpace,
    /// The lease named in the request is gone.
    NoLease,
    /// The value is larger than etcd takes.
    TooLarge(String),
    /// etcd will never take it, and says why.
    Refused(String),
}

impl Fault {
    /// Reads an error.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::GRpcStatus(status) => of_status(status),
            Error::InvalidArgs(_) | Error::InvalidUri(_) | Error::InvalidMetadataValue(_) => Fault::Refused(error.to_string()),
            other => Fault::Unclear(chain(&other.to_string(), other.source())),
        }
    }

    /// What a caller is told when nothing more is tried. `write` tells whether doing it twice would matter.
    pub fn into_store_error(self, write: bool) -> StoreError {
        match self {
            Fault::NotDone(why) => StoreError::Unavailable(why),
            Fault::Unclear(why) if write => StoreError::Unknown(why),
            Fault::Unclear(why) => StoreError::Unavailable(why),
            Fault::NoSpace => StoreError::NoSpace,
            Fault::TooLarge(why) => StoreError::TooLarge(why),
            Fault::Refused(why) => StoreError::Refused(why),
            Fault::NoLease => StoreError::Unavailable("a lease is gone".into()),
            // Whoever asks at a revision knows it and says more; see `EtcdStore::at_revision`.
            Fault::Compacted => StoreError::Unavailable("the revision is compacted".into()),
            Fault::Future => StoreError::Unavailable("the revision is in the future".into()),
        }
    }
}

fn of_status(status: &Status) -> Fault {
    let message = status.message();
    let told = |text: &str| message.contains(text);
    match status.code() {
        Code::OutOfRange if told("has been compacted") => Fault::Compacted,
        Code::OutOfRange if told("is a future revision") => Fault::Future,
        Code::ResourceExhausted if told("database space exceeded") => Fault::NoSpace,
        Code::ResourceExhausted if told("too many requests") => Fault::NotDone(message.into()),
        Code::ResourceExhausted if told("larger than max") => Fault::TooLarge(message.into()),
        Code::InvalidArgument if told("request is too large") => Fault::TooLarge(message.into()),
        Code::NotFound if told("requested lease not found") => Fault::NoLease,
        // Checked before anything is proposed.
        Code::Unavailable if told("etcdserver: no leader") => Fault::NotDone(message.into()),
        Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented => Fault::Refused(message.into()),
        _ if never_sent(status) => Fault::NotDone(chain(message, status.source())),
        _ => Fault::Unclear(chain(message, status.source())),
    }
}

/// Whether no connection was there to send it on.
fn never_sent(status: &Status) -> bool {
    let mut cause = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// What is said, and its causes, in one line, each thing once.
fn chain(said: &str, mut cause: Option<&(dyn std::error::Error + 'static)>) -> String {
    let mut text = said.to_owned();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: Code, message: &str) -> Fault {
        Fault::of(&Error::GRpcStatus(Status::new(code, message)))
    }

    #[test]
    fn what_etcd_says_before_it_proposes_is_certainly_not_done() {
        assert!(matches!(of(Code::Unavailable, "etcdserver: no leader"), Fault::NotDone(_)));
        assert!(matches!(of(Code::ResourceExhausted, "etcdserver: too many requests"), Fault::NotDone(_)));
        let mut refused = Status::unavailable("tcp connect error");
        refused.set_source(std::sync::Arc::new(ConnectError("connection refused".into())));
        assert!(matches!(Fault::of(&Error::GRpcStatus(refused)), Fault::NotDone(_)));
    }

    #[test]
    fn what_was_sent_and_not_answered_may_be_done() {
        for message in ["etcdserver: request timed out", "etcdserver: leader changed", "transport error"] {
            let fault = of(Code::Unavailable, message);
            assert!(matches!(fault, Fault::Unclear(_)), "{message}");
            assert!(matches!(fault.into_store_error(true), StoreError::Unknown(_)), "{message}");
        }
    }

    #[test]
    fn etcds_own_answers_are_told_apart() {
        assert_eq!(of(Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"), Fault::Compacted);
        assert_eq!(of(Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision"), Fault::Future);
        assert_eq!(of(Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"), Fault::NoSpace);
        assert_eq!(of(Code::NotFound, "etcdserver: requested lease not found"), Fault::NoLease);
        assert!(matches!(of(Code::InvalidArgument, "etcdserver: request is too large"), Fault::TooLarge(_)));
    }
}
