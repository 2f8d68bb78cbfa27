//! One committed version of an object: encoded once, shared by every reader.

use std::{
    any::Any,
    borrow::Cow,
    fmt,
    sync::{Arc, LazyLock, OnceLock},
};

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

use crate::{
    decoding,
    memo::{Encoded, MemoSlot, Memos},
    meta::{Object, ObjectKey, Revision, Uid, floats, rfc3339},
    packed::Packed,
    projection::MetaProjection,
};

/// A type of k8s-openapi that stands for a whole API object.
pub trait KubeObject:
    k8s_openapi::Resource + k8s_openapi::Metadata<Ty = ObjectMeta> + serde::Serialize + DeserializeOwned + Clone + fmt::Debug + Send + Sync + 'static
{
}

impl<K> KubeObject for K where
    K: k8s_openapi::Resource
        + k8s_openapi::Metadata<Ty = ObjectMeta>
        + serde::Serialize
        + DeserializeOwned
        + Clone
        + fmt::Debug
        + Send
        + Sync
        + 'static
{
}

/// A committed version of an object.
///
/// `encoded` is the JSON that the store holds. It begins `{"kind":K,"apiVersion":V,"metadata":{` and carries no
/// `resourceVersion`, which is spliced in at `splice_at` (right behind `"metadata":{`). It lies in one piece, or packed where many are alike.
pub struct StoredObject {
    pub key: ObjectKey,
    pub revision: Revision,
    encoded: Packed,
    splice_at: usize,
    meta: Arc<MetaProjection>,
    /// The typed object, as long as it is in use or the budget lasts.
    typed: MemoSlot<Typed>,
    /// Values of the resource's selectable paths, in its order; computed when the first field selector asks.
    fields: OnceLock<Box<[Option<Arc<str>>]>>,
    /// Another encoding, as long as its owner affords it.
    pub(crate) encoding: MemoSlot<Encoded>,
    /// The same in other versions, as long as the budget lasts.
    pub converted: MemoSlot<Converted>,
}

type Typed = Arc<dyn Any + Send + Sync>;
/// An object in other versions than its own.
pub type Converted = Arc<[Arc<StoredObject>]>;

/// Typed objects are several times as large as their JSON: a process keeps those that it asks for again and again.
const TYPED_BUDGET: usize = 24 << 20;
/// Size of a typed object relative to its JSON without managedFields: pods have about 4 KiB and 17 KiB.
const TYPED_PER_ENCODED: usize = 4;

static TYPED: LazyLock<Memos<StoredObject, Typed>> = LazyLock::new(|| Memos::new(TYPED_BUDGET, |object| &object.typed));

/// Why stored bytes are no object.
#[derive(Debug, thiserror::Error)]
pub enum CorruptObject {
    #[error("stored object does not begin with kind, apiVersion and metadata")]
    Shape,
    #[error("stored object is no valid JSON")]
    Json(#[from] serde_json::Error),
}

/// The wrapper that decodes only metadata.
#[derive(Deserialize)]
struct MetaOnly {
    metadata: MetaProjection,
}

/// The wrapper that finds managedFields.
#[derive(Deserialize)]
struct ManagedOnly<'a> {
    #[serde(borrow)]
    metadata: ManagedMetadata<'a>,
}

#[derive(Deserialize)]
struct ManagedMetadata<'a> {
    #[serde(borrow, rename = "managedFields")]
    managed_fields: Option<&'a RawValue>,
}

/// The object's JSON in two parts, between which its managedFields lay: as trees they are several times as large as all
/// the rest of the object.
fn around_managed_fields(encoded: &[u8]) -> Result<(&[u8], &[u8]), serde_json::Error> {
    const KEY: &[u8] = b"\"managedFields\":";
    let found = serde_json::from_slice::<ManagedOnly<'_>>(encoded)?.metadata.managed_fields;
    let Some(value) = found.map(|raw| raw.get().as_bytes()) else { return Ok((encoded, &[])) };
    // The value is a part of the very bytes that were parsed.
    let begin = value.as_ptr().addr() - encoded.as_ptr().addr();
    let (before, after) = (&encoded[..begin], &encoded[begin + value.len()..]);
    let Some(before) = before.strip_suffix(KEY) else { return Ok((encoded, &[])) };
    Ok(match after.strip_prefix(b",") {
        Some(after) => (before, after),
        None => (before.strip_suffix(b",").unwrap_or(before), after),
    })
}

