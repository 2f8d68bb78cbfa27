//! Writes: the rules every create, update, patch and deletion follows, and the commit.
//!
//! The order is upstream's: decode, field ownership, mutating admission, system fields, strategy, allocation,
//! validation, validating admission, compare-and-swap. A write that loses the race is computed again from the newest version.

mod collection;
mod commit;
mod connect;
mod create;
mod delete;
pub mod metadata;
mod names;
mod raw;
mod room;
mod update;

use std::sync::Arc;

use troupe_api::{
    admission::{Attributes, Operation, OperationOptions},
    meta::Cause,
    notices::Notices,
    resources::WriteContext,
    service::{Target, UserInfo, WriteOptions},
    status::Status,
};

use super::core::Core;
pub use commit::{CommitError, stored};
pub use names::check_update;

pub use room::Growth;
pub use update::{Change, Transform};

/// Who writes what, how.
#[derive(Clone)]
pub struct Writer {
    pub user: Arc<UserInfo>,
    pub target: Target,
    pub options: WriteOptions,
    pub cause: Cause,
    pub notices: Notices,
}

impl Writer {
    pub(super) fn context<'a>(&'a self, core: &'a Core) -> WriteContext<'a> {
        WriteContext { user: &self.user, clock: &*core.clock, subresource: &self.target.subresource }
    }

    /// What admission is told of a create or an update.
    pub(super) fn attributes<'a>(&'a self, core: &'a Core, operation: Operation) -> Attributes<'a> {
        let options = match operation {
            Operation::Update => OperationOptions::Update(&self.options),
            _ => OperationOptions::Create(&self.options),
        };
        self.attributes_of(core, options)
    }

    /// What admission is told of a request with such options.
    pub(super) fn attributes_of<'a>(&'a self, core: &'a Core, options: OperationOptions<'a>) -> Attributes<'a> {
        Attributes::new(&self.target, &self.user, options, core, &self.notices)
    }

    /// 422 about the object.
    pub(super) fn invalid(&self, name: &str, errors: Vec<troupe_api::status::FieldError>) -> Status {
        Status::invalid(&self.target.resource.group, &self.target.resource.kind, name, errors)
    }
}
