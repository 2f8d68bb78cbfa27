//! A process among those from which an API server chooses the leader (KEP-4355): it tells of itself, and that it is still there when it is asked.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::coordination::v1beta1::{LeaseCandidate, LeaseCandidateSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use troupe_api::{
    Status,
    meta::{Clock, FieldSelector},
    service::{DeleteOptions, WatchOptions},
    version::VersionInfo,
};
use troupe_api_client::{Api, WatchEvent};

use super::{NAMESPACE, OLDEST_EMULATION_VERSION};

/// Who is not asked tells that it is still there this often.
const UNASKED: SignedDuration = SignedDuration::from_mins(5);
/// After how long it looks again where it could not hear whether it is asked; whoever asks waits for five seconds.
pub const LOOK: Duration = Duration::from_secs(1);

/// What a process of this version says of itself as a candidate for a lease.
pub fn of_version(lease: &str, version: &VersionInfo) -> LeaseCandidateSpec {
    let VersionInfo { git_version, emulation_major, emulation_minor, .. } = version;
    let release = git_version.split('+').next().unwrap_or_default();
    LeaseCandidateSpec {
        lease_name: lease.to_owned(),
        binary_version: release.trim_start_matches('v').to_owned(),
        emulation_version: Some(format!("{emulation_major}.{emulation_minor}.0")),
        strategy: OLDEST_EMULATION_VERSION.to_owned(),
        ..LeaseCandidateSpec::default()
    }
}

/// What is to be written over what is `known` of a candidate; `None` where that is as it should be.
pub fn renewed(known: Option<&LeaseCandidateSpec>, wanted: &LeaseCandidateSpec, now: Timestamp) -> Option<LeaseCandidateSpec> {
    let fresh = |ping_time: Option<MicroTime>| LeaseCandidateSpec { ping_time, renew_time: Some(MicroTime(now)), ..wanted.clone() };
    let Some(known) = known else { return Some(fresh(None)) };
    let is_same = LeaseCandidateSpec { ping_time: None, renew_time: None, ..known.clone() } == *wanted;
    let is_due = asks(known) || unasked_in(known, now).is_zero();
    (is_due || !is_same).then(|| fresh(known.ping_time.clone()))
}

/// Writes the candidate of this name where it is not as it should be, and answers with what it is then.
///
/// # Errors
/// What the API server says.
pub async fn keep(api: &Api<LeaseCandidate>, name: &str, wanted: &LeaseCandidateSpec, now: Timestamp) -> Result<Arc<LeaseCandidate>, Status> {
    let known = api.get_opt(name).await?;
    let renewed = renewed(known.as_ref().map(|known| &known.spec), wanted, now);
    match (known, renewed) {
        (Some(known), None) => Ok(known),
        (Some(known), Some(spec)) => api.update(&LeaseCandidate { spec, ..(*known).clone() }).await,
        (None, spec) => {
            let metadata = ObjectMeta { name: Some(name.to_owned()), namespace: Some(NAMESPACE.into()), ..ObjectMeta::default() };
            api.create(&LeaseCandidate { metadata, spec: spec.unwrap_or_else(|| wanted.clone()) }).await
        }
    }
}

/// Waits until a candidate that is `seen` like this is to be written again, which a watch of it alone tells: whether that is because it is
/// asked, or because time has passed, or somebody else has changed it or taken it away.
///
/// # Errors
/// Why nobody can tell.
pub async fn is_asked(api: &Api<LeaseCandidate>, seen: &LeaseCandidate, wanted: &LeaseCandidateSpec, clock: &dyn Clock) -> Result<bool, Status> {
    let name = seen.metadata.name.as_deref().unwrap_or_default();
    let fields = FieldSelector::parse(&format!("metadata.name={name}")).map_err(|why| Status::bad_request(why.to_string()))?;
    let resource_version = seen.metadata.resource_version.as_deref().and_then(|revision| revision.parse().ok());
    let options = WatchOptions { fields, resource_version, ..WatchOptions::default() };
    let news = async {
        let mut events = api.watch(options).await?;
        while let Some(event) = events.next().await {
            match event {
                WatchEvent::Applied { object, .. } if renewed(Some(&object.spec), wanted, clock.now()).is_some() => return Ok(asks(&object.spec)),
                WatchEvent::Applied { .. } | WatchEvent::Bookmark { .. } => {}
                WatchEvent::Deleted { .. } => return Ok(false),
                WatchEvent::End(status) => return Err(status),
            }
        }
        Err(Status::unavailable("the watch ended"))
    };
    tokio::time::timeout(unasked_in(&seen.spec, clock.now()), news).await.unwrap_or(Ok(false))
}

/// Whether somebody waits for its answer.
fn asks(candidate: &LeaseCandidateSpec) -> bool {
    let Some(renewed) = &candidate.renew_time else { return true };
    candidate.ping_time.as_ref().is_some_and(|asked| asked.0 > renewed.0)
}

/// When it tells of itself unasked.
fn unasked_in(candidate: &LeaseCandidateSpec, now: Timestamp) -> Duration {
    let passed = candidate.renew_time.as_ref().map_or(UNASKED, |renewed| now.duration_since(renewed.0));
    Duration::try_from(UNASKED.saturating_sub(passed).min(UNASKED)).unwrap_or_default()
}

/// Stands no more.
///
/// # Errors
/// What the API server says.
pub async fn withdraw(api: &Api<LeaseCandidate>, name: &str) -> Result<(), Status> {
    match api.delete(name, DeleteOptions::default()).await {
        Err(status) if status.is_not_found() => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000 + second).expect("a time")
    }

    fn candidate(asked: Option<i64>, renewed: Option<i64>) -> LeaseCandidateSpec {
        let time = |second: Option<i64>| second.map(|second| MicroTime(at(second)));
        LeaseCandidateSpec {
            lease_name: "l".into(),
            binary_version: "1.36.0".into(),
            emulation_version: Some("1.36.0".into()),
            strategy: "OldestEmulationVersion".into(),
            ping_time: time(asked),
            renew_time: time(renewed),
        }
    }

    #[test]
    fn a_candidate_answers_when_it_is_asked_and_now_and_then() {
        let wanted = of_version("l", &VersionInfo::of_build("0.1.0", "", ""));
        assert_eq!(wanted, candidate(None, None));
        let next = |known: Option<&LeaseCandidateSpec>, now: i64| renewed(known, &wanted, at(now));
        assert_eq!(next(None, 7), Some(candidate(None, Some(7))));
        assert_eq!(next(Some(&candidate(None, Some(7))), 306), None);
        assert_eq!(next(Some(&candidate(None, Some(7))), 307), Some(candidate(None, Some(307))));
        assert_eq!(next(Some(&candidate(Some(20), Some(7))), 21), Some(candidate(Some(20), Some(21))), "it is asked");
        assert_eq!(next(Some(&candidate(Some(20), Some(21))), 22), None, "it has answered");
        let in_seconds = |renewed: i64, now: i64| unasked_in(&candidate(None, Some(renewed)), at(now)).as_secs();
        assert_eq!((in_seconds(7, 17), in_seconds(7, 400), in_seconds(500, 0)), (290, 0, 300), "another clock may be ahead");
        let old = LeaseCandidateSpec { binary_version: "1.35.0".into(), ..candidate(None, Some(7)) };
        assert_eq!(next(Some(&old), 8), Some(candidate(None, Some(8))), "another program goes on under its name");
    }
}
