use serde_json::{Value, json};
use troupe_cri::features::HandlerFeatures;

use super::*;

fn node() -> NodeAbilities {
    NodeAbilities { apparmor: AppArmor { enabled: false }, sysctls: Allowlist::new("6.1.0", &[]).expect("safe ones are namespaced") }
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec})).expect("a pod")
}

fn with(context: Value) -> Pod {
    pod(json!({"containers": [{"name": "c", "securityContext": context}]}))
}

fn rejected(pod: &Pod) -> (&'static str, String) {
    let rejection = admit(pod, &node(), &RuntimeFeatures::default()).expect_err("is rejected");
    let Cow::Borrowed(reason) = rejection.reason else { panic!("a reason that depends on the pod: {rejection:?}") };
    (reason, rejection.message)
}

fn sysctls(name: &str, more: Value) -> Pod {
    let mut spec = json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}, "containers": [{"name": "c"}]});
    spec.as_object_mut().expect("a map").extend(more.as_object().cloned().expect("a map"));
    pod(spec)
}

#[test]
fn an_ordinary_pod_is_let_in() {
    let context = json!({"runAsUser": 1000, "runAsNonRoot": true, "readOnlyRootFilesystem": true, "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}, "seccompProfile": {"type": "RuntimeDefault"}, "procMount": "Default",
        "seLinuxOptions": {"level": "s0"}, "appArmorProfile": {"type": "Unconfined"}});
    assert_eq!(admit(&with(context), &node(), &RuntimeFeatures::default()), Ok(()));
    assert_eq!(admit(&Pod::default(), &node(), &RuntimeFeatures::default()), Ok(()), "one known from the runtime only");
}

#[test]
fn only_safe_sysctls_are_set() {
    let unsafe_one = ("SysctlForbidden", "forbidden sysctl: \"kernel.msgmax\" not allowlisted".to_owned());
    assert_eq!(rejected(&sysctls("kernel.msgmax", json!({}))), unsafe_one);
    assert_eq!(rejected(&sysctls("kernel/msgmax", json!({}))), unsafe_one, "however it is written");
    for name in ["kernel.core_pattern", "net.ipv4.ip_forward", "net/../kernel/core_pattern", "net.ipv4/../../kernel.core_pattern", ""] {
        assert_eq!(rejected(&sysctls(name, json!({}))).0, "SysctlForbidden", "{name}");
    }
    for name in ["net.ipv4.tcp_syncookies", "net/ipv4/tcp_syncookies", "kernel.shm_rmid_forced", "net.ipv4.tcp_rmem"] {
        assert_eq!(admit(&sysctls(name, json!({})), &node(), &RuntimeFeatures::default()), Ok(()), "{name}");
    }
}

#[test]
fn a_sysctl_of_the_hosts_namespace_is_not_the_pods() {
    let (_, message) = rejected(&sysctls("net.ipv4.tcp_syncookies", json!({"hostNetwork": true})));
    assert_eq!(message, "forbidden sysctl: \"net.ipv4.tcp_syncookies\" not allowed with host Net enabled");
    let (_, message) = rejected(&sysctls("kernel.shm_rmid_forced", json!({"hostIPC": true})));
    assert_eq!(message, "forbidden sysctl: \"kernel.shm_rmid_forced\" not allowed with host IPC enabled");
}

#[test]
fn an_administrator_allows_more_sysctls_by_name_or_beginning() {
    let allowed = ["kernel.msg*", "net.core.somaxconn", "net.ipv4.conf.*"].map(str::to_owned);
    let node = NodeAbilities { sysctls: Allowlist::new("6.1.0", &allowed).expect("namespaced"), ..node() };
    let admitted = |name: &str| admit(&sysctls(name, json!({})), &node, &RuntimeFeatures::default()).is_ok();
    assert!(admitted("kernel.msgmax") && admitted("net.core.somaxconn") && admitted("net.ipv4.conf.eth0/1.rp_filter"));
    assert!(!admitted("net.core.rmem_max") && !admitted("net.ipv4.conf.../../kernel/core_pattern") && !admitted("kernel.sem"));
    for pattern in ["kernel.core_pattern", "kernel.*", "vm.*", "*", "net", "fs.mqueue"] {
        assert!(Allowlist::new("6.1.0", &[pattern.to_owned()]).is_err(), "{pattern}");
    }
}

#[test]
fn an_old_kernel_does_not_keep_all_safe_sysctls_apart() {
    let node = NodeAbilities { sysctls: Allowlist::new("4.4.0-generic", &[]).expect("namespaced"), ..node() };
    assert!(admit(&sysctls("net.ipv4.tcp_rmem", json!({})), &node, &RuntimeFeatures::default()).is_err());
    assert!(admit(&sysctls("net.ipv4.tcp_syncookies", json!({})), &node, &RuntimeFeatures::default()).is_ok());
}

#[test]
fn apparmor_is_enforced_or_the_pod_is_refused() {
    let absent = ("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host".to_owned());
    for profile in [json!({"type": "Localhost", "localhostProfile": "tight"}), json!({"type": "RuntimeDefault"})] {
        assert_eq!(rejected(&with(json!({"appArmorProfile": profile}))), absent);
        assert_eq!(rejected(&pod(json!({"securityContext": {"appArmorProfile": profile}, "containers": [{"name": "c"}]}))), absent);
        assert_eq!(
            rejected(&pod(json!({"containers": [], "initContainers": [{"name": "i", "securityContext": {"appArmorProfile": profile}}]}))),
            absent
        );
    }
    let mut annotated = with(json!({}));
    annotated.metadata.annotations = Some([("container.apparmor.security.beta.kubernetes.io/c".into(), "localhost/tight".into())].into());
    assert_eq!(rejected(&annotated), absent, "as static pods may still ask");
    let enabled = NodeAbilities { apparmor: AppArmor { enabled: true }, ..node() };
    assert_eq!(admit(&annotated, &enabled, &RuntimeFeatures::default()), Ok(()));
    let nameless = admit(&with(json!({"appArmorProfile": {"type": "Localhost"}})), &enabled, &RuntimeFeatures::default());
    assert_eq!(nameless.expect_err("a name is missing").reason, "AppArmor");
}

