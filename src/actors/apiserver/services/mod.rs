//! Cluster IPs and node ports of Services.

use troupe_api::{meta::Object, service::Target, status::Status, stored::StoredObject};

use super::{core::Core, write::Writer};

/// What a write took from the ranges, to be given back if it fails, and what it lets go of if it succeeds.
#[derive(Debug, Default)]
pub struct Allocation;

impl Core {
    /// Takes what the Service in `new` needs; other kinds need nothing.
    pub async fn allocate(&self, _writer: &Writer, _new: &mut Object, _old: Option<&Object>) -> Result<Allocation, Status> {
        Ok(Allocation)
    }

    /// Gives back what is not needed, now that the write is decided.
    pub async fn settle_allocation(&self, _allocation: Allocation, _committed: bool) {}

    /// Gives back what a deleted Service held.
    pub async fn release(&self, _target: &Target, _object: &StoredObject) {}
}
