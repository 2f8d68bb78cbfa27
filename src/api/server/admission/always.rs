//! `AlwaysAdmit` and `AlwaysDeny`: without a use, as upstream says, but for trying what clients do.

use async_trait::async_trait;
use troupe_api::status::Status;

use super::{Attributes, MutatingPlugin, Plugin, ValidatingPlugin};

/// Lets everything pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlwaysAdmit;

/// Lets nothing be written.
#[derive(Clone, Copy, Debug, Default)]
pub struct AlwaysDeny;

impl Plugin for AlwaysAdmit {
    fn name(&self) -> &'static str {
        "AlwaysAdmit"
    }
}

#[async_trait]
impl ValidatingPlugin for AlwaysAdmit {
    async fn validate(&self, _request: &Attributes<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl Plugin for AlwaysDeny {
    fn name(&self) -> &'static str {
        "AlwaysDeny"
    }
}

fn denied(request: &Attributes<'_>) -> Status {
    request.forbidden("admission control is denying all modifications")
}

#[async_trait]
impl MutatingPlugin for AlwaysDeny {
    async fn admit(&self, request: &mut Attributes<'_>) -> Result<(), Status> {
        Err(denied(request))
    }
}

#[async_trait]
impl ValidatingPlugin for AlwaysDeny {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        Err(denied(request))
    }
}
