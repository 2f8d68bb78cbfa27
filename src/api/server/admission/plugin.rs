//! The traits of admission plugins.

use async_trait::async_trait;
use troupe_api::status::Status;

use super::{Attributes, Operation};

/// Operations that plugins are about.
pub(super) const CREATES: &[Operation] = &[Operation::Create];
pub(super) const UPDATES: &[Operation] = &[Operation::Update];
pub(super) const WRITES: &[Operation] = &[Operation::Create, Operation::Update];
pub(super) const CHANGES: &[Operation] = &[Operation::Create, Operation::Update, Operation::Delete];
pub(super) const ALL_BUT_DELETES: &[Operation] = &[Operation::Create, Operation::Update, Operation::Connect];
const ALL: &[Operation] = &[Operation::Create, Operation::Update, Operation::Delete, Operation::Connect];

/// An admission plugin; what it does say the other traits.
pub trait Plugin: Send + Sync + 'static {
    /// Upstream's name, as in `--enable-admission-plugins`.
    fn name(&self) -> &'static str;

    /// The operations that it is about, as upstream's plugin of its name: no time is told of others.
    fn operations(&self) -> &'static [Operation] {
        ALL
    }
}

/// One that sees requests before validation (upstream's `MutationInterface`).
#[async_trait]
pub trait MutatingPlugin: Plugin {
    /// How many bytes of other objects [`MutatingPlugin::admit`] decodes for this write, or puts into its object.
    fn work(&self, _request: &Attributes<'_>) -> usize {
        0
    }

    /// May change the object, or refuse. Is asked once more where a later plugin changed the object and that matters.
    async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status>;
}

/// One that sees the object in its final form, and may only refuse (upstream's `ValidationInterface`).
#[async_trait]
pub trait ValidatingPlugin: Plugin {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status>;
}
