//! Validating webhooks: all at once, on the object as it will be stored.

use std::{sync::Arc, time::Instant};

use futures::future::join_all;

use super::{
    Webhooks,
    configuration::Hook,
    invocation::{Invocation, invocation},
    metrics,
};
use crate::{
    admission::{Request, view::Form},
    aside,
    status::Status,
};

/// What metrics call them.
const KIND: &str = "validating";

impl Webhooks {
    /// Lets the webhooks refuse the object. All are asked, whatever others say; of several refusals the first in order counts.
    ///
    /// # Errors
    /// When one refuses, or fails and that counts.
    pub async fn validate(&self, hooks: &[Arc<Hook>], request: &Request<'_>) -> Result<(), Status> {
        let form = Form::of(request);
        let mut invocations = Vec::new();
        for hook in hooks {
            invocations.extend(invocation(hook, request, form).await?);
        }
        let asked = invocations.iter().enumerate().map(|(index, invocation)| self.validate_by(invocation, request, index));
        aside::elsewhere(join_all(asked)).await.into_iter().collect()
    }

    async fn validate_by(&self, invocation: &Invocation, request: &Request<'_>, index: usize) -> Result<(), Status> {
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
