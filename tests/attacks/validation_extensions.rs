//! Kinds that extend, guard and share out the API: an object that is wrong in one place is refused with 422 that names the place, and
//! the daemon lives on.

use serde_json::{Value, json};

use crate::{caller::Caller, stage};

/// What is sent where, and what is said about it.
struct Row {
    path: &'static str,
    object: Value,
    says: &'static str,
}

fn row(path: &'static str, object: Value, says: &'static str) -> Row {
    Row { path, object, says }
}

const NOWHERE: &str = "exactly one of url or service is required";

fn object(api_version: &str, kind: &str, name: &str, rest: Value) -> Value {
    let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}});
    for (field, value) in rest.as_object().into_iter().flatten() {
        object[field] = value.clone();
    }
    object
}

fn with(mut base: Value, field: &str, value: Value) -> Value {
    base[field] = value;
    base
}

fn guard(kind: &str, rest: Value) -> Value {
    object("admissionregistration.k8s.io/v1", kind, "bad", rest)
}

fn webhook(field: &str, value: Value) -> Row {
    let rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
    let hook = json!({"name": "bad.example.com", "clientConfig": {"url": "https://example.com"}, "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "rules": [rule]});
    row(
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
        guard("ValidatingWebhookConfiguration", json!({"webhooks": [with(hook, field, value)]})),
        "",
    )
}

fn says(row: Row, says: &'static str) -> Row {
    Row { says, ..row }
}

/// Whom the API server would call.
fn clients() -> Vec<Row> {
    let client = |client: Value| webhook("clientConfig", client);
    let service = |field: &str, value: Value| client(json!({"service": with(json!({"namespace": "n", "name": "s"}), field, value)}));
    vec![
        says(client(json!({})), "webhooks[0].clientConfig: Required value: exactly one of url or service is required"),
        says(client(json!({"url": "https://h", "service": {"namespace": "n", "name": "s"}})), NOWHERE),
        says(client(json!({"url": "http://169.254.169.254/"})), "clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme"),
        says(client(json!({"url": "https://root:secret@h/"})), "user information is not permitted in the URL"),
        says(client(json!({"url": "https://h/?q"})), "query parameters are not permitted in the URL"),
        says(client(json!({"url": "https://h/#f"})), "fragments are not permitted in the URL"),
        says(
            client(json!({"url": "https://h\r\nX: y"})),
            "url must be a valid URL: parse \"https://h\\r\\nX: y\": net/url: invalid control character in URL",
        ),
        says(service("port", json!(70_000)), "service.port: Invalid value: 70000: port is not valid: must be between 1 and 65535, inclusive"),
        says(service("path", json!("/../etc")), "service.path: Invalid value: \"/../etc\": segment[0]: a lowercase RFC 1123 subdomain"),
        says(service("path", json!("//")), "service.path: Invalid value: \"//\": segment[0] may not be empty"),
        says(service("name", json!("")), "clientConfig.service.name: Required value"),
    ]
}

fn guards() -> Vec<Row> {
    let policy = |spec: Value| {
        let path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
        row(path, guard("ValidatingAdmissionPolicy", json!({"spec": spec})), "")
    };
    let mutating = json!({"matchConstraints": {"resourceRules": [{"operations": ["DELETE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]},
        "mutations": [{"patchType": "Merge"}], "reinvocationPolicy": "Never"});
    let mutating =
        row("/apis/admissionregistration.k8s.io/v1/mutatingadmissionpolicies", guard("MutatingAdmissionPolicy", json!({"spec": mutating})), "");
    let binding = json!({"policyName": "p", "validationActions": ["Deny", "Warn"], "paramRef": {"name": "a/b"}});
    let path = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings";
    let binding = row(path, guard("ValidatingAdmissionPolicyBinding", json!({"spec": binding})), "");
    vec![
        says(
            webhook("name", json!("short")),
            "webhooks[0].name: Invalid value: \"short\": should be a domain with at least three segments separated by dots",
        ),
        says(webhook("failurePolicy", json!("Hope")), "failurePolicy: Unsupported value: \"Hope\": supported values: \"Fail\", \"Ignore\""),
        says(webhook("timeoutSeconds", json!(600)), "timeoutSeconds: Invalid value: 600: the timeout value must be between 1 and 30 seconds"),
        says(
            webhook("matchConditions", json!([{"name": "a b", "expression": "true"}])),
            "matchConditions[0].name: Invalid value: \"a b\": name part",
        ),
        says(policy(json!({"validations": [{"expression": "true"}]})), "spec.matchConstraints: Required value"),
        says(
            policy(json!({"matchConstraints": {}})),
            "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
        ),
        says(mutating, "spec.mutations[0].patchType: Unsupported value: \"Merge\": supported values: \"ApplyConfiguration\", \"JSONPatch\""),
        says(binding, "spec.validationActions: Invalid value: [\"Deny\",\"Warn\"]: must not contain both Deny and Warn"),
    ]
}

fn api_services() -> Vec<Row> {
    let service = |name: &str, change: (&str, Value)| {
        let spec = json!({"group": "example.com", "version": "v9", "groupPriorityMinimum": 1000, "versionPriority": 15,
            "service": {"namespace": "n", "name": "s"}, "caBundle": "eA=="});
        let spec = with(spec, change.0, change.1);
        row("/apis/apiregistration.k8s.io/v1/apiservices", object("apiregistration.k8s.io/v1", "APIService", name, json!({"spec": spec})), "")
    };
    let own = "v9.example.com";
    vec![
        says(service("v8.example.com", ("version", json!("v9"))), "must be `spec.version+\".\"+spec.group`: \"v9.example.com\""),
        says(
            service(own, ("groupPriorityMinimum", json!(20_001))),
            "groupPriorityMinimum: Invalid value: 20001: must be positive and less than 20000",
        ),
        says(service(own, ("service", json!({"name": "s", "port": -1}))), "spec.service.namespace: Required value"),
        says(service(own, ("service", json!({"name": "s", "port": -1}))), "spec.service.port: Invalid value: -1: port is not valid"),
        says(service(own, ("service", Value::Null)), "spec.caBundle: Invalid value: \"1 bytes\": local APIServices may not have a caBundle"),
        says(
            service(own, ("insecureSkipTLSVerify", json!(true))),
            "insecureSkipTLSVerify: Invalid value: true: may not be true if caBundle is present",
        ),
    ]
}

fn definition(change: (&str, Value)) -> Row {
    let names = json!({"plural": "cats", "kind": "Cat"});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}});
    let spec = with(json!({"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]}), change.0, change.1);
    let object = object("apiextensions.k8s.io/v1", "CustomResourceDefinition", "cats.example.com", json!({"spec": spec}));
    row("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", object, "")
}

fn schema(schema: Value) -> Row {
    definition(("versions", json!([{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}])))
}

/// Schemas within schemas, to the depth that bodies may have.
fn deep() -> Value {
    let mut inner = json!({"type": "text"});
    for _ in 0..80 {
        inner = json!({"type": "array", "items": inner});
    }
    json!({"type": "object", "properties": {"f": inner}})
}

fn definitions() -> Vec<Row> {
    let field = |field: Value| schema(json!({"type": "object", "properties": {"f": field}}));
    let webhook = json!({"strategy": "Webhook", "webhook": {"clientConfig": {"url": "http://h"}, "conversionReviewVersions": ["v1"]}});
    vec![
        says(
            definition(("group", json!("example.org"))),
            "metadata.name: Invalid value: \"cats.example.com\": must be spec.names.plural+\".\"+spec.group",
        ),
        says(definition(("scope", json!("World"))), "spec.scope: Unsupported value: \"World\": supported values: \"Cluster\", \"Namespaced\""),
        says(definition(("conversion", webhook)), "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed"),
        says(schema(json!({"type": "array"})), "openAPIV3Schema.type: Invalid value: \"array\": must be object at the root"),
        says(field(json!({})), "openAPIV3Schema.properties[f].type: Required value: must not be empty for specified object fields"),
        says(field(json!({"type": "string", "pattern": "("})), "properties[f].pattern: Invalid value: \"(\": must be a valid regular expression"),
        says(field(json!({"type": "string", "$ref": "#"})), "properties[f].$ref: Forbidden: $ref is not supported"),
        says(field(json!({"type": "array", "items": {"type": {}}})), "properties[f].items.type: Invalid value: {}: must be of type string"),
        says(field(json!({"type": "integer", "default": "x"})), "properties[f].default: Invalid value: \"string\":"),
        says(schema(deep()), "type: Unsupported value: \"text\": supported values: \"array\""),
    ]
}

fn sharing() -> Vec<Row> {
    const API: &str = "flowcontrol.apiserver.k8s.io/v1";
    let flow = |name: &str, change: (&str, Value)| {
        let rule = json!({"subjects": [{"kind": "User", "user": {"name": "*"}}], "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]});
        let spec = json!({"matchingPrecedence": 50, "priorityLevelConfiguration": {"name": "exempt"}, "rules": [rule]});
        let object = object(API, "FlowSchema", name, json!({"spec": with(spec, change.0, change.1)}));
        row("/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas", object, "")
    };
    let level = |spec: Value| {
        let object = object(API, "PriorityLevelConfiguration", "bad", json!({"spec": spec}));
        row("/apis/flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations", object, "")
    };
    let queuing = json!({"queues": 10_000_001, "handSize": 1, "queueLengthLimit": -1});
    vec![
        says(flow("bad", ("matchingPrecedence", json!(1))), "only the schema named 'exempt' may have matchingPrecedence 1"),
        says(flow("bad", ("rules", json!([{}]))), "spec.rules[0].subjects: Required value: subjects must contain at least one value"),
        says(level(json!({"type": "Exempt"})), "spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if `name` is 'exempt'"),
        says(level(json!({"type": "Limited"})), "spec.limited: Required value: must not be empty when type is Limited"),
        says(
            level(json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": queuing}}})),
            "spec.limited.limitResponse.queuing.queues: Invalid value: 10000001: must not be greater than 10000000",
        ),
    ]
}

fn rights() -> Vec<Row> {
    const API: &str = "rbac.authorization.k8s.io/v1";
    let role = |rest: Value| row("/apis/rbac.authorization.k8s.io/v1/clusterroles", object(API, "ClusterRole", "bad", rest), "");
    let binding = |rest: Value| row("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", object(API, "ClusterRoleBinding", "bad", rest), "");
    let request = json!({"spec": {"request": "eA==", "signerName": "example/x", "usages": ["everything"]}});
    let request = object("certificates.k8s.io/v1", "CertificateSigningRequest", "bad", request);
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "labelSelector": {"requirements": [{"key": "a b", "operator": "In"}]}}}});
    let review = object("authorization.k8s.io/v1", "SelfSubjectAccessReview", "", review);
    vec![
        says(
            role(json!({"rules": [{"apiGroups": [""], "resources": ["pods"]}]})),
            "rules[0].verbs: Required value: verbs must contain at least one value",
        ),
        says(role(json!({"aggregationRule": {}})), "aggregationRule.clusterRoleSelectors: Required value: at least one clusterRoleSelector"),
        says(
            binding(json!({"roleRef": {"kind": "Role", "name": "a/b"}})),
            "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
        ),
        says(
            row("/apis/certificates.k8s.io/v1/certificatesigningrequests", request, ""),
            "spec.signerName: Invalid value: \"example\": should be a domain with at least two segments separated by dots",
        ),
        says(
            row("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, ""),
            "spec.resourceAttributes.labelSelector.requirements[0].values: Required value: must be specified when `operator` is 'In' or 'NotIn'",
        ),
    ]
}

fn autoscaler(version: &str, change: (&str, Value)) -> Value {
    let spec = json!({"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}});
    object(&format!("autoscaling/{version}"), "HorizontalPodAutoscaler", "bad", json!({"spec": with(spec, change.0, change.1)}))
}

fn autoscalers() -> Vec<(&'static str, Value, &'static str)> {
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "../x"});
    let metric = json!([{"type": "Pods", "pods": {"metric": {"name": "a/b"}, "target": {"type": "AverageValue", "averageValue": "-1"}}}]);
    vec![
        ("v2", autoscaler("v2", ("maxReplicas", json!(-1))), "spec.maxReplicas: Invalid value: -1: must be greater than or equal to 1"),
        ("v1", autoscaler("v1", ("scaleTargetRef", target.clone())), "spec.scaleTargetRef.name: Invalid value: \"../x\": may not contain '/'"),
        ("v2", autoscaler("v2", ("scaleTargetRef", target)), "spec.scaleTargetRef.name: Invalid value: \"../x\": may not contain '/'"),
        ("v2", autoscaler("v2", ("metrics", metric.clone())), "spec.metrics[0].pods.metric.name: Invalid value: \"a/b\": may not contain '/'"),
        ("v2", autoscaler("v2", ("metrics", metric)), "spec.metrics[0].pods.target.averageValue: Invalid value: \"-1\": must be positive"),
    ]
}

#[test]
fn extension_kinds_are_held_to_upstreams_rules() {
    let stage = stage::shared();
    let room = stage.room("val-extensions");
    let caller = Caller::administrator(&stage);
    let autoscalers = autoscalers();
    let rows: Vec<Row> = [clients(), guards(), api_services(), definitions(), sharing(), rights()].into_iter().flatten().collect();
    stage.attack(|| {
        let elsewhere = rows.iter().map(|row| (row.path.to_owned(), &row.object, row.says));
        let scaled = autoscalers
            .iter()
            .map(|(version, object, says)| (format!("/apis/autoscaling/{version}/namespaces/{}/horizontalpodautoscalers", room.name), object, *says));
        for (path, object, says) in elsewhere.chain(scaled) {
            let reply = caller.json("POST", &path, object);
            assert_eq!(reply.status, 422, "{path} {object}: {reply:?}");
            assert!(reply.message().contains(says), "{}\n  does not say\n{says}", reply.message());
        }
        the_servers_own_objects_stay(&caller);
    });
}

/// Whoever changes these would take the API from all others.
fn the_servers_own_objects_stay(caller: &Caller) {
    for (path, patch) in [
        ("flowschemas/catch-all", json!({"spec": {"matchingPrecedence": 2}})),
        ("flowschemas/exempt", json!({"spec": {"priorityLevelConfiguration": {"name": "catch-all"}}})),
        ("prioritylevelconfigurations/catch-all", json!({"spec": {"limited": {"nominalConcurrencyShares": 0}}})),
    ] {
        let path = format!("/apis/flowcontrol.apiserver.k8s.io/v1/{path}");
        let reply = caller.send("PATCH", &path, "application/merge-patch+json", patch.to_string());
        assert_eq!(reply.status, 422, "{path}: {reply:?}");
        assert!(reply.message().contains("must equal the fixed value"), "{}", reply.message());
    }
}
