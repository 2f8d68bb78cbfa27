use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ResourceHealth, ResourceStatus};
use serde_json::json;
use troupe_cri::proto;

use super::*;
use crate::kubelet::{
    patch::merged,
    worker::observed::{ContainerView, RunState, SandboxView},
};

fn pod(spec: serde_json::Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 3}, "spec": spec})).expect("a pod")
}

fn seen(name: &str, state: RunState, exit_code: i32) -> ContainerView {
    ContainerView { id: format!("{name}-1"), name: name.into(), state, exit_code, sandbox: "s".into(), ..Default::default() }
}

fn observed(containers: Vec<ContainerView>) -> Observed {
    let sandbox = SandboxView { id: "s".into(), ready: true, ips: vec!["10.0.0.5".into()], ..Default::default() };
    Observed { sandboxes: vec![sandbox], containers }
}

fn status(pod: &Pod, observed: &Observed, ready: &[&str], waiting: &[(&str, &str)]) -> PodStatus {
    let verdicts = ready.iter().map(|id| ((*id).to_owned(), Verdict { started: true, ready: true, ..Default::default() })).collect();
    let wait = |(name, reason): &(&str, &str)| ((*name).to_owned(), Waiting { reason: (*reason).into(), message: String::new() });
    let waiting = waiting.iter().map(wait).collect();
    pod_status(&StatusInputs {
        pod,
        old: pod.status.as_ref(),
        observed,
        waiting: &waiting,
        verdicts: &verdicts,
        messages: &BTreeMap::new(),
        failure: None,
        stopping: false,
        node_ips: &["192.0.2.7".into()],
        runtime_name: "containerd",
        resize: &ResizeStatus::default(),
        actuated: Some(&Actuated::as_specified(pod)),
        replacing: &BTreeSet::new(),
        surroundings: &Surroundings::default(),
        now: Timestamp::from_second(100).expect("a time"),
    })
}

fn condition<'a>(status: &'a PodStatus, kind: &str) -> &'a k8s_openapi::api::core::v1::PodCondition {
    status.conditions.as_ref().expect("conditions").iter().find(|condition| condition.type_ == kind).expect("is there")
}

#[test]
fn signals_are_told_where_containers_are_ended_by_those_that_they_ask_for_alone() {
    let pod = pod(json!({"containers": [{"name": "c"}]}));
    let container = ContainerView { stop_signal: Some("SIGUSR1"), ..seen("c", RunState::Running, 0) };
    let status = status(&pod, &observed(vec![container]), &[], &[]);
    assert_eq!(status.container_statuses.expect("statuses")[0].stop_signal, None);
}

#[test]
fn a_pod_whose_init_container_runs_is_pending_and_says_which() {
    let pod = pod(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "c"}]}));
    let status = status(&pod, &observed(vec![seen("i", RunState::Running, 0)]), &["i-1"], &[]);
    assert_eq!(status.phase.as_deref(), Some("Pending"));
    assert_eq!(condition(&status, "Initialized").message.as_deref(), Some("containers with incomplete status: [i]"));
    let main = &status.container_statuses.as_ref().expect("statuses")[0];
    assert_eq!(main.state.as_ref().and_then(|s| s.waiting.as_ref()?.reason.as_deref()), Some("PodInitializing"));
}

#[test]
fn a_sandbox_made_anew_gives_the_pod_other_addresses_instead_of_more() {
    let mut pod = pod(json!({"containers": [{"name": "c"}]}));
    let status = status(&pod, &observed(vec![seen("c", RunState::Running, 0)]), &["c-1"], &[]);
    pod.status = Some(PodStatus { pod_ip: Some("10.0.0.2".into()), ..PodStatus::default() });
    let old = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n", "uid": "u"}, "status": {
        "podIP": "10.0.0.2", "podIPs": [{"ip": "10.0.0.2"}, {"ip": "2001:db8::2"}], "hostIP": "192.0.2.6", "hostIPs": [{"ip": "192.0.2.6"}],
    }});
    let new = merged(old, &writer::status_patch(&pod, &status, None));
    assert_eq!(new["status"]["podIPs"], json!([{"ip": "10.0.0.5"}]));
    assert_eq!(new["status"]["hostIPs"], json!([{"ip": "192.0.2.7"}]));
}

