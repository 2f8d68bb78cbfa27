//! Whose turn a key is worked on in.

use std::sync::{Arc, LazyLock};

use troupe_api::meta::ObjectKey;

/// What is worked on in turn.
pub trait InTurn {
    /// Whose turn it is worked on in: its namespace.
    fn turn(&self) -> &Arc<str>;
}

impl InTurn for ObjectKey {
    fn turn(&self) -> &Arc<str> {
        &self.namespace
    }
}

/// The turn of what is in no namespace, or does not say in which.
pub fn of_nobody() -> &'static Arc<str> {
    static NOBODY: LazyLock<Arc<str>> = LazyLock::new(Arc::default);
    &NOBODY
}
