use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1beta1::PodCertificateRequest;
use serde_json::{Value, from_value, json};
use troupe_api::meta::time::format_time;

use super::{
    plan::{Certificate, Plan, State, plan},
    *,
};

const JITTER: SignedDuration = SignedDuration::from_mins(3);
const CHAIN: &str = "-----BEGIN CERTIFICATE-----\neA==\n-----END CERTIFICATE-----\n";

fn at(minutes: i64) -> Timestamp {
    "2026-01-01T00:00:00Z".parse::<Timestamp>().expect("a time") + SignedDuration::from_mins(minutes)
}

fn waiting() -> State {
    State::Initial.asked("KEY\n".into(), "req-1".into(), at(0), SignedDuration::ZERO)
}

fn certificate(key: &str, refresh: i64, ends: i64) -> Certificate {
    let bundle = Arc::new(Bundle { key: key.into(), chain: CHAIN.into() });
    Certificate { bundle, refresh_at: at(refresh), not_after: at(ends), told_overdue: false, told_expired: false }
}

fn request(status: Value) -> PodCertificateRequest {
    from_value(json!({"metadata": {"name": "req-1", "namespace": "n"}, "spec": {
        "signerName": "example.com/s", "podName": "p", "podUID": "u", "serviceAccountName": "a", "serviceAccountUID": "b", "nodeName": "one",
        "nodeUID": "o", "stubPKCS10Request": "eA=="}, "status": status}))
    .expect("a request")
}

fn said(kind: &str) -> Value {
    json!({"conditions": [{"type": kind, "status": "True", "reason": "Why", "message": "so", "lastTransitionTime": format_time(at(1))}]})
}

/// A certificate that is to be refreshed after an hour and ends after two.
fn issued() -> PodCertificateRequest {
    let mut status = said("Issued");
    status["certificateChain"] = format!("a comment\n{CHAIN}").into();
    for (field, minutes) in [("notBefore", 0), ("beginRefreshAt", 60), ("notAfter", 120)] {
        status[field] = format_time(at(minutes)).into();
    }
    request(status)
}

fn words(plan: &Plan) -> Vec<&str> {
    plan.notes.iter().map(|note| note.reason.as_str()).collect()
}

#[test]
fn a_projection_asks_waits_and_has_a_certificate_until_it_is_due_for_another() {
    let first = plan(State::Initial, None, at(0), JITTER);
    assert_eq!((first.asks, &first.state, words(&first).len()), (true, &State::Initial, 0));
    let pending = request(json!({}));
    for seen in [None, Some(&pending)] {
        assert_eq!(plan(waiting(), seen, at(5), JITTER), Plan { notes: Vec::new(), state: waiting(), asks: false });
    }
    let has = plan(waiting(), Some(&issued()), at(1), JITTER);
    assert_eq!((has.asks, &has.state), (false, &State::Fresh(certificate("KEY\n", 63, 120))), "the time of the signer, and jitter");
    assert_eq!(*has.state.bundle().expect("a bundle"), Bundle { key: "KEY\n".into(), chain: CHAIN.into() });
    assert_eq!(plan(has.state.clone(), None, at(62), JITTER), Plan { asks: false, ..has.clone() });
    let due = plan(has.state.clone(), None, at(63), JITTER);
    assert!(due.asks && words(&due).is_empty());
    let refreshing = due.state.asked("NEW\n".into(), "req-1".into(), at(63), JITTER);
    assert_eq!(refreshing.bundle(), has.state.bundle(), "the old one is good while the new one is made");
    let new = plan(refreshing, Some(&issued()), at(64), JITTER);
    assert_eq!(new.state.bundle().map(|bundle| bundle.key.clone()), Ok("NEW\n".to_owned()));
}

#[test]
fn a_request_that_does_not_show_was_deleted_after_ten_minutes() {
    let early = plan(waiting(), None, at(10), JITTER);
    assert_eq!((early.asks, early.state), (false, waiting()));
    let late = plan(waiting(), None, at(11), JITTER);
    assert_eq!((late.asks, late.state), (true, State::Initial));
    let held = certificate("KEY\n", 60, 120);
    let refreshing = State::Fresh(held.clone()).asked("NEW\n".into(), "req-2".into(), at(60), SignedDuration::ZERO);
    assert_eq!(plan(refreshing.clone(), None, at(70), JITTER).state, refreshing);
    let late = plan(refreshing, None, at(71), JITTER);
    assert_eq!((late.asks, late.state), (true, State::Fresh(held)));
}

