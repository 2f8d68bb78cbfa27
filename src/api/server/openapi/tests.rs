use troupe_api::resources::builtin;

use super::*;

fn apps() -> Value {
    document(&Registry::new(builtin()), &GroupVersion::new("apps", "v1"), &mut Room::of_group()).expect("served")
}

#[test]
fn kubectl_finds_field_validation_on_the_patch_of_its_kind() {
    let document = apps();
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    assert_eq!(patch["x-kubernetes-group-version-kind"], json!({"group": "apps", "version": "v1", "kind": "Deployment"}));
    let names = patch["parameters"].as_array().expect("a list").iter().map(|parameter| parameter["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    assert!(patch["requestBody"]["content"].get("application/strategic-merge-patch+json").is_some());
    let scale = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"]["put"];
    assert_eq!(scale["x-kubernetes-group-version-kind"]["kind"], "Scale");
}

fn core_v1() -> Value {
    document(&Registry::new(builtin()), &GroupVersion::new("", "v1"), &mut Room::of_group()).expect("served")
}

#[test]
fn connections_and_logs_say_what_their_queries_may_hold() {
    let document = core_v1();
    let of = |rest: &str| document["paths"][format!("/api/v1/{rest}")].clone();
    let names = |item: &Value| item["parameters"].as_array().expect("a list").iter().map(|parameter| parameter["name"].clone()).collect::<Vec<_>>();
    let exec = of("namespaces/{namespace}/pods/{name}/exec");
    assert_eq!(names(&exec), ["name", "namespace", "command", "container", "stderr", "stdin", "stdout", "tty"]);
    assert_eq!(exec["post"]["operationId"], "connectCoreV1PostNamespacedPodExec");
    let log = of("namespaces/{namespace}/pods/{name}/log");
    assert!(names(&log).contains(&json!("insecureSkipTLSVerifyBackend")) && names(&log).contains(&json!("pretty")));
    assert_eq!(log["get"]["responses"]["200"]["content"], json!({"text/plain": {"schema": {"type": "string"}}}));
    let proxy = of("nodes/{name}/proxy");
    let methods = ["delete", "get", "head", "options", "parameters", "patch", "post", "put"];
    let mut found = proxy.as_object().expect("an item").keys().map(String::as_str).collect::<Vec<_>>();
    found.sort_unstable();
    assert_eq!(found, methods);
    assert_eq!(proxy["options"]["x-kubernetes-group-version-kind"]["kind"], "NodeProxyOptions");
    let behind = of("nodes/{name}/proxy/{path}");
    assert_eq!(behind["get"]["operationId"], "connectCoreV1GetNodeProxyWithPath");
    assert_eq!(names(&behind), ["name", "path", "path"]);
}

#[test]
fn deletions_say_whether_they_answer_with_the_object() {
    let document = core_v1();
    let reply = |plural: &str, code: &str| {
        let delete = &document["paths"][format!("/api/v1/namespaces/{{namespace}}/{plural}/{{name}}")]["delete"];
        delete["responses"][code]["content"]["application/json"]["schema"]["$ref"].clone()
    };
    for code in ["200", "202"] {
        assert_eq!(reply("pods", code), "#/components/schemas/io.k8s.api.core.v1.Pod");
        assert_eq!(reply("configmaps", code), "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.Status");
    }
}

#[test]
fn components_carry_what_clients_merge_and_explain_by() {
    let schemas = &apps()["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(deployment["x-kubernetes-group-version-kind"], json!([{"group": "apps", "version": "v1", "kind": "Deployment"}]));
    assert!(deployment["description"].as_str().is_some_and(|text| text.starts_with("Deployment enables")));
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(containers["items"], json!({"$ref": "#/components/schemas/io.k8s.api.core.v1.Container"}));
    let list = &schemas["io.k8s.api.apps.v1.DeploymentList"];
    assert_eq!(list["description"], "DeploymentList is a list of Deployment");
    let metadata = &list["properties"]["metadata"];
    assert_eq!(metadata["allOf"], json!([{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta"}]));
    assert_eq!((&metadata["default"], metadata["description"].is_string()), (&json!({}), true));
    assert!(list["properties"]["items"]["description"].as_str().is_some_and(|text| text.starts_with("List of deployments")));
    assert!(schemas["io.k8s.api.core.v1.Container"]["properties"]["image"]["description"].is_string());
}

#[test]
fn every_reference_of_every_document_leads_somewhere() {
    fn check(value: &Value, schemas: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(target) = fields.get("$ref").and_then(Value::as_str) {
                    let name = target.trim_start_matches("#/components/schemas/");
                    assert!(schemas.get(name).is_some(), "{name}");
                }
                fields.values().for_each(|value| check(value, schemas));
            }
            Value::Array(items) => items.iter().for_each(|value| check(value, schemas)),
            _ => {}
        }
    }
    let registry = Registry::new(builtin());
    let served: BTreeSet<_> =
        registry.rows().iter().flat_map(|row| row.served.iter().map(|served| GroupVersion::new(row.group.clone(), served.version.clone()))).collect();
    for group_version in served {
        let document = document(&registry, &group_version, &mut Room::of_group()).expect("a document");
        check(&document, &document["components"]["schemas"]);
        let undocumented = document["components"]["schemas"]
            .as_object()
            .expect("a map")
            .iter()
            .filter(|(name, schema)| !name.contains("apimachinery") && schema.get("description").is_none());
        assert_eq!(undocumented.map(|(name, _)| name.as_str()).collect::<Vec<_>>(), Vec::<&str>::new(), "{group_version}");
    }
}