/// Encodes an object in the store's form: kind, apiVersion and metadata first, no resourceVersion, no selfLink.
pub fn encode_for_store(object: &Object) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    let quoted = |text: &str| serde_json::to_string(text).expect("a string always encodes");
    out.extend_from_slice(format!("{{\"kind\":{},\"apiVersion\":{},\"metadata\":", quoted(object.kind()), quoted(object.api_version())).as_bytes());
    let mut metadata = object.get(&["metadata"]).and_then(Value::as_object).cloned().unwrap_or_default();
    metadata.remove("resourceVersion");
    floats::write_json(&mut out, &metadata).expect("a tree always encodes");
    for (field, value) in object.root() {
        if !matches!(field.as_str(), "kind" | "apiVersion" | "metadata") {
            out.push(b',');
            out.extend_from_slice(quoted(field).as_bytes());
            out.push(b':');
            floats::write_json(&mut out, value).expect("a tree always encodes");
        }
    }
    out.push(b'}');
    // The bytes live as long as this version does; spare room would too.
    out.shrink_to_fit();
    out.into()
}

impl StoredObject {
    /// Wraps bytes in the store's form.
    pub fn new(encoded: Bytes, revision: Revision) -> Result<Self, CorruptObject> {
        const MARK: &[u8] = b"\"metadata\":{";
        let head = &encoded[..encoded.len().min(512)];
        let splice_at = head.windows(MARK.len()).position(|window| window == MARK).ok_or(CorruptObject::Shape)? + MARK.len();
        let mut meta = serde_json::from_slice::<MetaOnly>(&encoded)?.metadata;
        meta.shrink();
        let key = ObjectKey::new(meta.namespace.clone(), meta.name.clone());
        Ok(StoredObject {
            key,
            revision,
            encoded: encoded.into(),
            splice_at,
            meta: Arc::new(meta),
            typed: MemoSlot::default(),
            fields: OnceLock::new(),
            encoding: MemoSlot::default(),
            converted: MemoSlot::default(),
        })
    }

    /// Wraps an object tree that came from elsewhere (a remote API server, a test) at its own resourceVersion.
    pub fn from_object(object: &Object) -> Result<Self, CorruptObject> {
        let revision = object.resource_version().parse().unwrap_or(Revision::ZERO);
        StoredObject::new(encode_for_store(object), revision)
    }

    /// The same content at another revision: the last state of an object at the revision of its deletion.
    pub fn at_revision(&self, revision: Revision) -> Self {
        let (key, encoded, meta) = (self.key.clone(), self.encoded.clone(), self.meta.clone());
        StoredObject {
            key,
            revision,
            encoded,
            splice_at: self.splice_at,
            meta,
            typed: MemoSlot::default(),
            fields: OnceLock::new(),
            encoding: MemoSlot::default(),
            converted: MemoSlot::default(),
        }
    }

    /// The same version, in less memory where there are others like it: for who keeps it long.
    pub fn packed(mut self) -> Self {
        if let Some(whole) = self.encoded.in_one_piece() {
            self.encoded = Packed::new(whole.clone(), &self.key.name);
        }
        self
    }

    /// Bytes that it keeps in memory without what is made of it when somebody asks, roughly.
    pub fn footprint(&self) -> usize {
        const COUNTS: usize = 2 * size_of::<usize>();
        COUNTS + size_of::<Self>() + self.encoded.footprint() + self.meta.footprint()
    }

    /// Whether the selectable fields of its kind have been decoded.
    pub fn knows_fields(&self) -> bool {
        self.fields.get().is_some()
    }

