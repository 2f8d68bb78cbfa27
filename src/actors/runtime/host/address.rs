//! The address of a hosted unit: counts what it sends, so that the directory knows mailbox depths.

use std::sync::Arc;

use actix::{Addr, MailboxError, Message, WeakAddr, dev::SendError};
use troupe_api::meta::Cause;

use super::Host;
use crate::runtime::{
    directory::Entry,
    envelope::Traced,
    host::{On, Unit},
    recorder::Name,
};

/// The address of a unit. Cheap to clone.
pub struct UnitAddr<U: Unit> {
    addr: Addr<Host<U>>,
    entry: Arc<Entry>,
    from: Name,
}

impl<U: Unit> Clone for UnitAddr<U> {
    fn clone(&self) -> Self {
        UnitAddr { addr: self.addr.clone(), entry: self.entry.clone(), from: self.from }
    }
}

/// An address that nothing can be sent to as it is.
pub struct WeakUnitAddr<U: Unit> {
    addr: WeakAddr<Host<U>>,
    entry: Arc<Entry>,
    from: Name,
}

impl<U: Unit> WeakUnitAddr<U> {
    /// The address, unless the unit is gone.
    pub fn upgrade(&self) -> Option<UnitAddr<U>> {
        Some(UnitAddr { addr: self.addr.upgrade()?, entry: self.entry.clone(), from: self.from })
    }

    pub fn path(&self) -> &Arc<str> {
        self.entry.path()
    }
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TellError {
    #[error("the unit's mailbox is full")]
    Full,
    #[error("the unit is gone or restarted while it had the message in hand")]
    Closed,
}

impl<U: Unit> UnitAddr<U> {
    pub(crate) fn new(addr: Addr<Host<U>>, entry: Arc<Entry>) -> Self {
        UnitAddr { addr, entry, from: Name::OUTSIDE }
    }

    /// The same address for messages that the unit called `from` sends.
    pub fn sent_by(&self, from: Name) -> Self {
        UnitAddr { from, ..self.clone() }
    }

    /// The same address for who keeps very many of units that live anyway: each address has a place of its own in the mailbox's bound, which takes
    /// memory.
    pub fn downgrade(&self) -> WeakUnitAddr<U> {
        WeakUnitAddr { addr: self.addr.downgrade(), entry: self.entry.clone(), from: self.from }
    }

    /// The actix address, for recipients.
    pub fn addr(&self) -> &Addr<Host<U>> {
        &self.addr
    }

    pub fn path(&self) -> &Arc<str> {
        self.entry.path()
    }

    /// Whether the unit still lives.
    pub fn connected(&self) -> bool {
        self.addr.connected()
    }

    /// Lets the unit try again soon if it is quarantined: something changed that may have made it fail.
    pub fn lift_quarantine(&self) {
        self.entry.lift();
    }

    /// Sends without waiting and beyond the mailbox's bound: for idempotent wake-ups only. Silent when the unit is gone.
    pub fn wake<M>(&self, message: M, cause: Cause)
    where
        U: On<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.entry.message_queued();
        self.addr.do_send(Traced::new(message, cause, self.from));
    }

    /// Sends unless the mailbox is full.
    pub fn try_tell<M>(&self, message: M, cause: Cause) -> Result<(), TellError>
    where
        U: On<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.entry.message_queued();
        self.addr.try_send(Traced::new(message, cause, self.from)).map_err(|error| {
            self.entry.message_refused();
            match error {
                SendError::Full(_) => TellError::Full,
                SendError::Closed(_) => TellError::Closed,
            }
        })
    }

    /// Sends and waits for the answer, and for room in the mailbox before that.
    pub async fn ask<M>(&self, message: M, cause: Cause) -> Result<M::Result, TellError>
    where
        U: On<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        self.entry.message_queued();
        self.addr.send(Traced::new(message, cause, self.from)).await.map_err(|error| match error {
            MailboxError::Closed | MailboxError::Timeout => TellError::Closed,
        })
    }
}
