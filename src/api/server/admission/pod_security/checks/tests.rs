use serde_json::{Value, json};

use super::*;

/// What `policy`, such as `baseline:v1.20`, finds in a pod.
fn found(policy: &str, pod: &Value) -> String {
    let policy = LevelVersion::parse(policy).expect("a policy");
    in_detail(&violations(policy, &PodView::new(pod.as_object().expect("an object"))))
}

fn with(spec: Value) -> Value {
    json!({ "spec": spec })
}

/// A pod with one container whose security context is this.
fn secured(context: Value) -> Value {
    with(json!({"containers": [{"name": "a", "securityContext": context}]}))
}

/// As `secured`, and with what restricted asks for where the context does not say otherwise.
fn restricted(context: Value, pod: Value) -> Value {
    let mut all = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    merge(&mut all, context);
    let mut spec = json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "securityContext": all}],
    });
    merge(&mut spec, pod);
    with(spec)
}

fn merge(target: &mut Value, patch: Value) {
    json_patch::merge(target, &patch);
}

#[test]
fn checks_are_told_in_the_order_of_their_ids_and_grow_by_release() {
    for checks in [&BASELINE[..], &RESTRICTED[..]] {
        assert!(checks.is_sorted_by(|one, next| one.id < next.id));
        for check in checks {
            assert!(check.revisions.is_sorted_by(|one, next| one.since < next.since), "{}", check.id);
            for id in check.revisions.iter().flat_map(|revision| revision.overrides) {
                assert!(BASELINE.iter().any(|overridden| overridden.id == *id), "{id}");
            }
        }
    }
}

#[test]
fn privileged_allows_everything_and_the_strict_pod_passes_everywhere() {
    let everything = with(json!({"hostNetwork": true, "containers": [{"name": "a", "securityContext": {"privileged": true}}]}));
    assert_eq!(found("privileged:latest", &everything), "");
    let strict = restricted(json!({}), json!({}));
    for version in (0..40).map(|minor| format!("v1.{minor}")).chain(["latest".to_owned()]) {
        for level in ["privileged", "baseline", "restricted"] {
            assert_eq!(found(&format!("{level}:{version}"), &strict), "", "{level}:{version}");
        }
    }
}

#[test]
fn baseline_checks_say_who_does_what() {
    let two = json!([{"name": "a", "securityContext": {"privileged": true}}, {"name": "b", "securityContext": {"privileged": true}}]);
    let cases = [
        (with(json!({"hostNetwork": true, "hostIPC": true, "hostPID": false})), "host namespaces (hostNetwork=true, hostIPC=true)"),
        (secured(json!({"privileged": true})), "privileged (container \"a\" must not set securityContext.privileged=true)"),
        (with(json!({"initContainers": two})), "privileged (containers \"a\", \"b\" must not set securityContext.privileged=true)"),
        (with(json!({"ephemeralContainers": two})), "privileged (containers \"a\", \"b\" must not set securityContext.privileged=true)"),
        (
            secured(json!({"capabilities": {"add": ["NET_RAW", "CHOWN", "CAP_CHOWN"]}})),
            "non-default capabilities (container \"a\" must not include \"CAP_CHOWN\", \"NET_RAW\" in securityContext.capabilities.add)",
        ),
        (with(json!({"volumes": [{"name": "v", "hostPath": {}}, {"name": "w", "emptyDir": {}}]})), "hostPath volumes (volume \"v\")"),
        (
            with(json!({"containers": [{"name": "a", "ports": [{"hostPort": 80}, {"hostPort": 8}, {"hostPort": 0}, {"containerPort": 1}]}]})),
            "hostPort (container \"a\" uses hostPorts 8, 80)",
        ),
        (
            with(json!({"securityContext": {"sysctls": [{"name": "net.ipv4.tcp_syncookies"}, {"name": "kernel.msgmax"}, {"name": "b"}]}})),
            "forbidden sysctls (kernel.msgmax, b)",
        ),
        (secured(json!({"procMount": "Unmasked"})), "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")"),
        (
            with(
                json!({"securityContext": {"windowsOptions": {"hostProcess": true}}, "containers": [{"name": "a", "securityContext": {"windowsOptions": {"hostProcess": true}}}]}),
            ),
            "hostProcess (pod and container \"a\" must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            with(
                json!({"securityContext": {"seccompProfile": {"type": "Unconfined"}}, "containers": [{"name": "a", "securityContext": {"seccompProfile": {"type": "x"}}}]}),
            ),
            "seccompProfile (pod and container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\", \"x\")",
        ),
    ];
    for (pod, want) in cases {
        assert_eq!(found("baseline:latest", &pod), want);
        assert_eq!(found("privileged:latest", &pod), "");
    }
}

