//! Pods that would write where they may not, ask for what nobody understands, or count beyond all clocks: each is refused with
//! 422 that names the field, as a pod and in a template, and the daemon lives on.

use serde_json::{Value, json};

use crate::{
    caller::{Caller, Reply},
    stage,
};

/// A pod spec with one field, or a container with one, and what is said about it after the path of the spec.
struct Row {
    place: Place,
    field: &'static str,
    value: Value,
    says: &'static str,
}

#[derive(Clone, Copy)]
enum Place {
    Pod,
    Container,
    Volume,
}

fn row(place: Place, field: &'static str, value: Value, says: &'static str) -> Row {
    Row { place, field, value, says }
}

const FAR: i64 = 1 << 62;

fn times() -> Vec<Row> {
    use Place::{Container, Pod};
    vec![
        row(
            Pod,
            "terminationGracePeriodSeconds",
            json!(FAR),
            "terminationGracePeriodSeconds: Invalid value: 4611686018427387904: must be less than or equal to 2147483647",
        ),
        row(
            Pod,
            "activeDeadlineSeconds",
            json!(FAR),
            "activeDeadlineSeconds: Invalid value: 4611686018427387904: must be between 1 and 2147483647, inclusive",
        ),
        row(
            Container,
            "livenessProbe",
            json!({"tcpSocket": {"port": 1}, "terminationGracePeriodSeconds": FAR}),
            "containers[0].livenessProbe.terminationGracePeriodSeconds: Invalid value: 4611686018427387904: must be less than or equal to 2147483647",
        ),
        row(
            Container,
            "livenessProbe",
            json!({"tcpSocket": {"port": 1}, "periodSeconds": -5}),
            "containers[0].livenessProbe.periodSeconds: Invalid value: -5: must be greater than or equal to 0",
        ),
        row(
            Container,
            "lifecycle",
            json!({"preStop": {"sleep": {"seconds": FAR}}}),
            "containers[0].lifecycle.preStop.sleep: Invalid value: 4611686018427387904: must be non-negative and less than terminationGracePeriodSeconds (30)",
        ),
    ]
}

fn paths() -> Vec<Row> {
    use Place::{Container, Volume};
    let downward = |path: &str| json!({"items": [{"path": path, "fieldRef": {"fieldPath": "metadata.name"}}]});
    let item = |path: &str| json!([{"key": "k", "path": path}]);
    vec![
        row(Volume, "downwardAPI", downward("../x"), "volumes[0].downwardAPI.path: Invalid value: \"../x\": must not contain '..'"),
        row(Volume, "downwardAPI", downward("/etc/x"), "volumes[0].downwardAPI.path: Invalid value: \"/etc/x\": must be a relative path"),
        row(
            Volume,
            "secret",
            json!({"secretName": "s", "items": item("a/../../x")}),
            "volumes[0].secret.items[0].path: Invalid value: \"a/../../x\": must not contain '..'",
        ),
        row(
            Volume,
            "projected",
            json!({"sources": [{"secret": {"name": "s", "items": item("f")}}, {"configMap": {"name": "c", "items": item("f")}}]}),
            "volumes[0].projected: Invalid value: \"c\": conflicting duplicate paths",
        ),
        row(
            Volume,
            "emptyDir",
            json!({"sizeLimit": "-1Gi"}),
            "volumes[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity",
        ),
        row(Volume, "hostPath", json!({"path": "/var/../etc"}), "volumes[0].hostPath.path: Invalid value: \"/var/../etc\": must not contain '..'"),
        row(
            Container,
            "volumeMounts",
            json!([{"name": "v", "mountPath": "/a:/b"}]),
            "containers[0].volumeMounts[0].mountPath: Invalid value: \"/a:/b\": must not contain ':'",
        ),
        row(
            Container,
            "volumeMounts",
            json!([{"name": "v", "mountPath": "/a", "subPath": "../.."}]),
            "containers[0].volumeMounts.subPath: Invalid value: \"../..\": must not contain '..'",
        ),
    ]
}

