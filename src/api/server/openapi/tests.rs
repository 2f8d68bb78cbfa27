use super::*;
use troupe_api::{
    meta::Object,
    resources::{builtin, definitions::definition::Definition},
    stored::StoredObject,
};

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

#[test]
fn every_operation_says_what_it_takes_and_answers() {
    let document = apps();
    let deployments = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments"];
    let types = |content: &Value| content.as_object().expect("a map").keys().cloned().collect::<Vec<_>>();
    let objects = ["application/json", "application/vnd.kubernetes.protobuf", "application/yaml"];
    assert_eq!(types(&deployments["post"]["responses"]["202"]["content"]), objects);
    let lists = [
        "application/json",
        "application/json;stream=watch",
        "application/vnd.kubernetes.protobuf",
        "application/vnd.kubernetes.protobuf;stream=watch",
        "application/yaml",
    ];
    assert_eq!(types(&deployments["get"]["responses"]["200"]["content"]), lists);
    let names = |operation: &Value| operation["parameters"].as_array().expect("a list").iter().map(|one| one["name"].clone()).collect::<Vec<_>>();
    assert_eq!(names(deployments), ["namespace", "pretty"]);
    let listed = names(&deployments["get"]);
    assert_eq!((listed.len(), listed.contains(&json!("shardSelector"))), (11, true));
    let deleted = names(&deployments["delete"]);
    assert!(deleted.is_sorted_by_key(|name| name.to_string()) && !deleted.contains(&json!("watch")), "{deleted:?}");
    let watched = &document["paths"]["/apis/apps/v1/watch/namespaces/{namespace}/deployments/{name}"];
    assert_eq!(watched["get"]["operationId"], "watchAppsV1NamespacedDeployment");
    assert_eq!(
        watched["get"]["responses"]["200"]["content"]["application/yaml"]["schema"]["$ref"],
        format!("#/components/schemas/io.k8s.{META_V1}WatchEvent")
    );
    assert_eq!((names(watched).len(), watched["get"].get("parameters")), (14, None));
    assert!(document["paths"]["/apis/apps/v1/watch/deployments"].is_object() && document["paths"]["/apis/apps/v1/"].is_object());
    let core = core_v1();
    assert_eq!(core["paths"]["/api/v1/componentstatuses"]["get"]["description"], "list objects of kind ComponentStatus");
    assert_eq!(core["paths"]["/api/v1/namespaces/{namespace}/endpoints"]["post"]["description"], "create Endpoints");
}

#[test]
fn definitions_say_what_is_required_and_of_which_fields_one_is_set() {
    let document = core_v1();
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["io.k8s.api.core.v1.AttachedVolume"]["required"], json!(["name", "devicePath"]));
    let owner = &schemas["io.k8s.apimachinery.pkg.apis.meta.v1.OwnerReference"];
    assert_eq!(owner["required"], json!(["apiVersion", "kind", "name", "uid"]));
    let union = json!([{"discriminator": "type", "fields-to-discriminateBy": {"localhostProfile": "LocalhostProfile"}}]);
    assert_eq!(schemas["io.k8s.api.core.v1.SeccompProfile"]["x-kubernetes-unions"], union);
    let pull = &schemas["io.k8s.api.core.v1.Container"]["properties"]["imagePullPolicy"];
    assert_eq!(pull["enum"], json!(["Always", "IfNotPresent", "Never"]));
    let modes = &schemas["io.k8s.api.core.v1.PersistentVolumeSpec"]["properties"]["accessModes"];
    assert_eq!(modes["items"]["enum"], json!(["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"]));
    let event = &schemas["io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent"];
    assert_eq!(event["description"], "Event represents a single event to a watched resource.");
    assert!(event["properties"]["object"]["description"].as_str().is_some_and(|text| text.starts_with("Object is:")), "{event}");
    let options = |document: &Value| document["components"]["schemas"]["io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"].clone();
    let of = |group: &str| json!({"group": group, "version": "v1", "kind": "DeleteOptions"});
    assert_eq!(options(&document)["x-kubernetes-group-version-kind"], json!([of("")]));
    assert_eq!(options(&apps())["x-kubernetes-group-version-kind"], json!([of(""), of("apps")]));
}

