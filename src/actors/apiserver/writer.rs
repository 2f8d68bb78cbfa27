//! Who writes what, how.

use std::sync::Arc;

use troupe_api::{
    meta::{Cause, Clock},
    notices::Notices,
    resources::WriteContext,
    service::{Target, UserInfo, WriteOptions},
    status::{FieldError, Status},
};

/// The name under which the API server itself writes.
pub const SERVER: &str = "system:apiserver";

/// A write's caller and address, as its stages need them.
#[derive(Clone)]
pub struct Writer {
    pub user: Arc<UserInfo>,
    pub target: Target,
    pub options: WriteOptions,
    pub cause: Cause,
    pub notices: Notices,
}

impl Writer {
    /// The API server itself, at `target`.
    pub fn server(target: Target, cause: Cause) -> Self {
        let groups = vec!["system:masters".to_owned(), "system:authenticated".to_owned()];
        let user = Arc::new(UserInfo { name: SERVER.into(), groups, ..UserInfo::default() });
        let options = WriteOptions { field_manager: "kube-apiserver".into(), ..WriteOptions::default() };
        Writer { user, target, options, cause, notices: Notices::default() }
    }

    /// What strategies are told of the write.
    pub fn context<'a>(&'a self, clock: &'a dyn Clock) -> WriteContext<'a> {
        WriteContext { user: &self.user, clock, subresource: &self.target.subresource }
    }

    /// Has the client hear the warnings of a write that is refused; those of others come with their replies.
    pub fn told<T>(&self, result: Result<T, Status>, warnings: &[String]) -> Result<T, Status> {
        if result.is_err() {
            warnings.iter().for_each(|text| self.notices.warn(text.as_str()));
        }
        result
    }

    /// 422 about the object, in the group that it is stored in: an event of events.k8s.io is one of the core group.
    pub fn invalid(&self, name: &str, errors: Vec<FieldError>) -> Status {
        let stored = self.target.resource.storage_gvk();
        Status::invalid(&stored.group, &stored.kind, name, errors)
    }
}