#[test]
fn conditions_of_others_come_before_those_of_the_kubelet() {
    let told = |kind: &str| json!({"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let conditions = json!([told("Ready"), told("example.com/gate"), told("PodScheduled"), told("DisruptionTarget")]);
    let mut old = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "n", "uid": "u"},
        "spec": {"containers": [{"name": "c"}]}, "status": {"conditions": conditions}});
    let pod = pod(json!({"containers": [{"name": "c"}]}));
    let new = status(&pod, &observed(vec![seen("c", RunState::Running, 0)]), &["c-1"], &[]);
    let known: Pod = serde_json::from_value(old.clone()).expect("a pod");
    // What came since is not lost.
    old["status"]["conditions"].as_array_mut().expect("a list").push(told("example.com/late"));
    let new = merged(old, &writer::status_patch(&known, &new, None));
    let kinds: Vec<&str> = new["status"]["conditions"].as_array().expect("a list").iter().filter_map(|told| told["type"].as_str()).collect();
    let own = ["PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"];
    assert_eq!((&kinds[..2], kinds.len()), (&["example.com/gate", "DisruptionTarget"][..], 8));
    let of_kubelet: Vec<&str> = kinds.into_iter().filter(|kind| own.contains(kind)).collect();
    assert_eq!(of_kubelet, own);
}

#[test]
fn a_running_ready_pod_has_all_conditions_and_its_address() {
    let pod = pod(json!({"containers": [{"name": "c"}]}));
    let status = status(&pod, &observed(vec![seen("c", RunState::Running, 0)]), &["c-1"], &[]);
    assert_eq!(
        (status.phase.as_deref(), status.pod_ip.as_deref(), status.host_ip.as_deref()),
        (Some("Running"), Some("10.0.0.5"), Some("192.0.2.7"))
    );
    for kind in conditions::OWNED {
        assert_eq!((condition(&status, kind).status.as_str(), condition(&status, kind).observed_generation), ("True", Some(3)), "{kind}");
    }
    assert_eq!(status.container_statuses.expect("statuses")[0].container_id.as_deref(), Some("containerd://c-1"));
}

#[test]
fn a_crashing_container_waits_and_shows_its_last_end() {
    let pod = pod(json!({"containers": [{"name": "c"}]}));
    let status = status(&pod, &observed(vec![seen("c", RunState::Exited, 1)]), &[], &[("c", "CrashLoopBackOff")]);
    let container = &status.container_statuses.as_ref().expect("statuses")[0];
    assert_eq!(container.state.as_ref().and_then(|s| s.waiting.as_ref()?.reason.as_deref()), Some("CrashLoopBackOff"));
    let last = container.last_state.as_ref().and_then(|s| s.terminated.as_ref()).expect("ended");
    assert_eq!((last.exit_code, last.reason.as_deref()), (1, Some("Error")));
    assert_eq!(status.phase.as_deref(), Some("Running"));
    assert_eq!(condition(&status, "Ready").message.as_deref(), Some("containers with unready status: [c]"));
}

#[test]
fn ended_pods_succeed_or_fail_by_their_exit_codes() {
    for (policy, code, want) in [("Never", 0, "Succeeded"), ("Never", 1, "Failed"), ("OnFailure", 0, "Succeeded"), ("OnFailure", 1, "Running")] {
        let pod = pod(json!({"restartPolicy": policy, "containers": [{"name": "c"}]}));
        let status = status(&pod, &observed(vec![seen("c", RunState::Exited, code)]), &[], &[]);
        assert_eq!(status.phase.as_deref(), Some(want), "{policy} {code}");
    }
}

/// The phase of a pod that ends for good.
fn phase_at_the_end(pod: &Pod, containers: Vec<ContainerView>) -> String {
    let observed = observed(containers);
    let verdicts = [("s-1".to_owned(), Verdict { started: true, ready: true, ..Default::default() })].into();
    let inputs = StatusInputs {
        pod,
        old: None,
        observed: &observed,
        waiting: &BTreeMap::new(),
        verdicts: &verdicts,
        messages: &BTreeMap::new(),
        failure: None,
        stopping: true,
        node_ips: &[],
        runtime_name: "containerd",
        resize: &ResizeStatus::default(),
        actuated: None,
        replacing: &BTreeSet::new(),
        surroundings: &Surroundings::default(),
        now: Timestamp::UNIX_EPOCH,
    };
    pod_status(&inputs).phase.expect("a phase")
}

