use serde_json::json;

use super::*;
use crate::kubelet::worker::observed::{ContainerView, RunState};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn probes(container: serde_json::Value) -> Probes {
    let spec: PodSpec = serde_json::from_value(json!({"containers": [container]})).expect("a spec");
    let seen = ContainerView { id: "1".into(), name: "c".into(), state: RunState::Running, ..Default::default() };
    let mut probes = Probes::default();
    probes.follow(&spec, &[&seen], |_| None, at(0));
    probes
}

fn fail(probes: &mut Probes, kind: ProbeKind, second: i64) {
    assert_eq!(probes.take_due(at(second)).len(), 1, "one probe is due at {second}");
    probes.record("1", kind, &ProbeOutcome::Failure("no".into()), at(second));
}

#[test]
fn a_container_without_probes_is_ready_at_once() {
    let verdict = probes(json!({"name": "c"})).verdicts()["1"];
    assert!(verdict.started && verdict.ready && verdict.unhealthy.is_none());
}

#[test]
fn liveness_fails_after_its_threshold_and_then_rests() {
    let mut probes =
        probes(json!({"name": "c", "livenessProbe": {"periodSeconds": 5, "initialDelaySeconds": 3, "terminationGracePeriodSeconds": 1}}));
    assert_eq!(probes.next_due(), Some(at(3)));
    for second in [3, 8] {
        fail(&mut probes, ProbeKind::Liveness, second);
        assert!(probes.verdicts()["1"].unhealthy.is_none());
    }
    fail(&mut probes, ProbeKind::Liveness, 13);
    let verdict = probes.verdicts()["1"];
    assert_eq!((verdict.unhealthy, verdict.grace), (Some(StopReason::Liveness), Some(1)));
    assert_eq!(probes.next_due(), None);
}

#[test]
fn readiness_waits_for_startup_and_begins_right_then() {
    let mut probes = probes(json!({"name": "c", "startupProbe": {"periodSeconds": 1}, "readinessProbe": {"periodSeconds": 60}}));
    fail(&mut probes, ProbeKind::Startup, 0);
    assert!(!probes.verdicts()["1"].started);
    assert_eq!(probes.take_due(at(1)).len(), 1);
    probes.record("1", ProbeKind::Startup, &ProbeOutcome::Success, at(1));
    let due = probes.take_due(at(1));
    assert_eq!(due.iter().map(|task| task.kind).collect::<Vec<_>>(), [ProbeKind::Readiness]);
    assert!(!probes.verdicts()["1"].ready);
    probes.record("1", ProbeKind::Readiness, &ProbeOutcome::Success, at(2));
    assert!(probes.verdicts()["1"].ready);
}

#[test]
fn a_restart_of_the_daemon_keeps_what_was_ready_ready() {
    let spec: PodSpec = serde_json::from_value(json!({"containers": [{"name": "c", "readinessProbe": {}}]})).expect("a spec");
    let seen = ContainerView { id: "1".into(), name: "c".into(), state: RunState::Running, ..Default::default() };
    let mut probes = Probes::default();
    probes.follow(&spec, &[&seen], |_| Some((true, true)), at(0));
    assert!(probes.verdicts()["1"].ready);
}

#[test]
fn a_clock_at_the_end_of_the_calendar_runs_no_probe_again() {
    let mut probes = probes(json!({"name": "c", "livenessProbe": {"periodSeconds": 5}}));
    let last = Timestamp::MAX - SignedDuration::from_secs(1);
    assert_eq!(probes.take_due(last).len(), 1);
    probes.record("1", ProbeKind::Liveness, &ProbeOutcome::Success, last);
    assert!(probes.take_due(last).is_empty(), "it is not due again at once");
    assert_eq!(probes.next_due(), Some(Timestamp::MAX));
}

#[test]
fn a_pod_that_stops_is_asked_for_its_readiness_alone() {
    let mut probes =
        probes(json!({"name": "c", "livenessProbe": {"periodSeconds": 1}, "readinessProbe": {"periodSeconds": 1, "failureThreshold": 1}}));
    assert_eq!(probes.take_due(at(0)).len(), 2);
    for kind in [ProbeKind::Liveness, ProbeKind::Readiness] {
        probes.record("1", kind, &ProbeOutcome::Success, at(0));
    }
    probes.stop();
    assert_eq!(probes.next_due(), Some(at(1)));
    fail(&mut probes, ProbeKind::Readiness, 1);
    let verdict = probes.verdicts()["1"];
    assert!(!verdict.ready && verdict.unhealthy.is_none());
    let mut young = self::probes(json!({"name": "c", "startupProbe": {}, "readinessProbe": {}}));
    young.stop();
    assert_eq!((young.next_due(), young.verdicts()["1"].ready), (None, false), "what never started is not asked");
}
