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
mod ownership;
mod raw;
mod room;
mod update;

use std::sync::Arc;

use troupe_api::{
    admission::{Operation, OperationOptions, Request},
    meta::{Cause, Object},
    notices::Notices,
    resources::WriteContext,
    service::{DeleteOptions, Target, UserInfo, WriteOptions},
    status::Status,
};

use super::core::Core;
pub use commit::{CommitError, stored};
pub use names::check_update;

pub use room::Growth;
pub use update::{Change, Transform, is_namespace};

static NO_OPTIONS: DeleteOptions =
    DeleteOptions { dry_run: false, grace_period_seconds: None, precondition_uid: None, precondition_revision: None, propagation: None };

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

    /// A request to admission for `object`.
    pub(super) fn admission<'a>(
        &'a self,
        core: &'a Core,
        operation: Operation,
        object: Option<&'a mut Object>,
        old: Option<&'a Object>,
    ) -> Request<'a> {
        Request {
            operation,
            user: &self.user,
            target: &self.target,
            object,
            old,
            dry_run: self.options.dry_run,
            options: match operation {
                Operation::Create => OperationOptions::Create(&self.options),
                Operation::Update => OperationOptions::Update(&self.options),
                Operation::Delete => OperationOptions::Delete(&NO_OPTIONS),
                Operation::Connect => OperationOptions::Connect,
            },
            clock: &*core.clock,
            reads: core,
            notices: &self.notices,
        }
    }

    /// 422 about the object.
    pub(super) fn invalid(&self, name: &str, errors: Vec<troupe_api::status::FieldError>) -> Status {
        Status::invalid(&self.target.resource.group, &self.target.resource.kind, name, errors)
    }
}
