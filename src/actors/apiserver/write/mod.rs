//! Writes: the path that every create, update, patch and deletion takes to the store.
//!
//! Its stages, in upstream's order; [`path`] has them one after the other, [`stages`] says what each does:
//!
//! 1. resolve: which version is written on (`update`), under which name and namespace (`create`, [`names`])
//! 2. decode, or compute by a patch: the object in the form that it is stored in (`objects`)
//! 3. own: who owns which field ([`stages`]; server-side apply did it while it computed)
//! 4. mutate: admission may change the object
//! 5. prepare: metadata that the server owns, and the kind's own rules ([`metadata`], `Strategy`)
//! 6. allocate: addresses and ports, where the row says that its objects hold some (`services`)
//! 7. validate: the schema, the kind's own rules, and what the row asks of its writers (`authorization`)
//! 8. admit: admission may refuse the object in its final form
//! 9. charge: the room that memory has ([`room`]), the quotas of the namespace (`quota`)
//! 10. commit: compare-and-swap (`commit`); who loses begins anew on the newest version
//! 11. respond: what was taken for a write that did not happen is given back, and what is not held any more
//!
//! Nothing here asks for a kind by name: what only some kinds do their rows say (`Feature`, `Strategy`).

mod collection;
mod connect;
mod create;
mod delete;
pub mod metadata;
mod names;
mod ownership;
mod path;
mod raw;
mod room;
mod stages;
mod unreadable;
mod update;

use std::sync::Arc;

use troupe_api::{features::FeatureGates, meta::Clock};

use super::{admission::Admission, authorization::Authorization, commit::Committer, quota::Quota, read::Reader, services::ServiceAllocator};
use crate::runtime::system::System;

pub use names::{check_update, settle_namespace};
pub use room::Room;
pub use update::{Change, Transform};

/// The parts that writes go through.
pub struct WritePath {
    pub reader: Arc<Reader>,
    pub committer: Arc<Committer>,
    pub authorization: Arc<Authorization>,
    pub admission: Arc<Admission>,
    pub allocator: Arc<ServiceAllocator>,
    pub quota: Quota,
    pub room: Room,
    /// Fields of those that are off are dropped.
    pub features: FeatureGates,
    pub clock: Arc<dyn Clock>,
    /// Whose randomness makes names and UIDs.
    pub system: System,
}
