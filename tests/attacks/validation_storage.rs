//! Wrong objects of the kinds about volumes, devices, priorities, runtimes and revisions: each is refused with 422 that says
//! what upstream says, at creation and when something good is to become wrong.

use serde_json::{Value, json};

use crate::{
    caller::{Caller, Reply},
    stage,
};

/// A resource below `/apis`, an object of it without kind and name, and what is said about it.
struct Row {
    resource: &'static str,
    object: Value,
    says: &'static str,
}

fn row(resource: &'static str, object: Value, says: &'static str) -> Row {
    Row { resource, object, says }
}

const CLAIMS: &str = "resource.k8s.io/v1/namespaces/ROOM/resourceclaims";
const TEMPLATES: &str = "resource.k8s.io/v1/namespaces/ROOM/resourceclaimtemplates";
const SLICES: &str = "resource.k8s.io/v1/resourceslices";
const DEVICE_CLASSES: &str = "resource.k8s.io/v1/deviceclasses";
const STORAGE_CLASSES: &str = "storage.k8s.io/v1/storageclasses";
const DRIVERS: &str = "storage.k8s.io/v1/csidrivers";
const NODES: &str = "storage.k8s.io/v1/csinodes";
const CAPACITIES: &str = "storage.k8s.io/v1/namespaces/ROOM/csistoragecapacities";
const ATTACHMENTS: &str = "storage.k8s.io/v1/volumeattachments";
const ATTRIBUTES_CLASSES: &str = "storage.k8s.io/v1/volumeattributesclasses";
const PRIORITIES: &str = "scheduling.k8s.io/v1/priorityclasses";
const RUNTIMES: &str = "node.k8s.io/v1/runtimeclasses";
const REVISIONS: &str = "apps/v1/namespaces/ROOM/controllerrevisions";

fn claim(devices: Value) -> Value {
    json!({"spec": {"devices": devices}})
}

fn slice(device: Value) -> Value {
    let pool = json!({"name": "p", "resourceSliceCount": 1});
    json!({"spec": {"driver": "gpu.example.com", "pool": pool, "allNodes": true, "devices": [device]}})
}

fn devices() -> Vec<Row> {
    let exactly = |more: Value| json!({"requests": [{"name": "gpu", "exactly": more}]});
    let many: Vec<Value> = (0..33).map(|at| json!({"name": format!("r{at}"), "exactly": {"deviceClassName": "a"}})).collect();
    vec![
        row(CLAIMS, claim(json!({"requests": many})), "spec.devices.requests: Too many: 33: must have at most 32 items"),
        row(
            CLAIMS,
            claim(json!({"requests": [{"name": "../x"}]})),
            "spec.devices.requests[0].name: Invalid value: \"../x\": a lowercase RFC 1123 label",
        ),
        row(
            CLAIMS,
            claim(json!({"requests": [{"name": "x"}]})),
            "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
        ),
        row(
            CLAIMS,
            claim(exactly(json!({"deviceClassName": "a", "count": -1}))),
            "spec.devices.requests[0].exactly.count: Invalid value: -1: must be greater than zero",
        ),
        row(
            CLAIMS,
            claim(exactly(json!({"deviceClassName": "a", "selectors": [{"cel": {"expression": "x".repeat(10_241)}}]}))),
            "spec.devices.requests[0].exactly.selectors[0].cel.expression: Too long: may not be more than 10240 bytes",
        ),
        row(
            CLAIMS,
            claim(json!({"constraints": [{"requests": ["gone"], "matchAttribute": "a.b/c"}]})),
            "spec.devices.constraints[0].requests[0]: Invalid value: \"gone\": must be the name of a request in the claim",
        ),
        row(TEMPLATES, json!({"spec": {"metadata": {"name": "x"}, "spec": {"devices": {}}}}), "spec.metadata.name: Forbidden: cannot be set"),
        row(
            DEVICE_CLASSES,
            json!({"spec": {"config": [{"opaque": {"driver": "../../run/x", "parameters": {}}}]}}),
            "spec.config[0].opaque.driver: Invalid value: \"../../run/x\": a lowercase RFC 1123 subdomain",
        ),
        row(
            DEVICE_CLASSES,
            json!({"spec": {"extendedResourceName": "cpu"}}),
            "spec.extendedResourceName: Invalid value: \"cpu\": must be a valid extended resource name",
        ),
    ]
}

