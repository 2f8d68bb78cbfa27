//! Leases that one process alone keeps.

use k8s_openapi::api::coordination::v1::Lease;
use troupe_api::{Status, service::PatchType};
use troupe_api_client::Api;

/// Writes a lease as its keeper wants it, and makes it where there is none.
///
/// # Errors
/// What the API server says; the keeper tries again with its next renewal.
pub async fn keep(api: &Api<Lease>, lease: &Lease) -> Result<(), Status> {
    let patch = serde_json::to_value(lease).map_err(Status::internal)?;
    match api.patch(lease.metadata.name.as_deref().unwrap_or_default(), "", PatchType::Merge, &patch).await {
        Err(status) if status.is_not_found() => api.create(lease).await.map(drop),
        written => written.map(drop),
    }
}