fn isolation() -> Vec<Row> {
    use Place::{Container, Pod};
    let types = "supported values: \"Localhost\", \"RuntimeDefault\", \"Unconfined\"";
    let types: &'static str = Box::leak(format!("securityContext.seccompProfile.type: Unsupported value: \"Strict\": {types}").into_boxed_str());
    let local = |path: &str| json!({"seccompProfile": {"type": "Localhost", "localhostProfile": path}});
    vec![
        row(
            Container,
            "securityContext",
            json!({"procMount": "Unmasked"}),
            "containers[0].securityContext.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`",
        ),
        row(
            Container,
            "securityContext",
            json!({"procMount": "Open"}),
            "containers[0].securityContext.procMount: Unsupported value: \"Open\": supported values: \"Default\", \"Unmasked\"",
        ),
        row(Pod, "securityContext", json!({"seccompProfile": {"type": "Strict"}}), types),
        row(
            Pod,
            "securityContext",
            local("../../etc/x"),
            "securityContext.seccompProfile.localhostProfile: Invalid value: \"../../etc/x\": must not contain '..'",
        ),
        row(
            Container,
            "securityContext",
            local("/etc/x"),
            "containers[0].securityContext.seccompProfile.localhostProfile: Invalid value: \"/etc/x\": must be a relative path",
        ),
        row(
            Container,
            "securityContext",
            json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": " x\n"}}),
            "containers[0].securityContext.appArmorProfile.localhostProfile: Invalid value: \" x\\n\": must not be padded with whitespace",
        ),
        row(
            Pod,
            "securityContext",
            json!({"sysctls": [{"name": "kernel/../x", "value": "1"}]}),
            "securityContext.sysctls[0].name: Invalid value: \"kernel/../x\": must have at most 253 characters",
        ),
        row(
            Pod,
            "securityContext",
            json!({"runAsUser": FAR}),
            "securityContext.runAsUser: Invalid value: 4611686018427387904: must be between 0 and 2147483647, inclusive",
        ),
    ]
}

fn lines() -> Vec<Row> {
    use Place::{Container, Pod};
    let second = "\nnameserver 6.6.6.6";
    vec![
        row(
            Pod,
            "dnsConfig",
            json!({"searches": [format!("a{second}")]}),
            "dnsConfig.searches[0]: Invalid value: \"a\\nnameserver 6.6.6.6\": a lowercase RFC 1123 subdomain",
        ),
        row(
            Pod,
            "dnsConfig",
            json!({"nameservers": [format!("1.1.1.1{second}")]}),
            "dnsConfig.nameservers[0]: Invalid value: \"1.1.1.1\\nnameserver 6.6.6.6\": must be a valid IP address",
        ),
        row(
            Pod,
            "dnsConfig",
            json!({"options": [{"name": "ndots", "value": format!("2{second}")}]}),
            "dnsConfig.options[0].value: Invalid value: \"2\\nnameserver 6.6.6.6\": must not contain whitespace or control characters",
        ),
        row(
            Pod,
            "hostAliases",
            json!([{"ip": "1.2.3.4", "hostnames": ["a\n6.6.6.6 b"]}]),
            "hostAliases[0].hostnames[0]: Invalid value: \"a\\n6.6.6.6 b\": a lowercase RFC 1123 subdomain",
        ),
        row(
            Container,
            "ports",
            json!([{"containerPort": 80, "hostPort": 8080, "hostIP": "x -j ACCEPT"}]),
            "containers[0].ports[0].hostIP: Invalid value: \"x -j ACCEPT\": must be a valid IP address",
        ),
        row(
            Container,
            "livenessProbe",
            json!({"httpGet": {"port": 80, "path": "/ HTTP/1.1\r\nX: y"}}),
            "containers[0].livenessProbe.httpGet.path: Invalid value: \"/ HTTP/1.1\\r\\nX: y\": must not contain control characters",
        ),
        row(
            Container,
            "livenessProbe",
            json!({"httpGet": {"port": 80, "httpHeaders": [{"name": "A\r\nB", "value": "c"}]}}),
            "containers[0].livenessProbe.httpGet.httpHeaders: Invalid value: \"A\\r\\nB\": a valid HTTP header must consist of",
        ),
        row(
            Container,
            "livenessProbe",
            json!({"httpGet": {"port": 80, "httpHeaders": [{"name": "A", "value": "c\r\nD: e"}]}}),
            "containers[0].livenessProbe.httpGet.httpHeaders[0].value: Invalid value: \"c\\r\\nD: e\": must not contain control characters",
        ),
    ]
}

fn spec(row: &Row) -> Value {
    let mut spec = json!({"containers": [{"name": "c", "image": "registry.k8s.io/pause:3.10"}], "volumes": [{"name": "v"}]});
    let place = match row.place {
        Place::Pod => &mut spec,
        Place::Container => &mut spec["containers"][0],
        Place::Volume => &mut spec["volumes"][0],
    };
    place[row.field] = row.value.clone();
    spec
}

