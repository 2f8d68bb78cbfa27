//! Validating webhooks: all at once, on the object as it will be stored.

use std::{sync::Arc, time::Instant};

use async_trait::async_trait;
use futures::future::join_all;
use troupe_api::{aside, status::Status};

use super::{Webhooks, configuration::Hook, invocation::Invocation, metrics};
use crate::admission::{Attributes, Plugin, ValidatingPlugin};

/// What metrics call them.
pub(super) const KIND: &str = "validating";

/// The plugin that asks validating webhooks.
pub struct ValidatingWebhooks(pub(super) Webhooks);

impl Plugin for ValidatingWebhooks {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionWebhook"
    }
}

#[async_trait]
impl ValidatingPlugin for ValidatingWebhooks {
    async fn validate(&self, request: &Attributes<'_>) -> Result<(), Status> {
        let hooks = self.0.hooks(request)?;
        if hooks.is_empty() { Ok(()) } else { self.0.validate(&hooks, request).await }
    }
}

impl Webhooks {
    /// Lets the webhooks refuse the object. All are asked, whatever others say; of several refusals the first in order counts.
    ///
    /// # Errors
    /// When one refuses, or fails and that counts.
    async fn validate(&self, hooks: &[Arc<Hook>], request: &Attributes<'_>) -> Result<(), Status> {
        let mut invocations = Vec::new();
        for hook in hooks {
            invocations.extend(Invocation::of(hook, KIND, request).await?);
        }
        let asked = invocations.iter().enumerate().map(|(index, invocation)| self.validate_by(invocation, request, index));
        aside::elsewhere(join_all(asked)).await.into_iter().collect()
    }

    async fn validate_by(&self, invocation: &Invocation, request: &Attributes<'_>, index: usize) -> Result<(), Status> {
        let (hook, began) = (&invocation.hook, Instant::now());
        match self.ask(invocation, request, false).await {
            Ok(_) => {
                metrics::asked(hook, KIND, request.operation, began, None);
                Ok(())
            }
            Err(failure) => match self.judged(invocation, request, KIND, began, failure) {
                Some(status) => Err(status),
                None => {
                    let key = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
                    request.notices.annotate(key, hook.name.clone());
                    Ok(())
                }
            },
        }
    }
}
