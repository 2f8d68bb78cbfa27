//! How objects are turned from one version into another: not at all, or by a webhook.

use serde_json::Value;

use super::Ratchet;
use crate::{
    resources::{
        tree::items,
        validation::{Field, webhook_client},
    },
    status::FieldError,
};

const STRATEGIES: [&str; 2] = ["None", "Webhook"];

/// Checks a conversion in its inner form.
pub(super) fn check(errors: &mut Vec<FieldError>, conversion: &Field<'_>, preserves_unknown: bool, ratchet: &Ratchet) {
    if !conversion.is_set() {
        return;
    }
    let [strategy, client, versions] = ["strategy", "webhookClientConfig", "conversionReviewVersions"].map(|name| conversion.child(name));
    if preserves_unknown && strategy.text() != "None" {
        errors.push(strategy.invalid_as(strategy.text(), "must be None if spec.preserveUnknownFields is true"));
    }
    strategy.check_one_of(errors, &STRATEGIES);
    if strategy.text() != "Webhook" {
        let set = [client.is_set().then_some(client), (!versions.items().is_empty()).then_some(versions)];
        errors.extend(set.into_iter().flatten().map(|field| field.forbidden("should not be set when strategy is not set to Webhook")));
        return;
    }
    if client.is_set() {
        webhook_client::client_config(errors, &client);
        if !ratchet.broken_bundle {
            webhook_client::ca_bundle(errors, &client.child("caBundle"));
        }
    } else {
        errors.push(client.required("required when strategy is set to Webhook"));
    }
    webhook_client::review_versions(errors, &versions, "", ratchet.unknown_versions);
}

/// Whether a conversion lists versions, and none that this server asks in.
pub(super) fn knows_none(conversion: &Value) -> bool {
    webhook_client::lists_none_of_ours(items(conversion, &["conversionReviewVersions"]))
}