    /// The values of the fields that its kind can be selected by; `read` finds them in the object, once.
    pub(crate) fn selectable_fields(&self, read: impl FnOnce(&Object) -> Box<[Option<Arc<str>>]>) -> &[Option<Arc<str>>] {
        self.fields.get_or_init(|| read(&self.to_object()))
    }

    /// `apiVersion`, as it was stored.
    pub fn api_version(&self) -> &str {
        const MARK: &[u8] = b"\"apiVersion\":\"";
        let head = &self.encoded.beginning()[..self.splice_at];
        let Some(at) = head.windows(MARK.len()).position(|window| window == MARK) else { return "" };
        let rest = &head[at + MARK.len()..];
        let length = rest.iter().position(|byte| *byte == b'"').unwrap_or(0);
        std::str::from_utf8(&rest[..length]).unwrap_or_default()
    }

    /// The store's bytes, without resourceVersion; made for this where it is packed.
    pub fn encoded(&self) -> Cow<'_, [u8]> {
        self.encoded.bytes()
    }

    /// How many these are.
    pub fn encoded_length(&self) -> usize {
        self.encoded.length()
    }

    /// The same bytes, if they lie in one piece. Those of definitions of custom resources always do.
    pub fn in_one_piece(&self) -> Option<&Bytes> {
        self.encoded.in_one_piece()
    }

    pub fn meta(&self) -> &MetaProjection {
        &self.meta
    }

    /// The same, for whoever keeps it beside something else of this version.
    pub fn shared_meta(&self) -> &Arc<MetaProjection> {
        &self.meta
    }

    pub fn uid(&self) -> Uid {
        Uid(self.meta.uid.clone())
    }

    /// Appends the whole object with its resourceVersion: the body of a GET.
    pub fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.encoded.beginning()[..self.splice_at]);
        self.write_tail(out);
    }

    /// Appends the object without kind and apiVersion: an item of a built-in list.
    pub fn write_list_item(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"metadata\":{");
        self.write_tail(out);
    }

    fn write_tail(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\"resourceVersion\":\"");
        out.extend_from_slice(self.revision.to_string().as_bytes());
        out.push(b'"');
        if self.encoded.beginning().get(self.splice_at) != Some(&b'}') {
            out.push(b',');
        }
        self.encoded.write_from(self.splice_at, out);
    }

    /// The whole object with its resourceVersion.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded.length() + 48);
        self.write_json(&mut out);
        out
    }

    /// Decodes the tree, resourceVersion included.
    pub fn to_object(&self) -> Object {
        let value = serde_json::from_slice(&self.encoded()).expect("checked when it was wrapped");
        let mut object = Object::from_value(value).expect("checked when it was wrapped");
        object.set(&["metadata", "resourceVersion"], self.revision.to_string());
        object
    }

    /// The typed object; readers of a version share one while memory for it lasts. It has no managedFields; an update
    /// without them keeps those that there are.
    ///
    /// # Errors
    /// When the stored JSON does not fit the type.
    pub fn typed<K: KubeObject>(self: &Arc<Self>) -> Result<Arc<K>, serde_json::Error> {
        decoding::note_asked(self.encoded.length());
        if let Some(known) = self.known_type::<K>() {
            return Ok(known);
        }
        let (object, encoded) = self.decode::<K>()?;
        TYPED.keep(self, object.clone(), TYPED_PER_ENCODED * encoded);
        Ok(object)
    }

    /// The same for who looks at each of very many versions once: it is not kept for this.
    ///
    /// # Errors
    /// When the stored JSON does not fit the type.
    pub fn typed_once<K: KubeObject>(&self) -> Result<Arc<K>, serde_json::Error> {
        decoding::note_asked(self.encoded.length());
        match self.known_type::<K>() {
            Some(known) => Ok(known),
            None => self.decode::<K>().map(|(object, _)| object),
        }
    }

    fn known_type<K: KubeObject>(&self) -> Option<Arc<K>> {
        self.typed.peek(|memo| memo.clone().downcast::<K>().ok())
    }

    /// The typed object, and how many bytes it was made of.
    fn decode<K: KubeObject>(&self) -> Result<(Arc<K>, usize), serde_json::Error> {
        decoding::note(self.encoded.length());
        let encoded = self.encoded();
        let (before, after) = around_managed_fields(&encoded)?;
        let mut object: K = if after.is_empty() { decoded(before)? } else { decoded(&[before, after].concat())? };
        object.metadata_mut().resource_version = Some(self.revision.to_string());
        Ok((Arc::new(object), before.len() + after.len()))
    }

    /// The same version without managedFields, and packed, where nobody else has it: they are nearly half of a small object, and typed objects
    /// are without them. Who shares a version with others leaves it as it is.
    pub fn without_managed_fields(self: Arc<Self>) -> Arc<Self> {
        let mut stored = match Arc::try_unwrap(self) {
            Ok(stored) => stored,
            Err(shared) => return shared,
        };
        // They lie behind the place of the resourceVersion, which stays where it is.
        let shorter = match around_managed_fields(&stored.encoded()) {
            Ok((before, after)) if !after.is_empty() => Some([before, after].concat()),
            _ => None,
        };
        if let Some(shorter) = shorter {
            stored.encoded = Bytes::from(shorter).into();
        }
        Arc::new(stored.packed())
    }
}

