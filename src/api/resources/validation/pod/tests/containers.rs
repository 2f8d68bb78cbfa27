//! What containers get and use.

use serde_json::{Value, json};

use super::{check, errors};

#[test]
fn variables_come_from_one_known_place() {
    let from = |source: Value| json!([{"name": "E", "valueFrom": source}]);
    check(&[
        (
            "/spec/containers/0/env",
            json!([{"name": "a=b"}]),
            &[
                "containers[0].env[0].name: Invalid value: \"a=b\": a valid environment variable name must consist only of printable ASCII characters other than '='",
            ],
        ),
        (
            "/spec/containers/0/env",
            from(json!({})),
            &[
                "containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            ],
        ),
        (
            "/spec/containers/0/env",
            from(json!({"fieldRef": {"fieldPath": "spec.secret"}})),
            &[
                "containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.secret\": error converting fieldPath: field label not supported: spec.secret",
            ],
        ),
        (
            "/spec/containers/0/env",
            from(json!({"fieldRef": {"fieldPath": "status.phase"}})),
            &[
                "containers[0].env[0].valueFrom.fieldRef.fieldPath: Unsupported value: \"status.phase\": supported values: \"metadata.name\", \"metadata.namespace\", \"metadata.uid\", \"spec.nodeName\", \"spec.serviceAccountName\", \"status.hostIP\", \"status.hostIPs\", \"status.podIP\", \"status.podIPs\"",
            ],
        ),
        (
            "/spec/containers/0/env",
            from(json!({"resourceFieldRef": {"resource": "limits.cpu", "divisor": "2"}})),
            &[
                "containers[0].env[0].valueFrom.resourceFieldRef.divisor: Invalid value: \"limits.cpu\": only divisor's values 1m and 1 are supported with the cpu resource",
            ],
        ),
        (
            "/spec/containers/0/env",
            from(json!({"configMapKeyRef": {"name": "c", "key": "../k"}})),
            &[
                &format!(
                    "containers[0].env[0].valueFrom.configMapKeyRef.key: Invalid value: \"../k\": {}",
                    super::super::names::config_key("a/b")[0]
                ),
                "containers[0].env[0].valueFrom.configMapKeyRef.key: Invalid value: \"../k\": must not start with '..'",
            ],
        ),
        (
            "/spec/containers/0/env",
            from(json!({"fileKeyRef": {"volumeName": "v", "path": "a/../b", "key": "K"}})),
            &["containers[0].env[0].valueFrom.fileKeyRef.path: Invalid value: \"a/../b\": must not contain '..'"],
        ),
        (
            "/spec/containers/0/env",
            from(json!({"fileKeyRef": {"volumeName": "w", "path": "a", "key": "K"}})),
            &["containers[0].env[0].valueFrom.fileKeyRef.volumeName: Not found: \"w\""],
        ),
        (
            "/spec/containers/0/envFrom",
            json!([{"configMapRef": {"name": "c"}, "secretRef": {"name": "s"}}]),
            &["containers[0].envFrom: Invalid value: \"\": may not have more than one field specified at a time"],
        ),
    ]);
}

#[test]
fn containers_restart_by_rules_that_exist() {
    check(&[
        (
            "/spec/containers/0/restartPolicyRules",
            json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [1]}}]),
            &["containers[0].restartPolicy: Required value: must specify restartPolicy when restart rules are used"],
        ),
        (
            "/spec/initContainers/0/restartPolicy",
            json!("Sometimes"),
            &["initContainers[0].restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"Never\", \"OnFailure\""],
        ),
        (
            "/spec/containers/0/resizePolicy",
            json!([{"resourceName": "cpu", "restartPolicy": "NotRequired"}, {"resourceName": "disk", "restartPolicy": "X"}]),
            &[
                "containers[0].resizePolicy: Unsupported value: \"disk\": supported values: \"cpu\", \"memory\"",
                "containers[0].resizePolicy: Unsupported value: \"X\": supported values: \"NotRequired\", \"RestartContainer\"",
            ],
        ),
        (
            "/spec/initContainers/0/livenessProbe",
            json!({"exec": {"command": ["x"]}}),
            &["initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"],
        ),
        (
            "/spec/containers/0/lifecycle",
            json!({"stopSignal": "SIGTERM"}),
            &["containers[0].lifecycle.stopSignal: Forbidden: may not be set for containers with empty `spec.os.name`"],
        ),
        ("/spec/initContainers/0/name", json!("c"), &["initContainers[0].name: Duplicate value: \"c\""]),
        ("/spec/containers/0/image", json!(" a"), &["containers[0].image: Invalid value: \" a\": must not have leading or trailing whitespace"]),
    ]);
}