/// A registry with a custom resource whose definition says whether it is established.
fn widgets(established: &str) -> Registry {
    let names = json!({"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"});
    let rule = json!({"rule": "self.size < 3", "message": "too large"});
    let size = json!({"type": "integer", "maximum": 10, "description": "How large it is."});
    let schema = json!({"type": "object", "properties": {"size": size}, "x-kubernetes-validations": [rule]});
    let version = json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}, "subresources": {"status": {}},
        "selectableFields": [{"jsonPath": ".size"}]});
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [version]},
        "status": {"acceptedNames": names, "storedVersions": ["v1"], "conditions": [
            {"type": "NamesAccepted", "status": "True"}, {"type": "Established", "status": established}]},
    });
    let stored = StoredObject::from_object(&Object::from_value(definition).expect("an object")).expect("is well formed");
    let row = Definition::read(&stored).expect("a definition").resource().expect("a row");
    Registry::new(vec![Arc::new(row)])
}

#[test]
fn custom_resources_are_told_of_once_they_are_established() {
    let group_version = GroupVersion::new("example.com", "v1");
    assert_eq!(document(&widgets("False"), &group_version, &mut Room::of_group()), None);
    let told = document(&widgets("True"), &group_version, &mut Room::of_group()).expect("is told of");
    let text = String::from_utf8(order::bytes(&told, Form::Document)).expect("UTF-8");
    let begins = r#"{"openapi":"3.0.0","info":{"title":"Kubernetes CRD Swagger","version":"v0.1.0"},"paths":{"/apis/example.com/v1/namespaces/{namespace}/widgets":{"get":{"tags":["exampleCom_v1"],"description":"list objects of kind Widget","operationId":"listExampleComV1NamespacedWidget","parameters":[{"name":"allowWatchBookmarks","#;
    assert!(text.starts_with(begins), "{}", &text[..1000]);
    let schema = r#""size":{"description":"How large it is.","type":"integer","maximum":10}},"x-kubernetes-group-version-kind":[{"group":"example.com","kind":"Widget","version":"v1"}],"x-kubernetes-selectable-fields":[{"fieldPath":"size"}],"x-kubernetes-validations":[{"rule":"self.size \u003c 3","message":"too large"}]}"#;
    assert!(text.contains(schema), "{text}");
    let paths = told["paths"].as_object().expect("a map").keys().map(|path| path.replace("/apis/example.com/v1/", "")).collect::<Vec<_>>();
    let namespaced = "namespaces/{namespace}/widgets";
    assert_eq!(paths, [namespaced, &format!("{namespaced}/{{name}}"), &format!("{namespaced}/{{name}}/status"), "widgets"]);
    let item = &told["paths"]["/apis/example.com/v1/namespaces/{namespace}/widgets/{name}"];
    assert_eq!(item["get"]["parameters"][0]["name"], "resourceVersion");
    let types = |content: &Value| content.as_object().expect("a map").keys().cloned().collect::<Vec<_>>();
    assert_eq!(types(&item["put"]["requestBody"]["content"]), ["application/json", "application/yaml"]);
    assert_eq!(types(&item["patch"]["responses"]), ["200", "401"]);
    assert!(told["components"].get("securitySchemes").is_none());
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
    assert_eq!(names(&exec), ["command", "container", "name", "namespace", "stderr", "stdin", "stdout", "tty"]);
    assert_eq!(exec["post"]["operationId"], "connectCoreV1PostNamespacedPodExec");
    let log = of("namespaces/{namespace}/pods/{name}/log");
    assert!(names(&log).contains(&json!("insecureSkipTLSVerifyBackend")) && names(&log).contains(&json!("pretty")));
    let text = json!({"schema": {"type": "string"}});
    let content = json!({"application/json": text, "application/vnd.kubernetes.protobuf": text, "application/yaml": text, "text/plain": text});
    assert_eq!(log["get"]["responses"]["200"]["content"], content);
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
    for path in discovery::pages(&registry) {
        let document = page(&path).expect("a document");
        check(&document, &document["components"]["schemas"]);
    }
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
