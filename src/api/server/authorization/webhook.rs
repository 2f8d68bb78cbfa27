//! An authorizer that asks a webhook.

use std::{sync::Arc, time::Instant};

use futures::future::BoxFuture;
use sha2::{Digest, Sha256};
use troupe_api::{
    aside::places::Places,
    auth::{Attributes, Authorizer, Decision, UserRules, groups::holder},
    metrics::{Collect, Counter, Family, Histogram},
    service::UserInfo,
};

use super::{conditions::Conditions, config::Webhook, reload, review};
use crate::webhook_client::{Answers, Endpoint};

const LONGEST: usize = 1 << 20;
/// Questions and answers with more text than this are not remembered: whoever asks chooses it.
const LONGEST_REMEMBERED: usize = 10_000;
/// Questions that are under way at one time; users have turns for what there are more.
const MOST_QUESTIONS: u32 = 256;
const SECONDS: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0];

static EVALUATIONS: Family<Counter> =
    Family::new("apiserver_authorization_webhook_evaluations_total", "Round-trips to authorization webhooks.", &["name", "result"]);
static DURATIONS: Family<Histogram> =
    Family::histogram("apiserver_authorization_webhook_duration_seconds", "Request latency in seconds.", &["name", "result"], &SECONDS);
static FAIL_OPEN: Family<Counter> = Family::new(
    "apiserver_authorization_webhook_evaluations_fail_open_total",
    "NoOpinion results due to webhook timeout or error.",
    &["name", "result"],
);
static EXCLUDED: Family<Counter> = Family::new(
    "apiserver_authorization_match_condition_exclusions_total",
    "Total number of exclusions when an authorization webhook is skipped because match conditions exclude it.",
    &["type", "name"],
);
static FAULTS: Family<Counter> = Family::new(
    "apiserver_authorization_match_condition_evaluation_errors_total",
    "Total number of errors when an authorization webhook encounters a match condition error.",
    &["type", "name"],
);

/// What is counted of authorization webhooks and of configurations that change.
pub static COLLECTORS: [&dyn Collect; 7] = [&reload::LAST, &reload::TOTAL, &EVALUATIONS, &DURATIONS, &FAIL_OPEN, &EXCLUDED, &FAULTS];

/// See the module.
pub struct WebhookAuthorizer {
    settings: Webhook,
    endpoint: Endpoint,
    conditions: Conditions,
    known: Answers<Decision>,
    turns: Places,
}

impl WebhookAuthorizer {
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When its kubeconfig or a condition cannot be used.
    pub fn new(settings: Webhook) -> Result<Arc<Self>, String> {
        let endpoint = Endpoint::of_kubeconfig(&settings.kubeconfig).map_err(|error| {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            format!("authorizer {:?}: {}: {error}{source}", settings.name, settings.kubeconfig.display())
        })?;
        let conditions = Conditions::new(&settings.conditions)?;
        Ok(Arc::new(WebhookAuthorizer { settings, endpoint, conditions, known: Answers::default(), turns: Places::new(MOST_QUESTIONS) }))
    }

    /// As long as this lives, nobody else is asked about.
    #[cfg(test)]
    pub async fn occupy(&self) -> impl Sized {
        self.turns.take(&"".into(), MOST_QUESTIONS).await
    }

    fn on_failure(&self, why: String) -> Decision {
        if self.settings.denies_on_failure { Decision::Deny(why) } else { Decision::NoOpinion(why) }
    }

    /// The question and its hash, or what is decided without it.
    fn question(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Result<(serde_json::Value, [u8; 32]), Decision> {
        let (spec, name) = (review::spec(user, attributes), self.settings.name.as_str());
        match self.conditions.hold(&spec) {
            Ok(true) => {}
            Ok(false) => {
                EXCLUDED.with(&["Webhook", name]).increment();
                return Err(Decision::NoOpinion(String::new()));
            }
            Err(why) => {
                FAULTS.with(&["Webhook", name]).increment();
                return Err(self.on_failure(why));
            }
        }
        let hash = Sha256::digest(spec.to_string()).into();
        Ok((spec, hash))
    }

    async fn ask(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        let (spec, hash) = match self.question(user, attributes) {
            Ok(question) => question,
            Err(decided) => return decided,
        };
        if let Some(known) = self.known.get(&hash) {
            return known;
        }
        let behalf: Arc<str> = holder(user).into();
        let Ok(Some(_place)) = tokio::time::timeout(self.settings.timeout, self.turns.take(&behalf, 1)).await else {
            // Whatever its failures mean: nobody gets past it by asking too much.
            return Decision::Deny("too many questions wait for an authorization webhook".into());
        };
        if let Some(known) = self.known.get(&hash) {
            return known;
        }
        let (begun, body) = (Instant::now(), review::body(&self.settings.version, &spec));
        let answered = self.endpoint.post(body.into(), self.settings.timeout, LONGEST).await;
        let is_short = answered.as_ref().is_ok_and(|answer| answer.len() < LONGEST_REMEMBERED) && length(attributes) < LONGEST_REMEMBERED;
        let decided = answered.and_then(|answer| review::decision(&answer));
        let result = match &decided {
            Ok(_) => "success",
            Err(why) if why.contains("deadline exceeded") => "timeout",
            Err(_) => "error",
        };
        let labels = [self.settings.name.as_str(), result];
        EVALUATIONS.with(&labels).increment();
        DURATIONS.with(&labels).observe_time(begun.elapsed());
        match decided {
            Ok(decision) => {
                let lasts = if decision == Decision::Allow { self.settings.authorized_for } else { self.settings.unauthorized_for };
                if let Some(lasts) = lasts.filter(|_| is_short) {
                    self.known.keep(hash, decision.clone(), lasts);
                }
                decision
            }
            Err(error) => {
                tracing::error!(webhook = self.settings.name, error, "Failed to make webhook authorizer request");
                if !self.settings.denies_on_failure {
                    FAIL_OPEN.with(&labels).increment();
                }
                // What went wrong is for the log, not for whoever asked.
                self.on_failure(String::new())
            }
        }
    }
}

fn length(attributes: &Attributes<'_>) -> usize {
    let Attributes { verb, resource, subresource, group, version, namespace, name, path, .. } = attributes;
    [verb, resource, subresource, group, version, namespace, name].iter().map(|text| text.len()).sum::<usize>() + path.map_or(0, str::len)
}

impl Authorizer for WebhookAuthorizer {
    /// What it said before; whoever cannot wait gets no opinion else, or where failures deny, a denial.
    fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        match self.question(user, attributes) {
            Ok((_, hash)) => self.known.get(&hash).unwrap_or_else(|| self.on_failure(String::new())),
            Err(decided) => decided,
        }
    }

    fn decide<'a>(&'a self, user: &'a UserInfo, attributes: &'a Attributes<'a>) -> Option<BoxFuture<'a, Decision>> {
        Some(Box::pin(self.ask(user, attributes)))
    }

    fn asks(&self) -> bool {
        true
    }

    fn rules_for(&self, _user: &UserInfo, _namespace: &str) -> UserRules {
        UserRules { rules: Vec::new(), incomplete: true, errors: vec!["webhook authorizer does not support user rule resolution".into()] }
    }
}