#[test]
fn resources_are_amounts_of_known_things() {
    let limits = |limits: Value| json!({"limits": limits});
    check(&[
        (
            "/spec/containers/0/resources",
            limits(json!({"cpu": "-1"})),
            &[
                "containers[0].resources.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
                "containers[0].resources.requests[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            ],
        ),
        (
            "/spec/containers/0/resources",
            limits(json!({"bananas": "1"})),
            &[
                "containers[0].resources.limits[bananas]: Invalid value: \"bananas\": must be a standard resource type or fully qualified",
                "containers[0].resources.limits[bananas]: Invalid value: \"bananas\": must be a standard resource for containers",
                "containers[0].resources.requests[bananas]: Invalid value: \"bananas\": must be a standard resource type or fully qualified",
                "containers[0].resources.requests[bananas]: Invalid value: \"bananas\": must be a standard resource for containers",
            ],
        ),
        (
            "/spec/containers/0/resources",
            limits(json!({"hugepages-2Mi": "3Mi", "cpu": "1"})),
            &[
                "containers[0].resources.limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
                "containers[0].resources.requests[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
            ],
        ),
        (
            "/spec/containers/0/resources",
            limits(json!({"hugepages-2Mi": "4Mi"})),
            &["containers[0].resources: Forbidden: HugePages require cpu or memory"],
        ),
        (
            "/spec/containers/0/resources",
            json!({"requests": {"a.example/gpu": "1"}}),
            &["containers[0].resources.limits: Required value: Limit must be set for non overcommitable resources"],
        ),
        (
            "/spec/containers/0/resources",
            json!({"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}),
            &["containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1"],
        ),
        (
            "/spec/containers/0/resources",
            json!({"claims": [{"name": "x"}]}),
            &["containers[0].resources.claims[0]: Not found: \"x\": must be one of the names in pod.spec.resourceClaims which is empty"],
        ),
        ("/spec/overhead", json!({"cpu": "-1"}), &["overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0"]),
        (
            "/spec/resources",
            json!({"limits": {"storage": "1"}}),
            &[
                "resources.limits[storage]: Unsupported value: \"storage\": supported values: \"cpu\", \"hugepages-\", \"memory\"",
                "resources.requests[storage]: Unsupported value: \"storage\": supported values: \"cpu\", \"hugepages-\", \"memory\"",
            ],
        ),
        (
            "/spec/resourceClaims",
            json!([{"name": "a"}, {"name": "a", "resourceClaimName": "x", "resourceClaimTemplateName": "y"}]),
            &[
                "resourceClaims[0]: Invalid value: {\"name\":\"a\"}: must specify one of: `resourceClaimName`, `resourceClaimTemplateName`",
                "resourceClaims[1].name: Duplicate value: \"a\"",
                "resourceClaims[1]: Invalid value: {\"name\":\"a\",\"resourceClaimName\":\"x\",\"resourceClaimTemplateName\":\"y\"}: at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            ],
        ),
    ]);
    assert_eq!(
        errors(&[("/spec/resources", json!({"requests": {"cpu": "1"}})), ("/spec/containers/0/resources", json!({"requests": {"cpu": "2"}}))]),
        ["spec.resources.requests[cpu]: Invalid value: \"1\": must be greater than or equal to aggregate container requests of 2"]
    );
}
