//! A webhook as its configuration describes it, compiled.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde_json::Value;
use troupe_api::{
    meta::Object,
    resources::{
        tree::{at, items, text},
        webhook_config::ClientConfig,
    },
};

use crate::{
    admission::{expressions::Condition, match_conditions, matching::MatchResources},
    webhook_client::ReviewVersion,
};

/// How long a webhook may take whose configuration says nothing, in seconds.
const DEFAULT_SECONDS: u64 = 10;

/// One webhook.
#[derive(Debug)]
pub struct Hook {
    /// The name of the configuration it stands in.
    pub configuration: String,
    pub name: String,
    /// Tells webhooks of one name in one configuration apart; the same as long as their order is.
    pub id: String,
    /// Which requests concern it.
    pub resources: MatchResources,
    /// Its match conditions.
    pub conditions: Arc<[Condition]>,
    /// Whether a call that fails is as one that was never made (`failurePolicy: Ignore`).
    pub ignores_failure: bool,
    /// Whether it may be asked about what is not really done.
    pub takes_dry_run: bool,
    /// For the whole call.
    pub timeout: Duration,
    /// Whether it is asked again when a later one changed the object (`reinvocationPolicy: IfNeeded`).
    pub reinvoked: bool,
    /// The first form of question that it and this server know.
    pub version: Option<ReviewVersion>,
    pub client: ClientConfig,
}

/// The webhooks of a configuration, in order.
pub fn hooks(configuration: &Object) -> Vec<Hook> {
    let mut times: HashMap<&str, usize> = HashMap::new();
    let mut hooks = Vec::new();
    for webhook in configuration.list(&["webhooks"]) {
        let nth = times.entry(text(webhook, &["name"])).or_default();
        hooks.push(hook(configuration.name(), webhook, *nth));
        *nth += 1;
    }
    hooks
}

fn hook(configuration: &str, webhook: &Value, nth: usize) -> Hook {
    let name = text(webhook, &["name"]).to_owned();
    let seconds = at(webhook, &["timeoutSeconds"]).as_u64().unwrap_or(DEFAULT_SECONDS);
    let texts = |field: &str| items(webhook, &[field]).iter().filter_map(Value::as_str);
    Hook {
        configuration: configuration.to_owned(),
        id: format!("{configuration}/{name}/{nth}"),
        name,
        resources: MatchResources::of_webhook(webhook),
        conditions: match_conditions::read(items(webhook, &["matchConditions"])),
        ignores_failure: text(webhook, &["failurePolicy"]) == "Ignore",
        takes_dry_run: matches!(text(webhook, &["sideEffects"]), "None" | "NoneOnDryRun"),
        timeout: Duration::from_secs(seconds),
        reinvoked: text(webhook, &["reinvocationPolicy"]) == "IfNeeded",
        version: texts("admissionReviewVersions").find_map(ReviewVersion::parse),
        client: ClientConfig::read(at(webhook, &["clientConfig"])),
    }
}
