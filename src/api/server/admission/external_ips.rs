//! `DenyServiceExternalIPs`: Services get no further external addresses, which their writers could take others' traffic by.

use async_trait::async_trait;
use troupe_api::{meta::Object, status::Status};

use super::{Attributes, Operation, Plugin, ValidatingPlugin};

/// The plugin.
#[derive(Clone, Copy, Debug, Default)]
pub struct DenyServiceExternalIPs;

impl Plugin for DenyServiceExternalIPs {
    fn name(&self) -> &'static str {
        "DenyServiceExternalIPs"
    }

    fn operations(&self) -> &'static [Operation] {
        super::plugin::WRITES
    }
}

#[async_trait]
impl ValidatingPlugin for DenyServiceExternalIPs {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        let Some(service) = request.object().filter(|_| writes && request.is_main("", "services")) else { return Ok(()) };
        let had = request.old.map_or(&[][..], addresses);
        match addresses(service).iter().all(|address| had.contains(address)) {
            true => Ok(()),
            false => Err(request.forbidden("Use of external IPs is denied by admission control")),
        }
    }
}

fn addresses(service: &Object) -> &[serde_json::Value] {
    service.list(&["spec", "externalIPs"])
}