#[test]
fn a_denied_or_failed_request_is_the_end_and_told_once() {
    for (kind, word, label) in [("Denied", "was denied", "denied"), ("Failed", "failed", "failed")] {
        for state in [waiting(), State::Fresh(certificate("KEY\n", 0, 60)).asked("NEW\n".into(), "req-1".into(), at(0), JITTER)] {
            let ended = plan(state, Some(&request(said(kind))), at(1), JITTER);
            assert_eq!(words(&ended), [kind]);
            assert_eq!(ended.notes[0].message, format!("PodCertificateRequest n/req-1 {word}, reason=\"Why\", message=\"so\""));
            assert!(ended.notes[0].warning && !ended.asks && ended.state.label(at(1)) == label);
            let why = ended.state.bundle().expect_err("nothing");
            assert_eq!(why, format!("PodCertificateRequest was permanently {label}: reason=\"Why\" message=\"so\""));
            assert_eq!(plan(ended.state.clone(), None, at(1000), JITTER), Plan { notes: Vec::new(), state: ended.state, asks: false });
        }
    }
}

#[test]
fn what_is_overdue_and_what_has_ended_is_told_once() {
    let refreshing = State::Fresh(certificate("KEY\n", 60, 120)).asked("NEW\n".into(), "req-1".into(), at(200), JITTER);
    let pending = request(json!({}));
    assert_eq!(refreshing.label(at(70)), "fresh");
    let early = plan(refreshing, Some(&pending), at(70), JITTER);
    assert!(words(&early).is_empty());
    let overdue = plan(early.state, Some(&pending), at(71), JITTER);
    assert_eq!((words(&overdue), overdue.state.label(at(71))), (vec!["CertificateOverdueForRefresh"], "overdue_for_refresh"));
    let ended = plan(overdue.state, Some(&pending), at(121), JITTER);
    assert_eq!((words(&ended), ended.state.label(at(121))), (vec!["CertificateExpired"], "expired"));
    assert!(words(&plan(ended.state.clone(), Some(&pending), at(130), JITTER)).is_empty());
    assert!(ended.state.bundle().is_ok(), "it is all there is");
    let both = plan(State::Fresh(certificate("KEY\n", 60, 120)), None, at(121), JITTER);
    assert_eq!((words(&both), both.asks), (vec!["CertificateOverdueForRefresh", "CertificateExpired"], true));
}

fn pod(uid: &str) -> Pod {
    from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": uid}, "spec": {"containers": [], "volumes": [
        {"name": "plain", "emptyDir": {}},
        {"name": "v", "projected": {"sources": [{"secret": {"name": "s"}}, {"podCertificate": {"signerName": "example.com/s", "keyType": "ED25519"}}]}},
    ]}}))
    .expect("a pod")
}

#[test]
fn what_pods_have_is_kept_until_they_go() {
    let store = PodCertificates::new(true);
    let (old, new) = (pod("old"), pod("new"));
    let bundle = |store: &PodCertificates, pod: &Pod| store.bundles(pod).expect("few")[&("v".to_owned(), 1)].clone();
    assert_eq!(bundle(&store, &old), Err("no credentials yet".to_owned()));
    for pod in [&old, &new] {
        let (projection, wanted) = projections(pod).expect("few").remove(0);
        assert_eq!((projection.volume.as_str(), projection.source), ("v", 1));
        store.set(&projection, ("n", "p"), &wanted.signer_name, State::Fresh(certificate("KEY\n", 60, 120)));
    }
    assert_eq!(store.states(at(0)), BTreeMap::from([(("example.com/s".to_owned(), "fresh"), 2)]));
    assert!(bundle(&store, &old).is_ok());
    store.forget(("n", "other"), None);
    store.forget(("n", "p"), Some("new"));
    assert!(bundle(&store, &old).is_err() && bundle(&store, &new).is_ok());
    store.forget(("n", "p"), None);
    assert!(store.states(at(0)).is_empty());
    let off = bundle(&PodCertificates::default(), &new);
    assert_eq!(off.map(drop), Err("certificates of pods are switched off on this node (PodCertificateRequest)".to_owned()));
}

#[test]
fn a_pod_gets_so_many_certificates_and_no_more() {
    let of = |count: usize| {
        let sources: Vec<Value> = (0..count).map(|_| json!({"podCertificate": {"signerName": "example.com/s", "keyType": "ED25519"}})).collect();
        let spec = json!({"containers": [], "volumes": [{"name": "v", "projected": {"sources": sources}}]});
        let pod: Pod = from_value(json!({"metadata": {"uid": "u"}, "spec": spec})).expect("a pod");
        PodCertificates::new(true).bundles(&pod).map(|bundles| bundles.len())
    };
    assert_eq!(of(MOST_CERTIFICATES), Ok(MOST_CERTIFICATES));
    assert_eq!(of(MOST_CERTIFICATES + 1), Err("the pod asks for 65 certificates, this node gets 64 at most".to_owned()));
}

#[test]
fn keys_are_told_nobody() {
    let state = State::Fresh(certificate("SECRET", 60, 120)).asked("HIDDEN".into(), "req-1".into(), at(0), JITTER);
    let shown = format!("{state:?}");
    assert!(shown.contains("req-1") && !shown.contains("SECRET") && !shown.contains("HIDDEN"), "{shown}");
}