fn slices() -> Vec<Row> {
    vec![
        row(
            SLICES,
            json!({"spec": {"driver": "d", "pool": {"name": "p", "resourceSliceCount": 1}}}),
            "spec: Required value: exactly one of `nodeName`",
        ),
        row(SLICES, slice(json!({"name": "../sda"})), "spec.devices[0].name: Invalid value: \"../sda\": a lowercase RFC 1123 label"),
        row(
            SLICES,
            slice(json!({"name": "d", "attributes": {"a": {"version": "1"}}})),
            "spec.devices[0].attributes[a].version: Invalid value: \"1\": must be a string compatible with semver.org spec 2.0.0",
        ),
        row(
            SLICES,
            slice(json!({"name": "d", "attributes": {"a": {"ints": [1]}}})),
            "spec.devices[0].attributes[a]: Invalid value: \"\": exactly one value must be specified",
        ),
        row(
            SLICES,
            slice(json!({"name": "d", "taints": [{"key": "a", "effect": "Explode"}]})),
            "spec.devices[0].taints[0].effect: Unsupported value: \"Explode\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
        ),
        row(
            SLICES,
            slice(json!({"name": "d", "allowMultipleAllocations": true, "capacity": {"m": {"value": "4", "requestPolicy": {
                "default": "1", "validRange": {"min": "1", "step": "0"},
            }}}})),
            "validRange.step: Invalid value: \"1\": value is not a multiple of a given step (0) from (1)",
        ),
        row(
            SLICES,
            slice(json!({"name": "d", "consumesCounters": [{"counterSet": "s"}]})),
            "spec.devices[0].consumesCounters[0].counters: Required value",
        ),
    ]
}

fn volumes() -> Vec<Row> {
    let attachment = |source: Value| json!({"spec": {"attacher": "a", "nodeName": "n", "source": source}});
    vec![
        row(STORAGE_CLASSES, json!({"provisioner": "a/b/c"}), "provisioner: Invalid value: \"a/b/c\": a valid label key"),
        row(STORAGE_CLASSES, json!({"provisioner": "a", "volumeBindingMode": ""}), "volumeBindingMode: Unsupported value: \"\""),
        row(
            STORAGE_CLASSES,
            json!({"provisioner": "a", "parameters": {"a": "x".repeat(300_000)}}),
            "parameters: Too long: may not be more than 262144 bytes",
        ),
        row(
            STORAGE_CLASSES,
            json!({"provisioner": "a", "allowedTopologies": [{"matchLabelExpressions": [{"key": "k", "values": []}]}]}),
            "allowedTopologies[0].matchLabelExpressions[0].values: Required value",
        ),
        row(ATTRIBUTES_CLASSES, json!({"driverName": "a"}), "parameters: Required value: must contain at least one key/value pair"),
        row(
            DRIVERS,
            json!({"spec": {"fsGroupPolicy": "Maybe"}}),
            "spec.fsGroupPolicy: Unsupported value: \"Maybe\": supported values: \"File\", \"None\"",
        ),
        row(
            DRIVERS,
            json!({"spec": {"tokenRequests": [{"audience": "a", "expirationSeconds": 1_i64 << 62}]}}),
            "spec.tokenRequests[0].expirationSeconds: Invalid value: 4611686018427387904: may not specify a duration larger than 2^32 seconds",
        ),
        row(
            NODES,
            json!({"spec": {"drivers": [{"name": "../../x", "nodeID": "1"}]}}),
            "spec.drivers[0].name: Invalid value: \"../../x\": a lowercase RFC 1123 subdomain",
        ),
        row(CAPACITIES, json!({"storageClassName": "a", "capacity": "-1"}), "capacity: Invalid value: \"-1\": must be greater than or equal to 0"),
        row(ATTACHMENTS, attachment(json!({})), "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName"),
        row(
            ATTACHMENTS,
            attachment(json!({"inlineVolumeSpec": {"accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/"}}})),
            "spec.source.inlineVolumeSpec.csi: Required value: has to be specified in the context of inline volumes",
        ),
        row(
            ATTACHMENTS,
            attachment(json!({"persistentVolumeName": "../x"})),
            "spec.source.persistentVolumeName: Invalid value: \"../x\": a lowercase RFC 1123 subdomain",
        ),
    ]
}