#[test]
fn a_pod_runs_until_its_sidecars_have_ended_too() {
    for policy in ["Never", "OnFailure"] {
        let pod = pod(json!({"restartPolicy": policy, "initContainers": [{"name": "s", "restartPolicy": "Always"}], "containers": [{"name": "c"}]}));
        let phase = |sidecar: RunState, code: i32| phase_at_the_end(&pod, vec![seen("c", RunState::Exited, 0), seen("s", sidecar, code)]);
        assert_eq!(phase(RunState::Running, 0), "Running", "{policy}");
        assert_eq!((phase(RunState::Exited, 0), phase(RunState::Exited, 137)), ("Succeeded".to_owned(), "Succeeded".to_owned()), "{policy}");
    }
}

#[test]
fn a_pod_has_failed_when_nothing_of_it_runs_any_more() {
    let of = |init: serde_json::Value| pod(json!({"restartPolicy": "Never", "initContainers": init, "containers": [{"name": "c"}, {"name": "d"}]}));
    let sidecar = json!({"name": "s", "restartPolicy": "Always"});
    let failed = of(json!([sidecar, {"name": "i"}]));
    let phase = |state| phase_at_the_end(&failed, vec![seen("i", RunState::Exited, 1), seen("s", state, 0)]);
    assert_eq!((phase(RunState::Running), phase(RunState::Exited)), ("Pending".to_owned(), "Failed".to_owned()), "its sidecar goes after it");
    let ended = of(json!([]));
    assert_eq!(phase_at_the_end(&ended, vec![seen("c", RunState::Exited, 0)]), "Failed", "the other never ran, and will not");
    assert_eq!(phase_at_the_end(&ended, Vec::new()), "Pending", "nothing of it ever ran");
    let again = pod(json!({"initContainers": [{"name": "i"}], "containers": [{"name": "c"}]}));
    let phase = |state| phase_at_the_end(&again, vec![seen("i", state, 0), seen("c", RunState::Exited, 1)]);
    assert_eq!((phase(RunState::Running), phase(RunState::Exited)), ("Pending".to_owned(), "Failed".to_owned()), "an init container runs again");
}

#[test]
fn an_unready_container_keeps_transition_times_until_it_changes() {
    let mut pod = pod(json!({"containers": [{"name": "c"}]}));
    let running = observed(vec![seen("c", RunState::Running, 0)]);
    let mut first = status(&pod, &running, &[], &[]);
    for condition in first.conditions.iter_mut().flatten() {
        condition.last_transition_time = Some(whole_seconds(Timestamp::from_second(7).expect("a time")));
    }
    pod.status = Some(first);
    let second = status(&pod, &running, &["c-1"], &[]);
    let at = |kind: &str| condition(&second, kind).last_transition_time.as_ref().map(|time| time.0.as_second());
    assert_eq!((at("Ready"), at("PodScheduled")), (Some(100), Some(7)));
}

