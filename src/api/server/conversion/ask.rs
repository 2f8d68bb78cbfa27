//! One question to one webhook.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use troupe_api::{
    aside,
    meta::Object,
    resources::{Resource, custom::ConversionWebhook},
    status::Status,
};
use uuid::Uuid;

use super::{
    Converter, ROOM, failed, metrics,
    review::{self, Subject},
    webhook_of,
};
use crate::webhook_client::ReviewVersion;

/// How long a webhook may take, as upstream.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long a question waits for others to the same webhook to be answered.
const PATIENCE: Duration = Duration::from_secs(30);
/// How much longer than its question an answer may be, and by how much it may be longer whatever the question.
const LONGER: usize = 4;
const BEYOND: usize = 2 << 20;

/// What a webhook is asked.
pub(super) struct Question {
    pub resource: Arc<Resource>,
    /// The `apiVersion` that is wanted.
    pub wanted: Arc<str>,
    pub subjects: Vec<Subject>,
}

impl Converter {
    /// Asks a webhook; out come its objects in the order of the question, pruned, with the metadata that a webhook cannot change.
    ///
    /// # Errors
    /// 500 in upstream's words.
    pub(super) async fn ask(&self, question: Question) -> Result<Vec<Object>, Status> {
        let Question { resource, wanted, subjects } = question;
        let (versions, webhook) = webhook_of(&resource)?;
        let gvk = subjects.first().map(Subject::gvk).unwrap_or_default();
        let Some(version) = webhook.review_versions.iter().find_map(|version| ReviewVersion::parse(version)) else {
            return Err(failed("no supported conversion review versions".to_owned()));
        };
        let began = Instant::now();
        let from = subjects.first().map(|subject| subject.api_version.clone()).unwrap_or_default();
        let outcome = self.answer(webhook, version, &gvk, &wanted, subjects).await;
        metrics::converted(&versions.definition, &from, &wanted, began, outcome.as_ref().err().map(|(kind, _)| *kind));
        let mut objects = outcome.map_err(|(_, why)| failed(why))?;
        let bytes = objects.iter().map(|(_, bytes)| bytes).sum();
        let kept = resource.clone();
        let pruned = move || {
            for (object, _) in &mut objects {
                if let Some(versions) = kept.versions() {
                    versions.prune(object);
                }
            }
            objects.into_iter().map(|(object, _)| object).collect()
        };
        Ok(aside::compute(bytes, pruned).await)
    }

    async fn answer(
        &self,
        webhook: &ConversionWebhook,
        version: ReviewVersion,
        gvk: &str,
        wanted: &Arc<str>,
        subjects: Vec<Subject>,
    ) -> Result<Vec<(Object, usize)>, (metrics::Failure, String)> {
        let calling = |why: String| (metrics::Failure::Call, format!("conversion webhook for {gvk} failed: {why}"));
        let length: usize = subjects.iter().map(|subject| subject.json.len()).sum();
        let longest = BEYOND + length * LONGER;
        let places = async {
            let place = webhook.places.acquire().await;
            let taken = u32::try_from((length + longest).min(ROOM)).unwrap_or(u32::MAX);
            (place, self.room.acquire_many(taken).await)
        };
        // Nobody closes them.
        let _places = tokio::time::timeout(PATIENCE, places).await.map_err(|_| calling("too many conversions wait for it".to_owned()))?;
        let uid = Uuid::new_v4().to_string();
        let body = review::question(version, &uid, wanted, &subjects);
        let answer = self.client.post(&webhook.client, body, TIMEOUT, longest).await.map_err(calling)?;
        let (gvk, wanted) = (gvk.to_owned(), wanted.clone());
        aside::compute(answer.len(), move || review::read(&answer, version, &uid, &wanted, &gvk, subjects)).await
    }
}