#[test]
fn strict_groups_need_a_runtime_that_can() {
    let strict = pod(json!({"securityContext": {"supplementalGroupsPolicy": "Strict"}, "containers": [{"name": "c"}]}));
    let message = "SupplementalGroupsPolicy=Strict is not supported in this node".to_owned();
    assert_eq!(rejected(&strict), ("SupplementalGroupsPolicyNotSupported", message));
    let able = RuntimeFeatures { supplemental_groups_policy: true, ..RuntimeFeatures::default() };
    assert_eq!(admit(&strict, &node(), &able), Ok(()));
}

#[test]
fn proc_stays_masked_beside_the_hosts_users() {
    let (reason, message) = rejected(&with(json!({"procMount": "Unmasked"})));
    assert_eq!(reason, "UnexpectedAdmissionError");
    let why = "spec.containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`";
    assert_eq!(message, why);
    rejected(&with(json!({"procMount": "unmasked"})));
}

#[test]
fn a_pod_does_not_go_on_with_the_hosts_users_where_it_asked_for_its_own() {
    let mut apart = pod(json!({"hostUsers": false, "containers": [{"name": "c"}]}));
    assert_eq!(admit(&apart, &node(), &RuntimeFeatures::default()), Ok(()), "it gets no sandbox as long as there are none");
    apart.status = Some(serde_json::from_value(json!({"phase": "Running"})).expect("a status"));
    assert_eq!(rejected(&apart), ("UnexpectedAdmissionError", "can't set `spec.hostUsers: false`, runtime does not support user namespaces".into()));
    let handler = HandlerFeatures { user_namespaces: true, ..HandlerFeatures::default() };
    let able = RuntimeFeatures { handlers: vec![handler], ..RuntimeFeatures::default() };
    assert_eq!(admit(&apart, &node(), &able), Ok(()));
}

#[test]
fn an_id_that_the_kernel_reads_as_root_is_refused() {
    for root in [json!({"runAsUser": 1_i64 << 32}), json!({"runAsGroup": -1})] {
        assert_eq!(rejected(&with(root)).0, "UnexpectedAdmissionError");
    }
    for root in [json!({"fsGroup": 1_i64 << 32}), json!({"supplementalGroups": [5, 1_i64 << 40]}), json!({"runAsUser": -1})] {
        assert_eq!(rejected(&pod(json!({"securityContext": root, "containers": [{"name": "c"}]}))).0, "UnexpectedAdmissionError");
    }
}

#[test]
fn what_no_valid_spec_says_is_refused_wherever_it_comes_from() {
    for odd in [
        json!({"seccompProfile": {"type": "Strict"}}),
        json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "../../etc/x"}}),
        json!({"capabilities": {"drop": ["EVERYTHING"]}}),
        json!({"privileged": true, "allowPrivilegeEscalation": false}),
    ] {
        rejected(&with(odd));
    }
    let mounts = json!([{"name": "v", "mountPath": "/v", "mountPropagation": "Bidirectional"}]);
    rejected(&pod(json!({"containers": [{"name": "c", "volumeMounts": mounts}]})));
}

#[test]
fn a_pod_of_another_system_is_refused() {
    assert_eq!(rejected(&pod(json!({"os": {"name": "windows"}, "containers": []}))).0, "PodOSNotSupported");
    let mut labelled = pod(json!({"containers": []}));
    labelled.metadata.labels = Some([("kubernetes.io/os".into(), "windows".into())].into());
    assert_eq!(rejected(&labelled).0, "PodOSSelectorNodeLabelDoesNotMatch");
}

#[test]
fn a_node_that_is_short_of_memory_begins_no_pod_that_asks_for_nothing() {
    let pod = |resources: Value, tolerations: Value| -> Pod {
        let spec = json!({"containers": [{"name": "c", "resources": resources}], "tolerations": tolerations});
        serde_json::from_value(json!({"metadata": {"name": "p", "resourceVersion": "1"}, "spec": spec})).expect("a pod")
    };
    let verdict = |pod: &Pod, memory: bool, disk: bool| pressure(pod, Pressure { memory, disk, pids: false }).map_err(|rejection| rejection.message);
    let modest = pod(json!({}), json!([]));
    assert_eq!(verdict(&modest, false, false), Ok(()));
    assert_eq!(verdict(&modest, true, false), Err("The node had condition: [MemoryPressure]. ".into()));
    let asking = pod(json!({"requests": {"memory": "1Mi"}}), json!([]));
    assert_eq!(verdict(&asking, true, false), Ok(()));
    assert_eq!(verdict(&asking, true, true), Err("The node had condition: [DiskPressure MemoryPressure]. ".into()));
    let tolerant = pod(json!({}), json!([{"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"}]));
    assert_eq!((verdict(&tolerant, true, false), verdict(&tolerant, false, true).is_err()), (Ok(()), true));
    let few_pids = pressure(&asking, Pressure { memory: true, pids: true, disk: false }).map_err(|rejection| rejection.message);
    assert_eq!(few_pids, Err("The node had condition: [MemoryPressure PIDPressure]. ".into()));
}