fn others() -> Vec<Row> {
    let toleration = json!({"key": "a", "operator": "Exists"});
    vec![
        row(PRIORITIES, json!({"value": 1_000_000_001}), "value: Forbidden: maximum allowed value of a user defined priority is 1000000000"),
        row(
            PRIORITIES,
            json!({"value": 1, "preemptionPolicy": "Always"}),
            "preemptionPolicy: Unsupported value: \"Always\": supported values: \"PreemptLowerPriority\", \"Never\"",
        ),
        row(RUNTIMES, json!({"handler": "../runc"}), "handler: Invalid value: \"../runc\": a lowercase RFC 1123 label"),
        row(
            RUNTIMES,
            json!({"handler": "a", "overhead": {"podFixed": {"cpu": "-1"}}}),
            "overhead.limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
        ),
        row(RUNTIMES, json!({"handler": "a", "scheduling": {"tolerations": [toleration, toleration]}}), "scheduling.tolerations[1]: Duplicate value"),
        row(REVISIONS, json!({"revision": 1, "data": "x"}), "data: Required value: data must be a valid JSON object"),
        row(REVISIONS, json!({"revision": -1, "data": {}}), "revision: Invalid value: -1: must be greater than or equal to 0"),
    ]
}

/// Something good, and what a merge patch of it (or of its status) is told.
struct Change {
    good: Row,
    patches: Vec<(&'static str, Value, &'static str)>,
}

fn changes() -> Vec<Change> {
    let good = |resource, object| row(resource, object, "");
    let request = json!({"requests": [{"name": "gpu", "exactly": {"deviceClassName": "a"}}]});
    let result = |name: &str, device: &str| json!({"request": name, "driver": "a", "pool": "p", "device": device});
    let allocation = |result: Value| json!({"status": {"allocation": {"devices": {"results": [result]}}}});
    let of_claim = vec![
        ("", json!({"spec": {"devices": {"requests": null}}}), "field is immutable"),
        (
            "/status",
            json!({"status": {"reservedFor": [{"resource": "pods", "name": "p", "uid": "1"}]}}),
            "status.reservedFor: Forbidden: may not be specified when `allocated` is not set",
        ),
        ("/status", allocation(result("gone", "d")), "status.allocation.devices.results[0].request: Invalid value: \"gone\""),
        ("/status", allocation(result("gpu", "../sda")), "status.allocation.devices.results[0].device: Invalid value: \"../sda\""),
        (
            "/status",
            json!({"status": {"devices": [{"driver": "a", "pool": "p", "device": "d"}]}}),
            r#"status.devices[0]: Invalid value: {"Driver":"a","Pool":"p","Device":"d","ShareID":""}: must be an allocated device in the claim"#,
        ),
    ];
    let of_attachment = vec![
        ("", json!({"spec": {"nodeName": "other"}}), "field is immutable"),
        ("/status", json!({"status": {"attachError": {"errorCode": -1}}}), "status.attachError.errorCode: Invalid value: -1: must be between 0"),
    ];
    let node = json!({"spec": {"drivers": [{"name": "a", "nodeID": "1"}]}});
    let attachment = json!({"spec": {"attacher": "a", "nodeName": "n", "source": {"persistentVolumeName": "pv"}}});
    vec![
        Change { good: good(CLAIMS, claim(request)), patches: of_claim },
        Change {
            good: good(SLICES, slice(json!({"name": "d"}))),
            patches: vec![("", json!({"spec": {"driver": "other"}}), "spec.driver: Invalid value: \"other\": field is immutable")],
        },
        Change {
            good: good(STORAGE_CLASSES, json!({"provisioner": "a"})),
            patches: vec![
                ("", json!({"parameters": {"a": "b"}}), "parameters: Invalid value: {\"a\":\"b\"}: field is immutable"),
                ("", json!({"reclaimPolicy": "Retain"}), "reclaimPolicy: Invalid value: \"Retain\": field is immutable"),
            ],
        },
        Change {
            good: good(DRIVERS, json!({"spec": {}})),
            patches: vec![("", json!({"spec": {"attachRequired": false}}), "spec.attachedRequired: Invalid value: false: field is immutable")],
        },
        Change {
            good: good(NODES, node),
            patches: vec![("", json!({"spec": {"drivers": [{"name": "a", "nodeID": "2"}]}}), "spec.drivers: Invalid value: {")],
        },
        Change { good: good(ATTACHMENTS, attachment), patches: of_attachment },
        Change {
            good: good(ATTRIBUTES_CLASSES, json!({"driverName": "a", "parameters": {"a": "b"}})),
            patches: vec![("", json!({"parameters": {"a": "c"}}), "parameters: Forbidden: updates to parameters are forbidden.")],
        },
        Change {
            good: good(PRIORITIES, json!({"value": 1})),
            patches: vec![("", json!({"value": 2}), "value: Forbidden: may not be changed in an update.")],
        },
        Change {
            good: good(RUNTIMES, json!({"handler": "a"})),
            patches: vec![("", json!({"handler": "b"}), "handler: Invalid value: \"b\": field is immutable")],
        },
        Change {
            good: good(REVISIONS, json!({"revision": 1, "data": {"a": 1}})),
            patches: vec![("", json!({"data": {"a": 2}}), "data: Invalid value: {\"a\":2}: field is immutable")],
        },
    ]
}

