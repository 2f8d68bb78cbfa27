//! A webhook that is asked whose tokens are which nobody here knows (`authentication.k8s.io/v1` TokenReview).

use std::{collections::BTreeMap, time::Duration};

use futures::future::BoxFuture;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use troupe_api::{
    auth::{Authenticator, Credentials, TokenOwner},
    metrics::{Collect, Counter, Family},
    service::UserInfo,
    status::Status,
};

use super::reload;
use crate::webhook_client::{Answers, Endpoint};

const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST: usize = 1 << 20;
/// Answers with more text than this are not remembered.
const LONGEST_REMEMBERED: usize = 16 << 10;

static REQUESTS: Family<Counter> =
    Family::new("apiserver_delegated_authn_request_total", "Number of HTTP requests partitioned by status code.", &["code"]);

/// What is counted of token webhooks and of configurations that change.
pub static COLLECTORS: [&dyn Collect; 3] = [&reload::LAST, &reload::TOTAL, &REQUESTS];

/// See the module.
pub struct TokenWebhook {
    endpoint: Endpoint,
    /// The API server's own audiences.
    audiences: Vec<String>,
    lasts: Duration,
    known: Answers<Answer>,
}

/// Whose token it is; nothing where it is nobody's, or what is wrong with it.
type Answer = Result<Option<TokenOwner>, String>;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Review {
    status: ReviewStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReviewStatus {
    authenticated: bool,
    user: ReviewUser,
    audiences: Vec<String>,
    error: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ReviewUser {
    username: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl TokenWebhook {
    /// One whose answers count for a while.
    pub fn new(endpoint: Endpoint, audiences: Vec<String>, lasts: Duration) -> Self {
        TokenWebhook { endpoint, audiences, lasts, known: Answers::default() }
    }

    fn wanted<'a>(&'a self, audiences: &'a [String]) -> &'a [String] {
        if audiences.is_empty() { &self.audiences } else { audiences }
    }

    fn known(&self, token: &str, audiences: &[String]) -> Option<Answer> {
        self.known.get(&question(token, self.wanted(audiences)))
    }

    async fn review(&self, token: &str, audiences: &[String]) -> Answer {
        if let Some(known) = self.known(token, audiences) {
            return known;
        }
        let wanted = self.wanted(audiences);
        let review = json!({
            "kind": "TokenReview", "apiVersion": "authentication.k8s.io/v1", "metadata": {"creationTimestamp": null},
            "spec": {"token": token, "audiences": wanted}, "status": {"user": {}},
        });
        let answered = self.endpoint.post(review.to_string().into(), PATIENCE, LONGEST).await;
        REQUESTS.with(&[if answered.is_ok() { "200" } else { "<error>" }]).increment();
        let answered = answered.inspect_err(|error| tracing::error!(error, "the webhook of tokens does not answer"))?;
        let review: Review = serde_json::from_slice(&answered).map_err(|error| format!("the answer is no TokenReview: {error}"))?;
        let answer = judged(review.status, wanted);
        if answered.len() <= LONGEST_REMEMBERED {
            self.known.keep(question(token, wanted), answer.clone(), self.lasts);
        }
        answer
    }
}

fn judged(status: ReviewStatus, wanted: &[String]) -> Answer {
    if !status.authenticated {
        return if status.error.is_empty() { Ok(None) } else { Err(status.error) };
    }
    // One that knows nothing of audiences vouches for the server's own.
    let matching: Vec<String> = match status.audiences.is_empty() {
        true => wanted.to_vec(),
        false => wanted.iter().filter(|audience| status.audiences.contains(audience)).cloned().collect(),
    };
    if matching.is_empty() {
        return Ok(None);
    }
    let ReviewUser { username, uid, groups, extra } = status.user;
    Ok(Some(TokenOwner { user: UserInfo { name: username, uid, groups, extra }, audiences: matching }))
}

fn question(token: &str, audiences: &[String]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in std::iter::once(token).chain(audiences.iter().map(String::as_str)) {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn user(answer: Answer) -> Result<Option<UserInfo>, Status> {
    answer.map(|owner| owner.map(|owner| owner.user)).map_err(|_| Status::unauthorized())
}

impl Authenticator for TokenWebhook {
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<UserInfo>, Status> {
        match credentials.bearer.and_then(|token| self.known(token, &[])) {
            Some(answer) => user(answer),
            None => Ok(None),
        }
    }

    fn ask<'a>(&'a self, credentials: &'a Credentials<'a>) -> Option<BoxFuture<'a, Result<Option<UserInfo>, Status>>> {
        let token = credentials.bearer?;
        Some(Box::pin(async move { user(self.review(token, &[]).await) }))
    }

    fn ask_review<'a>(&'a self, token: &'a str, audiences: &'a [String]) -> Option<BoxFuture<'a, Result<Option<TokenOwner>, String>>> {
        Some(Box::pin(self.review(token, audiences)))
    }

    fn asks(&self) -> bool {
        true
    }
}
