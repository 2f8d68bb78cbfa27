//! Volumes and where they are mounted.

use serde_json::json;

use super::{check, errors};

#[test]
fn paths_stay_below_their_volume() {
    let downward = |path: &str| json!({"items": [{"path": path, "fieldRef": {"fieldPath": "metadata.name"}}]});
    check(&[
        ("/spec/volumes/1", json!({"name": "d", "downwardAPI": downward("a/b")}), &[]),
        (
            "/spec/volumes/1",
            json!({"name": "d", "downwardAPI": downward("a/../../b")}),
            &["volumes[1].downwardAPI.path: Invalid value: \"a/../../b\": must not contain '..'"],
        ),
        (
            "/spec/volumes/1",
            json!({"name": "d", "downwardAPI": downward("/etc/x")}),
            &["volumes[1].downwardAPI.path: Invalid value: \"/etc/x\": must be a relative path"],
        ),
        (
            "/spec/volumes/1",
            json!({"name": "d", "downwardAPI": downward("..data")}),
            &["volumes[1].downwardAPI.path: Invalid value: \"..data\": must not start with '..'"],
        ),
        (
            "/spec/volumes/1",
            json!({"name": "s", "secret": {"secretName": "s", "items": [{"key": "k", "path": "../x", "mode": 4096}]}}),
            &[
                "volumes[1].secret.items[0].path: Invalid value: \"../x\": must not contain '..'",
                "volumes[1].secret.items[0].mode: Invalid value: 4096: must be a number between 0 and 0777 (octal), both inclusive",
            ],
        ),
        (
            "/spec/volumes/1",
            json!({"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "/abs", "expirationSeconds": 5}}]}}),
            &[
                "volumes[1].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes",
                "volumes[1].projected.path: Invalid value: \"/abs\": must be a relative path",
            ],
        ),
        (
            "/spec/containers/0/volumeMounts",
            json!([{"name": "v", "mountPath": "/a:/b"}]),
            &["containers[0].volumeMounts[0].mountPath: Invalid value: \"/a:/b\": must not contain ':'"],
        ),
        (
            "/spec/containers/0/volumeMounts",
            json!([{"name": "v", "mountPath": "/a", "subPath": "../x"}]),
            &["containers[0].volumeMounts.subPath: Invalid value: \"../x\": must not contain '..'"],
        ),
    ]);
}

#[test]
fn projected_files_do_not_meet() {
    let twice = json!([
        {"secret": {"name": "s", "items": [{"key": "a", "path": "f"}]}},
        {"configMap": {"name": "c", "items": [{"key": "a", "path": "f"}]}},
        {"downwardAPI": {"items": [{"path": "f", "fieldRef": {"fieldPath": "metadata.uid"}}]}},
        {"secret": {"name": "s"}, "configMap": {"name": "c"}},
    ]);
    check(&[(
        "/spec/volumes/1",
        json!({"name": "p", "projected": {"sources": twice}}),
        &[
            "volumes[1].projected: Invalid value: \"c\": conflicting duplicate paths",
            "volumes[1].projected: Invalid value: \"f\": conflicting duplicate paths",
            "volumes[1].projected.sources[3]: Forbidden: may not specify more than 1 volume type per source",
        ],
    )]);
    assert_eq!(
        errors(&[
            ("/spec/serviceAccountName", json!("")),
            ("/spec/volumes/1", json!({"name": "t", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}})),
        ]),
        ["spec.volumes[1].projected.sources[0].serviceAccountToken: Forbidden: must not be specified when serviceAccountName is not set"]
    );
}

#[test]
fn volumes_have_one_type_and_what_it_needs() {
    check(&[
        (
            "/spec/volumes/0/emptyDir",
            json!({"sizeLimit": "-1Gi"}),
            &["volumes[0].emptyDir.sizeLimit: Forbidden: SizeLimit field must be a valid resource quantity"],
        ),
        ("/spec/volumes/0/hostPath", json!({"path": "/a"}), &["volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"]),
        (
            "/spec/volumes/1",
            json!({"name": "h", "hostPath": {"path": "/a/../b", "type": "Tape"}}),
            &[
                "volumes[1].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
                "volumes[1].hostPath.type: Unsupported value: \"Tape\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"",
            ],
        ),
        ("/spec/volumes/1", json!({"name": "v", "emptyDir": {}}), &["volumes[1].name: Duplicate value: \"v\""]),
        (
            "/spec/volumes/1",
            json!({"name": "c", "csi": {"driver": "Not A Driver"}}),
            &[&format!("volumes[1].csi.driver: Invalid value: \"Not A Driver\": {}", super::super::names::subdomain("Not A Driver", false)[0])],
        ),
        (
            "/spec/volumes/1",
            json!({"name": "i", "image": {"pullPolicy": "Often"}}),
            &[
                "volumes[1].image.reference: Required value",
                "volumes[1].image.pullPolicy: Unsupported value: \"Often\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            ],
        ),
        (
            "/spec/volumes/1",
            json!({"name": "n", "nfs": {"server": "s", "path": "rel"}}),
            &["volumes[1].nfs.path: Invalid value: \"rel\": must be an absolute path"],
        ),
        (
            "/spec/volumes/1",
            json!({"name": "i", "iscsi": {"targetPortal": "p", "iqn": "iqn.2016-4.x:y", "lun": 300}}),
            &[
                "volumes[1].iscsi.iqn: Invalid value: \"iqn.2016-4.x:y\": must be valid format",
                "volumes[1].iscsi.lun: Invalid value: 300: must be between 0 and 255, inclusive",
            ],
        ),
        ("/spec/volumes/1", json!({"name": "i", "iscsi": {"targetPortal": "p", "iqn": "iqn.2016-04.example.com:storage", "lun": 0}}), &[]),
        (
            "/spec/volumes/1",
            json!({"name": "x", "flexVolume": {"driver": "d/f", "options": {"k8s.io/a": "b"}}}),
            &["volumes[1].flexVolume.options[k8s.io/a]: Invalid value: \"k8s.io/a\": kubernetes.io and k8s.io namespaces are reserved"],
        ),
        (
            "/spec/volumes/1",
            json!({"name": "e", "ephemeral": {"volumeClaimTemplate": {"metadata": {"name": "x"}, "spec": {"accessModes": ["ReadWriteOnce"]}}}}),
            &[
                "volumes[1].ephemeral.volumeClaimTemplate.metadata.name: Forbidden: cannot be set",
                "volumes[1].ephemeral.volumeClaimTemplate.spec.resources[storage]: Required value",
            ],
        ),
    ]);
}

#[test]
fn mounts_and_devices_do_not_meet() {
    check(&[
        (
            "/spec/containers/0/volumeMounts",
            json!([{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/a"}, {"name": "gone", "mountPath": ""}]),
            &[
                "containers[0].volumeMounts[1].mountPath: Invalid value: \"/a\": must be unique",
                "containers[0].volumeMounts[2].name: Not found: \"gone\"",
                "containers[0].volumeMounts[2].mountPath: Required value",
            ],
        ),
        (
            "/spec/containers/0/volumeMounts",
            json!([{"name": "v", "mountPath": "/a", "recursiveReadOnly": "Enabled", "mountPropagation": "Bidirectional"}]),
            &[
                "containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers",
                "containers[0].volumeMounts.recursiveReadOnly: Forbidden: may only be specified when readOnly is true",
                "containers[0].volumeMounts.recursiveReadOnly: Forbidden: may only be specified when mountPropagation is None or not specified",
            ],
        ),
        (
            "/spec/containers/0/volumeDevices",
            json!([{"name": "v", "devicePath": "/dev/../x"}]),
            &[
                "containers[0].volumeDevices[0].name: Invalid value: \"v\": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
                "containers[0].volumeDevices[0].devicePath: Invalid value: \"/dev/../x\": can not contain backsteps ('..')",
            ],
        ),
    ]);
}
