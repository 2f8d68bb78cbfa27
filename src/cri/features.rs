//! What a runtime says it can do.

use crate::proto;

/// The optional features of a runtime. One that says nothing has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeFeatures {
    /// It can leave out the groups that an image's `/etc/group` gives a user.
    pub supplemental_groups_policy: bool,
    /// By name; the default one has none.
    pub handlers: Vec<HandlerFeatures>,
}

/// The features of one runtime handler.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HandlerFeatures {
    pub name: String,
    pub recursive_read_only_mounts: bool,
    /// It can give pods users of their own, and map the files of volumes for them.
    pub user_namespaces: bool,
}

impl RuntimeFeatures {
    pub fn of(status: &proto::StatusResponse) -> Self {
        let handlers = status.runtime_handlers.iter().map(|handler| HandlerFeatures {
            name: handler.name.clone(),
            recursive_read_only_mounts: handler.features.is_some_and(|features| features.recursive_read_only_mounts),
            user_namespaces: handler.features.is_some_and(|features| features.user_namespaces),
        });
        RuntimeFeatures {
            supplemental_groups_policy: status.features.is_some_and(|features| features.supplemental_groups_policy),
            handlers: handlers.collect(),
        }
    }

    /// Whether pods of a handler can have users of their own.
    pub fn user_namespaces(&self, handler: &str) -> bool {
        self.handlers.iter().any(|known| known.name == handler && known.user_namespaces)
    }

    /// Whether those of any can.
    pub fn any_user_namespaces(&self) -> bool {
        self.handlers.iter().any(|known| known.user_namespaces)
    }

    /// Whether a read-only mount can be read-only in everything mounted below it, too.
    pub fn recursive_read_only(&self, handler: &str) -> bool {
        self.handlers.iter().any(|known| known.name == handler && known.recursive_read_only_mounts)
    }
}
