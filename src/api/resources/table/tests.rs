use super::{builtin, is_builtin, optional};
use crate::resources::{Registry, Resource};

fn row(group: &str, plural: &str) -> std::sync::Arc<Resource> {
    Registry::new(builtin()).by_resource(group, plural).unwrap_or_else(|| panic!("no row for {plural}.{group}"))
}

fn joined(names: &[std::sync::Arc<str>]) -> String {
    names.join(",")
}

#[test]
fn short_names_and_categories_are_those_of_kubectl_api_resources() {
    for (group, plural, short, categories, namespaced) in [
        ("", "pods", "po", "all", true),
        ("", "services", "svc", "all", true),
        ("", "nodes", "no", "", false),
        ("", "namespaces", "ns", "", false),
        ("", "replicationcontrollers", "rc", "all", true),
        ("", "limitranges", "limits", "", true),
        ("apps", "deployments", "deploy", "all", true),
        ("autoscaling", "horizontalpodautoscalers", "hpa", "all", true),
        ("batch", "jobs", "", "all", true),
        ("networking.k8s.io", "ingresses", "ing", "", true),
        ("policy", "poddisruptionbudgets", "pdb", "", true),
        ("storage.k8s.io", "storageclasses", "sc", "", false),
        ("apiextensions.k8s.io", "customresourcedefinitions", "crd,crds", "api-extensions", false),
        ("events.k8s.io", "events", "ev", "", true),
    ] {
        let row = row(group, plural);
        assert_eq!(
            (joined(&row.short_names).as_str(), joined(&row.categories).as_str(), row.namespaced),
            (short, categories, namespaced),
            "{plural}"
        );
    }
}

#[test]
fn storage_prefixes_follow_the_historic_exceptions() {
    for (group, plural, prefix) in [
        ("", "nodes", "minions"),
        ("", "services", "services/specs"),
        ("", "endpoints", "services/endpoints"),
        ("", "replicationcontrollers", "controllers"),
        ("", "events", "events"),
        ("events.k8s.io", "events", "events"),
        ("networking.k8s.io", "ingresses", "ingress"),
        ("coordination.k8s.io", "leases", "leases"),
        ("apps", "deployments", "deployments"),
        ("apiregistration.k8s.io", "apiservices", "apiregistration.k8s.io/apiservices"),
        ("apiextensions.k8s.io", "customresourcedefinitions", "apiextensions.k8s.io/customresourcedefinitions"),
    ] {
        assert_eq!(&*row(group, plural).storage_prefix, prefix, "{plural}.{group}");
    }
}

#[test]
fn verbs_differ_only_for_namespaces_and_virtual_resources() {
    let verbs = |group, plural| row(group, plural).verbs.iter().map(|verb| verb.rbac()).collect::<Vec<_>>().join(",");
    assert_eq!(verbs("", "pods"), "create,delete,deletecollection,get,list,patch,update,watch");
    assert_eq!(verbs("", "namespaces"), "create,delete,get,list,patch,update,watch");
    assert_eq!(verbs("", "componentstatuses"), "get,list");
    for (group, plural) in [
        ("", "bindings"),
        ("authentication.k8s.io", "tokenreviews"),
        ("authentication.k8s.io", "selfsubjectreviews"),
        ("authorization.k8s.io", "subjectaccessreviews"),
        ("authorization.k8s.io", "localsubjectaccessreviews"),
    ] {
        assert_eq!(verbs(group, plural), "create", "{plural}");
    }
}

#[test]
fn subresources_carry_their_kinds_and_verbs() {
    let pod = row("", "pods");
    let names = pod.storage.subresources.iter().map(|sub| sub.name).collect::<Vec<_>>();
    assert_eq!(names, ["attach", "binding", "ephemeralcontainers", "eviction", "exec", "log", "portforward", "proxy", "resize", "status"]);
    for (group, plural, name, kind, verbs) in [
        ("", "pods", "eviction", "policy/v1, Kind=Eviction", "create"),
        ("", "pods", "log", "v1, Kind=Pod", "get"),
        ("", "pods", "exec", "v1, Kind=PodExecOptions", "create,get"),
        ("", "pods", "proxy", "v1, Kind=PodProxyOptions", "create,delete,get,patch,update"),
        ("", "namespaces", "finalize", "v1, Kind=Namespace", "update"),
        ("", "serviceaccounts", "token", "authentication.k8s.io/v1, Kind=TokenRequest", "create"),
        ("apps", "deployments", "scale", "autoscaling/v1, Kind=Scale", "get,patch,update"),
        ("apps", "deployments", "status", "apps/v1, Kind=Deployment", "get,patch,update"),
        (
            "certificates.k8s.io",
            "certificatesigningrequests",
            "approval",
            "certificates.k8s.io/v1, Kind=CertificateSigningRequest",
            "get,patch,update",
        ),
    ] {
        let row = row(group, plural);
        let sub = row.storage.subresource(name).unwrap_or_else(|| panic!("{plural}/{name}"));
        assert_eq!((sub.kind.to_string().as_str(), sub.verbs.join(",").as_str()), (kind, verbs), "{plural}/{name}");
    }
}

#[test]
fn autoscaling_serves_two_versions_and_events_share_storage() {
    let hpa = row("autoscaling", "horizontalpodautoscalers");
    assert_eq!(hpa.served.iter().map(|served| &*served.version).collect::<Vec<_>>(), ["v2", "v1"]);
    assert_eq!(&*hpa.storage.version, "v2");
    assert_eq!(row("events.k8s.io", "events").storage_gvk(), row("", "events").storage_gvk());
}

#[test]
fn rows_are_unique_and_the_core_group_comes_first() {
    let rows = builtin();
    assert_eq!(Registry::new(rows.clone()).rows().len(), rows.len());
    let distinct = rows.iter().map(|row| row.group_resource()).collect::<std::collections::HashSet<_>>();
    assert_eq!(distinct.len(), rows.len());
    let mut groups = rows.iter().map(|row| row.group.clone()).collect::<Vec<_>>();
    groups.dedup();
    assert_eq!(groups.len(), 22);
    assert_eq!(groups[..3].iter().map(|group| &**group).collect::<Vec<_>>(), ["", "apiregistration.k8s.io", "apps"]);
}

#[test]
fn kinds_are_known_to_be_built_in_by_group() {
    assert!(builtin().iter().chain(&optional(|_| true)).all(|row| is_builtin(&row.group, &row.kind)));
    assert!(!is_builtin("example.com", "Pod") && !is_builtin("", "Widget"));
}