#[test]
fn probes_and_hooks_may_name_hosts_until_v1_33() {
    let http = |host: &str| json!({"httpGet": {"host": host, "port": 80}});
    let pod = with(json!({"containers": [
        {"name": "b", "livenessProbe": http("10.0.0.1"), "lifecycle": {"preStop": {"tcpSocket": {"host": "h"}}}},
        {"name": "a", "startupProbe": {"tcpSocket": {"host": "10.0.0.1"}}, "readinessProbe": http("")},
        {"name": "c", "readinessProbe": {"grpc": {"port": 1}}},
    ]}));
    assert_eq!(found("baseline:v1.33", &pod), "");
    let want = "probe or lifecycle host (containers \"a\", \"b\" use probe or lifecycle hosts \"10.0.0.1\", \"h\")";
    assert_eq!(found("baseline:v1.34", &pod), want);
    let one = with(json!({"initContainers": [{"name": "a", "lifecycle": {"postStart": http("x")}}]}));
    assert_eq!(found("baseline:latest", &one), "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"x\")");
}

#[test]
fn apparmor_profiles_are_looked_for_in_fields_and_annotations() {
    let mut pod = json!({
        "metadata": {"annotations": {
            "container.apparmor.security.beta.kubernetes.io/a": "unconfined",
            "container.apparmor.security.beta.kubernetes.io/b": "runtime/default",
            "container.apparmor.security.beta.kubernetes.io/c": "localhost/x",
            "container.apparmor.security.beta.kubernetes.io/d": "",
        }},
        "spec": {"containers": [{"name": "a", "securityContext": {"appArmorProfile": {"type": "RuntimeDefault"}}}]},
    });
    let annotation = "container.apparmor.security.beta.kubernetes.io/a=\"unconfined\"";
    assert_eq!(
        found("baseline:v1.0", &pod),
        format!("forbidden AppArmor profile (annotation must not set AppArmor profile type to \"{annotation}\")")
    );
    pod["spec"]["securityContext"] = json!({"appArmorProfile": {"type": "Unconfined"}});
    pod["spec"]["containers"][0]["securityContext"]["appArmorProfile"]["type"] = json!("");
    assert_eq!(
        found("baseline:latest", &pod),
        format!(
            "forbidden AppArmor profiles (pod and container \"a\" and annotation must not set AppArmor profile type to \"\", \"Unconfined\", \"{annotation}\")"
        )
    );
}

#[test]
fn selinux_types_grow_in_v1_31_and_users_and_roles_are_never_set() {
    let engine = secured(json!({"seLinuxOptions": {"type": "container_engine_t"}}));
    assert_eq!(found("baseline:v1.31", &engine), "");
    let old = "seLinuxOptions (container \"a\" set forbidden securityContext.seLinuxOptions: type \"container_engine_t\")";
    assert_eq!(found("baseline:v1.30", &engine), old);
    let all = with(json!({
        "securityContext": {"seLinuxOptions": {"type": "x", "user": "u"}},
        "containers": [
            {"name": "a", "securityContext": {"seLinuxOptions": {"type": "y", "role": "r"}}},
            {"name": "b", "securityContext": {"seLinuxOptions": {"type": "container_t", "level": "s0"}}},
        ],
    }));
    let want = "seLinuxOptions (pod and container \"a\" set forbidden securityContext.seLinuxOptions: types \"x\", \"y\"; user may not be set; role may not be set)";
    assert_eq!(found("baseline:latest", &all), want);
}

#[test]
fn seccomp_is_named_by_annotations_before_v1_19() {
    let pod = json!({
        "metadata": {"annotations": {
            "seccomp.security.alpha.kubernetes.io/pod": "unconfined",
            "container.seccomp.security.alpha.kubernetes.io/a": "docker/default",
            "container.seccomp.security.alpha.kubernetes.io/b": "",
            "container.seccomp.security.alpha.kubernetes.io/nobody": "unconfined",
        }},
        "spec": {"containers": [{"name": "a"}], "initContainers": [{"name": "b"}]},
    });
    let want = "seccompProfile (forbidden annotations container.seccomp.security.alpha.kubernetes.io/b=\"\", seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")";
    assert_eq!(found("baseline:v1.18", &pod), want);
    assert_eq!(found("baseline:v1.19", &pod), "");
    let fields = secured(json!({"seccompProfile": {"type": "Unconfined"}}));
    assert_eq!(found("baseline:v1.18", &fields), "");
    assert_eq!(
        found("baseline:v1.19", &fields),
        "seccompProfile (container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")"
    );
}

#[test]
fn safe_sysctls_grow_by_release() {
    let cases = [
        ("net.ipv4.ping_group_range", 0),
        ("net.ipv4.ip_local_reserved_ports", 27),
        ("net.ipv4.tcp_keepalive_probes", 29),
        ("net.ipv4.tcp_wmem", 32),
    ];
    for (name, since) in cases {
        let pod = with(json!({"securityContext": {"sysctls": [{"name": name, "value": "1"}]}}));
        for minor in 0..37 {
            let want = if minor < since { format!("forbidden sysctls ({name})") } else { String::new() };
            assert_eq!(found(&format!("baseline:v1.{minor}"), &pod), want, "v1.{minor}");
        }
    }
}