#[test]
fn the_messages_of_a_pods_containers_share_what_one_pod_may_have() {
    let pod = pod(json!({"restartPolicy": "Never", "containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}, {"name": "d"}]}));
    let long = ContainerView { message: "ü".repeat(4000), ..seen("a", RunState::Exited, 1) };
    let got = status(&pod, &observed(vec![long]), &[], &[]);
    let ended = got.container_statuses.as_ref().and_then(|all| all[0].state.as_ref()?.terminated.as_ref()?.message.clone());
    assert_eq!(ended.map(|text| text.len()), Some(3072));
}

#[test]
fn a_kubelet_that_starts_later_keeps_why_a_pod_failed() {
    let mut refused = pod(json!({"restartPolicy": "Never", "containers": [{"name": "c"}]}));
    let told = json!({"phase": "Failed", "reason": "SysctlForbidden", "message": "forbidden sysctl: \"a\" not allowlisted"});
    refused.status = Some(serde_json::from_value(told).expect("a status"));
    let status_of = |pod: &Pod, observed: &Observed| status(pod, observed, &[], &[]);
    let got = status_of(&refused, &Observed::default());
    assert_eq!((got.phase.as_deref(), got.reason.as_deref()), (Some("Failed"), Some("SysctlForbidden")));
    assert_eq!(got.message.as_deref(), Some("forbidden sysctl: \"a\" not allowlisted"));
    assert_eq!(got.container_statuses, None);

    let mut ended = pod(json!({"restartPolicy": "Never", "containers": [{"name": "c"}]}));
    let end = json!({"exitCode": 3, "message": "bye", "containerID": "containerd://c-1"});
    let told = json!({"phase": "Failed", "containerStatuses": [
        {"name": "c", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": {"terminated": end}}
    ]});
    ended.status = Some(serde_json::from_value(told).expect("a status"));
    let got = status_of(&ended, &observed(vec![seen("c", RunState::Exited, 3)]));
    let message = got.container_statuses.as_ref().and_then(|all| all[0].state.as_ref()?.terminated.as_ref()?.message.clone());
    assert_eq!(message.as_deref(), Some("bye"));
}

#[test]
fn ephemeral_containers_have_statuses_of_their_own_and_make_nothing_ready() {
    let mut pod = pod(json!({"containers": [{"name": "c"}], "ephemeralContainers": [{"name": "d", "image": "i"}, {"name": "e"}]}));
    let got =
        status(&pod, &observed(vec![seen("c", RunState::Running, 0), seen("d", RunState::Running, 0)]), &["c-1", "d-1"], &[("e", "ErrImagePull")]);
    let visitors = got.ephemeral_container_statuses.clone().expect("statuses");
    let shown: Vec<_> = visitors.iter().map(|own| (own.name.as_str(), own.ready, own.started, own.container_id.as_deref())).collect();
    assert_eq!(shown, [("d", false, None, Some("containerd://d-1")), ("e", false, None, None)]);
    assert!(visitors[0].state.as_ref().is_some_and(|state| state.running.is_some()));
    let waiting = |own: &k8s_openapi::api::core::v1::ContainerStatus| own.state.as_ref().and_then(|state| state.waiting.as_ref()?.reason.clone());
    assert_eq!(waiting(&visitors[1]).as_deref(), Some("ErrImagePull"));
    assert_eq!((condition(&got, "Ready").status.as_str(), got.phase.as_deref()), ("True", Some("Running")));
    assert_eq!(got.container_statuses.as_ref().map(Vec::len), Some(1));
    // The runtime loses one: it is over.
    pod.status = Some(got);
    let later = status(&pod, &observed(vec![seen("c", RunState::Running, 0)]), &["c-1"], &[]);
    let lost = &later.ephemeral_container_statuses.expect("statuses")[0];
    let why = lost.state.as_ref().and_then(|state| state.terminated.as_ref()?.reason.clone());
    assert_eq!((why.as_deref(), lost.restart_count), (Some("ContainerStatusUnknown"), 0));
}

/// What a container of a status shows of itself: the kind of its state, with the reason, and the reason of its last state.
fn shown(statuses: Option<&Vec<k8s_openapi::api::core::v1::ContainerStatus>>, index: usize) -> (Option<String>, Option<String>, Option<String>) {
    let status = &statuses.expect("statuses")[index];
    let state = status.state.clone().expect("a state");
    assert!(state.running.is_none());
    let last = status.last_state.clone().and_then(|last| last.terminated?.reason);
    (state.waiting.and_then(|waiting| waiting.reason), state.terminated.and_then(|ended| ended.reason), last)
}

#[test]
fn containers_that_were_lost_have_ended_when_their_pod_is_over() {
    let unknown = || Some("ContainerStatusUnknown".to_owned());
    let mut lost = pod(json!({"restartPolicy": "Never", "containers": [{"name": "c"}]}));
    lost.status = Some(status(&lost, &observed(vec![seen("c", RunState::Running, 0)]), &["c-1"], &[]));
    let first = status(&lost, &Observed::default(), &[], &[]);
    assert_eq!(first.phase.as_deref(), Some("Failed"));
    assert_eq!(shown(first.container_statuses.as_ref(), 0), (None, unknown(), unknown()));
    let code = first.container_statuses.as_ref().and_then(|all| Some(all[0].state.as_ref()?.terminated.as_ref()?.exit_code));
    assert_eq!(code, Some(137));
    lost.status = Some(first.clone());
    let again = status(&lost, &Observed::default(), &[], &[]);
    assert_eq!(again.container_statuses, first.container_statuses, "looking again changes nothing");

    let mut restarted = pod(json!({"containers": [{"name": "c"}]}));
    restarted.status = Some(status(&restarted, &observed(vec![seen("c", RunState::Running, 0)]), &["c-1"], &[]));
    let waits = status(&restarted, &Observed::default(), &[], &[]);
    assert_eq!(waits.phase.as_deref(), Some("Running"));
    assert_eq!(shown(waits.container_statuses.as_ref(), 0), (Some("ContainerCreating".into()), None, unknown()), "it starts again");
}

#[test]
fn main_containers_of_a_pod_that_was_never_initialized_wait_for_good() {
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "c"}]});
    let failed = pod(spec);
    let got = status(&failed, &observed(vec![seen("i", RunState::Exited, 1)]), &[], &[]);
    assert_eq!(got.phase.as_deref(), Some("Failed"));
    let initializing = || (Some("PodInitializing".to_owned()), None, None);
    assert_eq!(shown(got.init_container_statuses.as_ref(), 0), (None, Some("Error".into()), None));
    assert_eq!(shown(got.init_container_statuses.as_ref(), 1), initializing());
    assert_eq!(shown(got.container_statuses.as_ref(), 0), initializing());
}