/// Typed times end a day before those that clients may write: what lies beyond is read as the last one.
fn decoded<K: DeserializeOwned>(encoded: &[u8]) -> Result<K, serde_json::Error> {
    serde_json::from_slice(encoded).or_else(|error| {
        let mut tree: Value = serde_json::from_slice(encoded)?;
        if saturate_times(&mut tree) { serde_json::from_value(tree) } else { Err(error) }
    })
}

/// Whether there was a time beyond the last typed one; it is that one now.
fn saturate_times(tree: &mut Value) -> bool {
    match tree {
        Value::String(text) => match rfc3339::within_range(text) {
            Some(last) => {
                *text = last;
                true
            }
            None => false,
        },
        Value::Array(items) => saturate_all(items.iter_mut()),
        Value::Object(fields) => saturate_all(fields.values_mut()),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn saturate_all<'a>(trees: impl Iterator<Item = &'a mut Value>) -> bool {
    let mut found = false;
    for tree in trees {
        found |= saturate_times(tree);
    }
    found
}

/// Two are equal when they are the same version of the same object.
impl PartialEq for StoredObject {
    fn eq(&self, other: &Self) -> bool {
        self.revision == other.revision && self.key == other.key
    }
}

impl Eq for StoredObject {}

impl fmt::Debug for StoredObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoredObject").field("key", &self.key).field("revision", &self.revision).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    #[test]
    fn the_revision_is_spliced_without_decoding() {
        let tree =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}, "metadata": {"name": "x", "namespace": "n", "resourceVersion": "7"}});
        let object = Object::from_value(tree).expect("an object");
        let stored = Arc::new(StoredObject::new(encode_for_store(&object), Revision(9)).expect("well formed"));
        let read: Value = serde_json::from_slice(&stored.to_json()).expect("valid JSON");
        assert_eq!(read["metadata"]["resourceVersion"], "9");
        assert_eq!(read["data"]["a"], "b");
        assert_eq!((&stored.key, stored.api_version()), (&ObjectKey::new("n", "x"), "v1"));
        let mut item = Vec::new();
        stored.write_list_item(&mut item);
        assert!(serde_json::from_slice::<Value>(&item).expect("valid JSON").get("kind").is_none());
        let typed = stored.typed::<ConfigMap>().expect("fits");
        assert_eq!(typed.metadata.resource_version.as_deref(), Some("9"));
        assert!(Arc::ptr_eq(&typed, &stored.typed::<ConfigMap>().expect("fits")));
    }

    #[test]
    fn a_version_that_nobody_shares_loses_its_managed_fields_alone() {
        let entry = json!([{"manager": "m", "operation": "Update", "fieldsV1": {"f:data": {}}}]);
        for managed in [json!({"managedFields": entry, "name": "x", "uid": "u"}), json!({"name": "x", "uid": "u", "managedFields": entry})] {
            let tree = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}, "metadata": managed});
            let stored = || Arc::new(StoredObject::from_object(&Object::from_value(tree.clone()).expect("an object")).expect("well formed"));
            let short = stored().without_managed_fields();
            let mut wanted = stored().to_object().into_value();
            wanted["metadata"].as_object_mut().expect("metadata").remove("managedFields");
            assert_eq!(serde_json::from_slice::<Value>(&short.to_json()).expect("valid JSON"), wanted);
            assert_eq!((&short.key, short.api_version()), (&stored().key, "v1"));
            let shared = stored();
            let (other, length) = (shared.clone(), shared.encoded_length());
            assert_eq!(shared.without_managed_fields().encoded_length(), length, "others have it, too");
            drop(other);
        }
    }

    #[test]
    fn a_version_takes_more_than_its_bytes_and_not_much_more() {
        let owner = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web-5d9c", "uid": "b0c3", "controller": true});
        let metadata = json!({"name": "web-5d9c-x7k2p", "namespace": "n", "uid": "9f1e", "labels": {"app": "web"}, "ownerReferences": [owner]});
        let tree = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
        let stored = StoredObject::from_object(&Object::from_value(tree).expect("an object")).expect("well formed");
        let beside = stored.footprint() - stored.encoded_length();
        assert!((300..700).contains(&beside), "{beside} bytes");
        assert!(size_of::<StoredObject>() <= 160, "there are as many as objects, and more: {}", size_of::<StoredObject>());
        assert!(size_of::<MetaProjection>() <= 184, "{}", size_of::<MetaProjection>());
    }

    /// A pod of a template as it runs on a node.
    fn pod(name: &str, second: u64) -> Object {
        let time = format!("2026-01-01T00:00:{second:02}Z");
        let entry =
            |manager: &str, fields: Value| json!({"manager": manager, "operation": "Update", "apiVersion": "v1", "time": time, "fieldsV1": fields});
        let container = json!({".": {}, "f:image": {}, "f:name": {}, "f:imagePullPolicy": {}, "f:terminationMessagePath": {}});
        let of_spec = json!({"f:metadata": {"f:labels": {".": {}, "f:app": {}}}, "f:spec": {"f:containers": {"k:{\"name\":\"web\"}": container}}});
        let of_status = json!({"f:status": {"f:phase": {}, "f:podIP": {}, "f:podIPs": {".": {}, format!("k:{{\"ip\":\"10.0.0.{second}\"}}"): {}}}});
        let managed = [entry("kube-controller-manager", of_spec), entry("kubelet", of_status)];
        let metadata = json!({"name": name, "namespace": "n", "uid": format!("uid-of-{name}"), "labels": {"app": "web"}, "managedFields": managed});
        let spec = json!({"nodeName": "a", "containers": [{"name": "web", "image": "web:1", "terminationMessagePath": "/dev/termination-log"}]});
        let status = json!({"phase": "Running", "podIP": format!("10.0.0.{second}"), "startTime": time});
        Object::from_value(json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": status})).expect("an object")
    }

    #[test]
    fn a_packed_version_is_read_as_the_same_in_one_piece() {
        use k8s_openapi::api::core::v1::Pod;
        let version =
            |at: u64| StoredObject::new(encode_for_store(&pod(&format!("of-a-template-x{at}"), at)), Revision(100 + at)).expect("well formed");
        let _first = version(0).packed();
        for at in 1..20 {
            let (whole, packed) = (version(at), version(at).packed());
            assert!(packed.in_one_piece().is_none() && whole.in_one_piece().is_some());
            assert!(packed.footprint() + 500 < whole.footprint(), "{} of {}", packed.footprint(), whole.footprint());
            assert_eq!((packed.encoded(), packed.encoded_length()), (whole.encoded(), whole.encoded_length()));
            let written = |stored: &StoredObject| {
                let (mut document, mut item) = (b"[".to_vec(), b"[".to_vec());
                stored.write_json(&mut document);
                stored.write_list_item(&mut item);
                (document, item, stored.to_json(), stored.to_object().into_value(), stored.api_version().to_owned())
            };
            assert_eq!(written(&packed), written(&whole));
            let deleted = packed.at_revision(Revision(500));
            assert_eq!(written(&deleted), written(&whole.at_revision(Revision(500))));
            let (packed, whole) = (Arc::new(packed), Arc::new(whole));
            assert_eq!(packed.typed::<Pod>().expect("fits"), whole.typed::<Pod>().expect("fits"));
            let (packed, whole) = (packed.without_managed_fields(), whole.without_managed_fields());
            assert_eq!(packed.to_json(), whole.to_json());
        }
    }

    #[test]
    fn versions_that_nobody_shares_are_packed_without_their_managed_fields() {
        let version = |name: &str| {
            let entry = json!([{"manager": "m", "operation": "Update", "fieldsV1": {"f:data": {}}}]);
            let metadata = json!({"name": name, "managedFields": entry});
            let tree = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b".repeat(600)}, "metadata": metadata});
            Arc::new(StoredObject::from_object(&Object::from_value(tree).expect("an object")).expect("well formed"))
        };
        let held = ["kept-alone-a", "kept-alone-b"].map(|name| version(name).without_managed_fields());
        assert!(held[0].in_one_piece().is_some() && held[1].in_one_piece().is_none());
        let mut wanted = version("kept-alone-b").to_object().into_value();
        wanted["metadata"].as_object_mut().expect("metadata").remove("managedFields");
        assert_eq!(held[1].to_object().into_value(), wanted);
    }

    #[test]
    fn what_is_looked_at_once_is_not_kept() {
        let tree = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}, "metadata": {"name": "x"}});
        let stored = Arc::new(StoredObject::from_object(&Object::from_value(tree).expect("an object")).expect("well formed"));
        let once = stored.typed_once::<ConfigMap>().expect("fits");
        let kept = stored.typed::<ConfigMap>().expect("fits");
        assert!(once == kept && !Arc::ptr_eq(&once, &kept));
        assert!(Arc::ptr_eq(&kept, &stored.typed_once::<ConfigMap>().expect("fits")), "what is kept is shared");
    }

    #[test]
    fn typed_objects_have_everything_but_managed_fields() {
        let entry = json!([{"manager": "m", "operation": "Update", "fieldsV1": {"f:data": {".": {}, "f:a": {}}}}]);
        let odd = json!({"managedFields": "\"managedFields\":[", "z": "1"});
        for metadata in [
            json!({"name": "x", "managedFields": entry, "uid": "u"}),
            json!({"annotations": odd, "managedFields": entry}),
            json!({"managedFields": entry}),
            json!({"annotations": odd, "name": "x"}),
        ] {
            let tree = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "b"}, "metadata": metadata});
            let stored = Arc::new(StoredObject::from_object(&Object::from_value(tree.clone()).expect("an object")).expect("well formed"));
            let mut whole: ConfigMap = serde_json::from_value(tree).expect("fits");
            whole.metadata.managed_fields = None;
            whole.metadata.resource_version = Some("0".into());
            assert_eq!(*stored.typed::<ConfigMap>().expect("fits"), whole);
        }
    }

    #[test]
    fn times_that_no_type_has_are_the_last_one() {
        let spec = json!({"holderIdentity": "a", "renewTime": "9999-12-31T23:59:59.000000Z"});
        let tree = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "x"}, "spec": spec});
        let stored = Arc::new(StoredObject::from_object(&Object::from_value(tree).expect("an object")).expect("well formed"));
        let lease = stored.typed::<k8s_openapi::api::coordination::v1::Lease>().expect("fits");
        let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0.to_string());
        assert_eq!(renewed.as_deref(), Some("9999-12-30T22:00:00Z"));
    }
}