#[test]
fn an_ordinary_pod_breaks_restricted_in_upstreams_words() {
    let pod = with(json!({"containers": [{"name": "c", "image": "busybox"}]}));
    assert_eq!(found("baseline:latest", &pod), "");
    assert_eq!(
        found("restricted:latest", &pod),
        "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
    );
    assert_eq!(
        found("restricted:v1.8", &pod),
        "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false), \
         runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true)"
    );
    assert_eq!(found("restricted:v1.7", &pod), "runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true)");
}

#[test]
fn restricted_checks_say_who_does_what() {
    let cases = [
        (
            restricted(json!({"allowPrivilegeEscalation": true}), json!({})),
            "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false)",
        ),
        (restricted(json!({"capabilities": {"add": ["NET_BIND_SERVICE"]}}), json!({})), ""),
        (
            restricted(json!({"capabilities": {"add": ["CHOWN"], "drop": ["NET_RAW"]}}), json!({})),
            "unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]; \
             container \"a\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        (
            restricted(json!({"runAsNonRoot": false}), json!({"securityContext": {"runAsNonRoot": false}})),
            "runAsNonRoot != true (pod and container \"a\" must not set securityContext.runAsNonRoot=false)",
        ),
        (restricted(json!({"runAsNonRoot": true}), json!({"securityContext": {"runAsNonRoot": null}})), ""),
        (restricted(json!({"runAsUser": 0}), json!({})), "runAsUser=0 (container \"a\" must not set runAsUser=0)"),
        (restricted(json!({"runAsUser": 1}), json!({"securityContext": {"runAsUser": 0}})), "runAsUser=0 (pod must not set runAsUser=0)"),
        (
            restricted(json!({"seccompProfile": {"type": "Unconfined"}}), json!({})),
            "seccompProfile (container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (restricted(json!({"seccompProfile": {"type": "Localhost"}}), json!({"securityContext": {"seccompProfile": null}})), ""),
        (
            restricted(
                json!({}),
                json!({"volumes": [{"name": "x", "hostPath": {}}, {"name": "y", "nfs": {}}, {"name": "z"}, {"name": "s", "secret": {}}]}),
            ),
            "restricted volume types (volumes \"x\", \"y\", \"z\" use restricted volume types \"hostPath\", \"nfs\", \"unknown\")",
        ),
    ];
    for (pod, want) in cases {
        assert_eq!(found("restricted:latest", &pod), want);
    }
}

#[test]
fn restricted_checks_begin_with_their_release() {
    let root = restricted(json!({"runAsUser": 0}), json!({}));
    assert_eq!(found("restricted:v1.22", &root), "");
    assert_ne!(found("restricted:v1.23", &root), "");
    let keeping = restricted(json!({"capabilities": {"drop": null, "add": ["NET_RAW"]}}), json!({}));
    let baseline = "non-default capabilities (container \"a\" must not include \"NET_RAW\" in securityContext.capabilities.add)";
    assert_eq!(found("restricted:v1.21", &keeping), baseline);
    assert!(found("restricted:v1.22", &keeping).starts_with("unrestricted capabilities ("));
    let unconfined = restricted(json!({}), json!({"securityContext": {"seccompProfile": null}}));
    assert_eq!(found("restricted:v1.18", &unconfined), "");
    assert_ne!(found("restricted:v1.19", &unconfined), "");
}

#[test]
fn windows_pods_are_excused_from_v1_25_on() {
    let windows = restricted(
        json!({"allowPrivilegeEscalation": null, "capabilities": null}),
        json!({"os": {"name": "windows"}, "securityContext": {"seccompProfile": null}}),
    );
    assert_eq!(found("restricted:v1.25", &windows), "");
    let before = found("restricted:v1.24", &windows);
    assert_eq!(before.matches(" must ").count(), 3, "{before}");
}

#[test]
fn a_user_namespace_excuses_root_from_v1_35_on() {
    let pod = restricted(json!({"runAsUser": 0, "runAsNonRoot": false, "procMount": "Unmasked"}), json!({"hostUsers": false}));
    assert_eq!(found("baseline:v1.35", &pod), "");
    assert!(found("baseline:v1.34", &pod).starts_with("procMount ("));
    let proc_mount = "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")";
    assert_eq!(found("restricted:v1.35", &pod), proc_mount);
    let before = found("restricted:v1.34", &pod);
    assert!(before.starts_with(proc_mount) && before.contains("runAsUser=0") && before.contains("runAsNonRoot != true"), "{before}");
    let host_users = restricted(json!({"runAsUser": 0}), json!({"hostUsers": true}));
    assert_ne!(found("restricted:latest", &host_users), "");
}

#[test]
fn the_short_form_names_reasons_alone() {
    let pod = with(json!({"hostPID": true, "containers": [{"name": "a", "securityContext": {"privileged": true}}]}));
    let policy = LevelVersion { level: Level::Baseline, version: Version::Latest };
    let violations = violations(policy, &PodView::new(pod.as_object().expect("an object")));
    assert_eq!(in_short(&violations), "host namespaces, privileged");
}