#[test]
fn mounts_devices_and_users_of_containers_are_told() {
    let mounts = json!([
        {"name": "a", "mountPath": "/a"},
        {"name": "b", "mountPath": "/b", "readOnly": true, "recursiveReadOnly": "IfPossible"},
        {"name": "c", "mountPath": "/c", "readOnly": true},
    ]);
    let pod = pod(json!({"containers": [{"name": "c", "volumeMounts": mounts}, {"name": "d"}]}));
    let user = proto::ContainerUser { linux: Some(proto::LinuxContainerUser { uid: 1, gid: 2, supplemental_groups: vec![3] }) };
    let container = ContainerView { user: Some(user), stop_signal: Some("SIGUSR1"), ..seen("c", RunState::Running, 0) };
    let health = ResourceHealth { resource_id: "d0".into(), health: Some("Unhealthy".into()), message: None };
    let devices = vec![ResourceStatus { name: "example.com/gpu".into(), resources: Some(vec![health]) }];
    let surroundings = Surroundings { recursive_read_only: true, stop_signals: true, devices: [("c".to_owned(), devices.clone())].into() };
    let observed = observed(vec![container]);
    let status = pod_status(&StatusInputs {
        pod: &pod,
        old: None,
        observed: &observed,
        waiting: &BTreeMap::new(),
        verdicts: &BTreeMap::new(),
        messages: &BTreeMap::new(),
        failure: None,
        stopping: false,
        node_ips: &[],
        runtime_name: "containerd",
        resize: &ResizeStatus::default(),
        actuated: None,
        replacing: &BTreeSet::new(),
        surroundings: &surroundings,
        now: Timestamp::from_second(100).expect("a time"),
    });
    let statuses = status.container_statuses.expect("statuses");
    let told = serde_json::to_value(&statuses[0]).expect("encodes");
    let expected = json!([
        {"name": "a", "mountPath": "/a"},
        {"name": "b", "mountPath": "/b", "readOnly": true, "recursiveReadOnly": "Enabled"},
        {"name": "c", "mountPath": "/c", "readOnly": true, "recursiveReadOnly": "Disabled"},
    ]);
    assert_eq!((&told["volumeMounts"], &told["user"]), (&expected, &json!({"linux": {"uid": 1, "gid": 2, "supplementalGroups": [3]}})));
    assert_eq!((statuses[0].stop_signal.as_deref(), &statuses[1].stop_signal), (Some("SIGUSR1"), &None));
    assert_eq!(statuses[0].allocated_resources_status, Some(devices));
    assert_eq!((&statuses[1].volume_mounts, &statuses[1].user, &statuses[1].allocated_resources_status), (&None, &None, &None));
}
