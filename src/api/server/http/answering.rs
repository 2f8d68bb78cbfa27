//! What a reply to a call depends on.

use std::sync::Arc;

use troupe_api::{
    aside,
    service::{Target, UserInfo},
    status::Status,
};

use super::{limits::Held, outgoing::Outgoing, query::Query, shared::Shared, table::TableForm};

/// What a reply to a call depends on beside what is replied.
pub struct Answering<'a> {
    pub shared: &'a Shared,
    pub target: &'a Target,
    pub query: &'a Query,
    pub outgoing: Outgoing,
    /// Who gets the reply, and whether they may let as much of it wait as they like.
    pub user: &'a Arc<UserInfo>,
    pub exempt: bool,
}

impl Answering<'_> {
    /// Keeps account of what a reply that is made piece by piece holds: about as much as its largest piece.
    ///
    /// # Errors
    /// 429 when the user lets too much wait.
    pub fn hold(&self, piece: usize) -> Result<Option<Held>, Status> {
        if piece <= aside::SMALL {
            return Ok(None);
        }
        let mut held = self.shared.replies.hold(self.user, self.exempt);
        held.add(piece)?;
        Ok(Some(held))
    }

    pub fn table(&self, version: &'static str) -> Result<TableForm, Status> {
        TableForm::new(self.target, self.query, version, self.shared.options.clock.clone())
    }
}
