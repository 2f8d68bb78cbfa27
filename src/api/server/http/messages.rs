//! Stored objects as protobuf messages, whole or their metadata alone, each made once per version while the memos' budget lasts.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use troupe_api::{
    encodings::Encodings,
    protobuf,
    schema::{Schema, Schemas},
    service::Target,
    status::Status,
    stored::StoredObject,
};

use crate::render::{FullForm, api_version, write_partial};

/// Makes messages of one target's objects.
#[derive(Clone)]
pub struct MessageForm {
    full: FullForm,
    schema: Option<Arc<Schema>>,
    /// kind and apiVersion of objects as they are; the latter names their memos.
    kind: Arc<str>,
    api_version: Arc<str>,
    /// `apiVersion` of the metadata form.
    partial: Option<&'static str>,
    memos: Arc<Encodings>,
}

impl MessageForm {
    /// Objects as they are.
    ///
    /// # Errors
    /// 406 for custom resources, which have no protobuf form.
    pub fn full(target: &Target, memos: &Arc<Encodings>) -> Result<Self, Status> {
        let mut form = MessageForm::partial(target, "", memos);
        form.partial = None;
        if form.schema.is_none() {
            return Err(Status::not_acceptable("only the following media types are accepted: application/json, application/yaml"));
        }
        Ok(form)
    }

    /// Their metadata.
    pub fn partial(target: &Target, version: &'static str, memos: &Arc<Encodings>) -> Self {
        let schema = Schemas::builtin().get(&target.resource.gvk(&target.version));
        let (kind, api_version) = (target.resource.kind.clone(), api_version(target).into());
        MessageForm { full: FullForm::new(target), schema, kind, api_version, partial: Some(version), memos: memos.clone() }
    }

    /// Whether these are metadata alone.
    pub fn is_partial(&self) -> bool {
        self.partial.is_some()
    }

    /// An object's message.
    pub fn message(&self, object: &Arc<StoredObject>) -> Bytes {
        match (self.partial, &self.schema) {
            (None, Some(schema)) => self.memos.get(object, &self.api_version, || self.encode(schema, object)),
            _ => self.partial_message(object),
        }
    }

    fn encode(&self, schema: &Schema, object: &StoredObject) -> Vec<u8> {
        let tree = self.full.tree(object.to_object());
        let mut out = Vec::with_capacity(object.encoded_length());
        protobuf::object(schema.root_struct(), tree.root(), &mut out);
        out.shrink_to_fit();
        out
    }

    fn partial_message(&self, object: &StoredObject) -> Bytes {
        if let Some(whole) = Encodings::known(object, &self.api_version) {
            return whole.slice_ref(protobuf::metadata_of(&whole));
        }
        let (mut json, mut out) = (Vec::with_capacity(1024), Vec::with_capacity(512));
        write_partial(object, "", &mut json);
        let tree: Value = serde_json::from_slice(&json).expect("cut out of valid JSON");
        protobuf::partial(&tree["metadata"], &mut out);
        out.into()
    }

    /// An object in its envelope.
    pub fn enveloped(&self, object: &Arc<StoredObject>) -> Vec<u8> {
        let message = self.message(object);
        match self.partial {
            Some(version) => protobuf::unknown(version, "PartialObjectMetadata", &message),
            None => protobuf::unknown(&self.api_version, &self.kind, &message),
        }
    }

    /// All of an enveloped list before its first item; `items` is the size of all items in the list.
    pub fn list_head(&self, target: &Target, metadata: &str, items: usize) -> Vec<u8> {
        let mut meta = Vec::with_capacity(64);
        protobuf::list_meta(&serde_json::from_str(metadata).unwrap_or(Value::Null), &mut meta);
        let length = meta.len() + items;
        let mut head = match self.partial {
            Some(version) => protobuf::unknown_head(version, "PartialObjectMetadataList", length),
            None => protobuf::unknown_head(&self.api_version, &target.resource.list_kind(), length),
        };
        head.append(&mut meta);
        head
    }
}