/// The kind whose plural a path ends in.
fn kind(path: &str) -> &'static str {
    const KINDS: [(&str, &str); 13] = [
        ("resourceclaims", "ResourceClaim"),
        ("resourceclaimtemplates", "ResourceClaimTemplate"),
        ("resourceslices", "ResourceSlice"),
        ("deviceclasses", "DeviceClass"),
        ("storageclasses", "StorageClass"),
        ("csidrivers", "CSIDriver"),
        ("csinodes", "CSINode"),
        ("csistoragecapacities", "CSIStorageCapacity"),
        ("volumeattachments", "VolumeAttachment"),
        ("volumeattributesclasses", "VolumeAttributesClass"),
        ("priorityclasses", "PriorityClass"),
        ("runtimeclasses", "RuntimeClass"),
        ("controllerrevisions", "ControllerRevision"),
    ];
    let plural = path.rsplit('/').next().expect("a plural");
    KINDS.iter().find(|(known, _)| *known == plural).expect("a known plural").1
}

/// The path of a row's resource, and its object with kind and name.
fn request(room: &str, row: &Row) -> (String, Value) {
    let mut object = row.object.clone();
    let parts: Vec<&str> = row.resource.split('/').collect();
    object["apiVersion"] = json!(format!("{}/{}", parts[0], parts[1]));
    object["kind"] = json!(kind(row.resource));
    object["metadata"] = json!({"name": room});
    (format!("/apis/{}", row.resource.replace("ROOM", room)), object)
}

fn check(reply: &Reply, what: &Value, says: &str) {
    assert_eq!(reply.status, 422, "{what}: {reply:?}");
    assert!(reply.message().contains(says), "{}\n  does not say\n{says}", reply.message());
}

#[test]
fn storage_and_device_kinds_are_held_to_upstreams_rules() {
    let stage = stage::shared();
    let room = stage.room("val-storage");
    let caller = Caller::administrator(&stage);
    stage.attack(|| {
        for row in [devices(), slices(), volumes(), others()].iter().flatten() {
            let (path, object) = request(&room.name, row);
            check(&caller.json("POST", &path, &object), &object, row.says);
        }
        for change in changes() {
            let (path, object) = request(&room.name, &change.good);
            let created = caller.json("POST", &path, &object);
            assert_eq!(created.status, 201, "{object}: {created:?}");
            let path = format!("{path}/{}", room.name);
            for (subresource, patch, says) in change.patches {
                let reply = caller.send("PATCH", &format!("{path}{subresource}"), "application/merge-patch+json", patch.to_string());
                check(&reply, &patch, says);
            }
            assert_eq!(caller.json("DELETE", &path, &json!({})).status, 200, "{path}");
        }
    });
}

#[test]
fn only_namespaces_that_say_so_get_devices_with_the_rights_of_an_administrator() {
    let stage = stage::shared();
    let room = stage.room("val-admin");
    let caller = Caller::administrator(&stage);
    let request = json!({"requests": [{"name": "gpu", "exactly": {"deviceClassName": "a", "adminAccess": true}}]});
    let (path, object) = self::request(&room.name, &row(CLAIMS, claim(request), ""));
    let why = "spec.devices.requests[0].adminAccess: Forbidden: admin access to devices requires the `resource.kubernetes.io/admin-access: true` label on the containing namespace";
    stage.attack(|| check(&caller.json("POST", &path, &object), &object, why));
    stage.kubectl(&format!("label namespace {} resource.kubernetes.io/admin-access=true", room.name));
    assert_eq!(caller.json("POST", &path, &object).status, 201);
}