/// What is wrong with an answer to a row; nothing where it is refused as it should be.
fn fault(reply: &Reply, path: &str, row: &Row) -> Option<String> {
    let (want, said) = (format!("{path}.{}", row.says), reply.message());
    let right = reply.status == 422 && said.contains(&want);
    (!right).then(|| format!("{} = {}: {} {said:.300}\n  does not say\n{want}", row.field, row.value, reply.status))
}

/// Sends each row as a pod and as a Deployment, and tells all that are not refused.
fn refused(room: &str, rows: &[Row]) {
    let stage = stage::shared();
    let room = stage.room(room);
    let caller = Caller::administrator(&stage);
    let (pods, deployments) = (format!("/api/v1/namespaces/{}/pods", room.name), format!("/apis/apps/v1/namespaces/{}/deployments", room.name));
    let (faults, _) = stage.attack(|| {
        let mut faults = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            // Each has a name of its own: what is let through must not hide the next one.
            let name = format!("bad-{at}");
            let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec(row)});
            faults.extend(fault(&caller.json("POST", &pods, &pod), "spec", row));
            let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": spec(row)});
            let set = json!({"selector": {"matchLabels": {"a": "b"}}, "template": template, "replicas": 0});
            let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": set});
            faults.extend(fault(&caller.json("POST", &deployments, &deployment), "spec.template.spec", row));
        }
        faults
    });
    assert!(faults.is_empty(), "{} of {}:\n{}", faults.len(), rows.len() * 2, faults.join("\n"));
}

#[test]
fn times_that_no_clock_counts_are_refused() {
    refused("val-times", &times());
}

#[test]
fn paths_that_leave_their_volume_are_refused() {
    refused("val-paths", &paths());
}

#[test]
fn isolation_in_unknown_words_is_refused() {
    refused("val-isolation", &isolation());
}

#[test]
fn words_that_would_become_lines_are_refused() {
    refused("val-lines", &lines());
}

#[test]
fn a_pod_with_users_of_its_own_shares_nothing_with_the_host() {
    let stage = stage::shared();
    let room = stage.room("val-users");
    let caller = Caller::administrator(&stage);
    let spec = json!({"containers": [{"name": "c", "image": "a"}], "hostUsers": false, "hostNetwork": true, "hostPID": true, "hostIPC": true});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bad"}, "spec": spec});
    let reply = caller.json("POST", &format!("/api/v1/namespaces/{}/pods", room.name), &pod);
    assert_eq!(reply.status, 422, "{reply:?}");
    for field in ["hostNetwork", "HostPID", "HostIPC"] {
        assert!(reply.message().contains(&format!("spec.{field}: Forbidden: when `hostUsers` is false")), "{}", reply.message());
    }
}

#[test]
fn a_deletion_with_a_grace_that_no_clock_counts_is_refused_and_a_long_one_goes_on() {
    let stage = stage::shared();
    let room = stage.room("val-grace");
    let caller = Caller::administrator(&stage);
    let pods = format!("/api/v1/namespaces/{}/pods", room.name);
    // It is bound to a node that does not exist, so that nobody ends it meanwhile.
    let spec = json!({"nodeName": "nowhere", "terminationGracePeriodSeconds": i32::MAX, "containers": [{"name": "c", "image": "a"}]});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "long"}, "spec": spec});
    assert_eq!(caller.json("POST", &pods, &pod).status, 201);
    let path = format!("{pods}/long");
    stage.attack(|| {
        let refused = "gracePeriodSeconds: Invalid value: 4611686018427387904: must be less than or equal to 2147483647";
        for reply in [
            caller.json("DELETE", &path, &json!({"gracePeriodSeconds": FAR})),
            caller.send("DELETE", &format!("{path}?gracePeriodSeconds={FAR}"), "application/json", ""),
            caller.json("DELETE", &pods, &json!({"gracePeriodSeconds": FAR})),
            caller.json(
                "POST",
                &format!("{path}/eviction"),
                &json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "long"}, "deleteOptions": {"gracePeriodSeconds": FAR}}),
            ),
        ] {
            assert_eq!(reply.status, 422, "{reply:?}");
            assert!(reply.message().contains(refused), "{}", reply.message());
        }
        let reply = caller.json("DELETE", &path, &json!({"gracePeriodSeconds": i32::MAX}));
        assert_eq!(reply.status, 200, "{reply:?}");
        let until = reply.json()["metadata"]["deletionTimestamp"].as_str().unwrap_or_default().to_owned();
        assert!(until.as_str() > "2090", "{until}");
    });
    assert_eq!(caller.json("DELETE", &path, &json!({"gracePeriodSeconds": 0})).status, 200);
}
