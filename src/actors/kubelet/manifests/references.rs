//! What of the API a static pod may not refer to: it runs whether or not there is an API server (upstream's gate
//! `PreventStaticPodAPIReferences`). Pure.

use serde_json::Value;

/// Where volumes name secrets, by the volume's kind.
const SECRETS: [(&str, &str); 10] = [
    ("azureFile", "/secretName"),
    ("cephfs", "/secretRef/name"),
    ("cinder", "/secretRef/name"),
    ("flexVolume", "/secretRef/name"),
    ("rbd", "/secretRef/name"),
    ("secret", "/secretName"),
    ("scaleIO", "/secretRef/name"),
    ("iscsi", "/secretRef/name"),
    ("storageos", "/secretRef/name"),
    ("csi", "/nodePublishSecretRef/name"),
];
/// Kinds of volumes that need an object, named or not.
const VOLUMES: [(&str, &str); 7] = [
    ("configMap", "configmaps (via configmap volumes)"),
    ("secret", "secrets (via secret volumes)"),
    ("csi", "csidrivers (via CSI volumes)"),
    ("glusterfs", "endpoints (via glusterFS volumes)"),
    ("persistentVolumeClaim", "persistentvolumeclaims"),
    ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
    ("azureFile", "secrets (via azureFile volumes)"),
];
/// The same of the sources of a projected volume.
const PROJECTED: [(&str, &str); 5] = [
    ("configMap", "configmaps (via projected volumes)"),
    ("secret", "secrets (via projected volumes)"),
    ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
    ("clusterTrustBundle", "clustertrustbundles"),
    ("podCertificate", "podcertificates"),
];

/// Whether a static pod of this spec can run without the API.
///
/// # Errors
/// What it refers to, in upstream's words.
pub fn check(spec: &Value) -> Result<(), String> {
    let refers_to = if is_named(spec, "/serviceAccountName") || is_named(spec, "/serviceAccount") {
        Some("serviceaccounts")
    } else if names_secrets(spec) {
        Some("secrets")
    } else if names_config_maps(spec) {
        Some("configmaps")
    } else if items(spec, "/resourceClaims").next().is_some() {
        Some("resourceclaims")
    } else {
        items(spec, "/volumes").find_map(of_volume)
    };
    refers_to.map_or(Ok(()), |what| Err(format!("static pods may not reference {what}")))
}

fn items<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn is_named(value: &Value, pointer: &str) -> bool {
    value.pointer(pointer).and_then(Value::as_str).is_some_and(|name| !name.is_empty())
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["/initContainers", "/containers", "/ephemeralContainers"].into_iter().flat_map(move |list| items(spec, list))
}

/// Whether a container's variables come from an object of one kind.
fn has_variables_of(container: &Value, whole: &str, key: &str) -> bool {
    items(container, "/envFrom").any(|source| is_named(source, whole)) || items(container, "/env").any(|variable| is_named(variable, key))
}

fn names_secrets(spec: &Value) -> bool {
    items(spec, "/imagePullSecrets").any(|secret| is_named(secret, "/name"))
        || containers(spec).any(|container| has_variables_of(container, "/secretRef/name", "/valueFrom/secretKeyRef/name"))
        || items(spec, "/volumes").any(|volume| {
            let named = SECRETS.iter().any(|(kind, name)| is_named(&volume[*kind], name));
            named || items(volume, "/projected/sources").any(|source| is_named(source, "/secret/name"))
        })
}

fn names_config_maps(spec: &Value) -> bool {
    containers(spec).any(|container| has_variables_of(container, "/configMapRef/name", "/valueFrom/configMapKeyRef/name"))
        || items(spec, "/volumes").any(|volume| {
            is_named(volume, "/configMap/name") || items(volume, "/projected/sources").any(|source| is_named(source, "/configMap/name"))
        })
}

fn of_volume(volume: &Value) -> Option<&'static str> {
    let of = |value: &Value, table: &[(&str, &'static str)]| table.iter().find(|(kind, _)| !value[*kind].is_null()).map(|(_, what)| *what);
    of(volume, &VOLUMES).or_else(|| items(volume, "/projected/sources").find_map(|source| of(source, &PROJECTED)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(spec: Value) -> Option<String> {
        check(&spec).err().map(|why| why.trim_start_matches("static pods may not reference ").to_owned())
    }

    #[test]
    fn what_needs_the_api_is_refused_in_upstreams_words() {
        let volume = |source: Value| json!({"volumes": [{"name": "ok", "emptyDir": {}}, source]});
        let variable = |source: Value| json!({"initContainers": [{"name": "i", "env": [{"name": "A", "valueFrom": source}]}]});
        let projected = |source: Value| volume(json!({"name": "v", "projected": {"sources": [{"downwardAPI": {}}, source]}}));
        for (spec, what) in [
            (json!({"serviceAccountName": "s"}), "serviceaccounts"),
            (json!({"serviceAccount": "s"}), "serviceaccounts"),
            (json!({"imagePullSecrets": [{"name": "s"}]}), "secrets"),
            (json!({"containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "s"}}]}]}), "secrets"),
            (json!({"containers": [{"name": "c", "envFrom": [{"configMapRef": {"name": "m"}}]}]}), "configmaps"),
            (variable(json!({"secretKeyRef": {"name": "s", "key": "k"}})), "secrets"),
            (variable(json!({"configMapKeyRef": {"name": "m", "key": "k"}})), "configmaps"),
            (json!({"resourceClaims": [{"name": "c"}]}), "resourceclaims"),
            (volume(json!({"name": "v", "secret": {"secretName": "s"}})), "secrets"),
            (volume(json!({"name": "v", "configMap": {"name": "m"}})), "configmaps"),
            (volume(json!({"name": "v", "configMap": {}})), "configmaps (via configmap volumes)"),
            (volume(json!({"name": "v", "csi": {"driver": "d"}})), "csidrivers (via CSI volumes)"),
            (volume(json!({"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "s"}}})), "secrets"),
            (volume(json!({"name": "v", "glusterfs": {"endpoints": "e", "path": "p"}})), "endpoints (via glusterFS volumes)"),
            (volume(json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}})), "persistentvolumeclaims"),
            (volume(json!({"name": "v", "ephemeral": {}})), "persistentvolumeclaims (via ephemeral volumes)"),
            (projected(json!({"secret": {"name": "s"}})), "secrets"),
            (projected(json!({"configMap": {}})), "configmaps (via projected volumes)"),
            (projected(json!({"serviceAccountToken": {"path": "t"}})), "serviceaccounts (via projected volumes)"),
            (projected(json!({"clusterTrustBundle": {"path": "t"}})), "clustertrustbundles"),
            (projected(json!({"podCertificate": {"keyType": "ED25519"}})), "podcertificates"),
        ] {
            assert_eq!(refused(spec.clone()).as_deref(), Some(what), "{spec}");
        }
    }

    #[test]
    fn what_the_node_has_by_itself_may_be_used() {
        let spec = json!({
            "imagePullSecrets": [{}],
            "containers": [{"name": "c", "env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}],
            "volumes": [{"name": "h", "hostPath": {"path": "/x"}}, {"name": "n", "nfs": {"server": "s", "path": "/"}}, {"name": "e"},
                {"name": "p", "projected": {"sources": [{"downwardAPI": {"items": []}}]}}],
        });
        assert_eq!(refused(spec), None);
    }
}
