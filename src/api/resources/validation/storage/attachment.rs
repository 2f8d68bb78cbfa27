//! Attachments of volumes to nodes.

use super::{
    super::{Field, between, pod::volume_sources::driver_name},
    inline, root,
};
use crate::{
    meta::{Object, names},
    status::FieldError,
};

/// Of all metadata with its names, in bytes.
const LARGEST_METADATA: usize = 256 * 1024;
const LONGEST_MESSAGE: usize = 1024;
const ONE_SOURCE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";

/// Checks an attachment with its status.
pub fn attachment(object: &Object) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (spec, status) = (root(object, "spec"), root(object, "status"));
    driver_name(&mut errors, &spec.child("attacher"));
    source(&mut errors, &spec.child("source"));
    let node = spec.child("nodeName");
    node.judge(&mut errors, names::subdomain(node.text(), false));
    let metadata = status.child("attachmentMetadata");
    if metadata.entries().map(|(name, value)| name.len() + value.text().len()).sum::<usize>() > LARGEST_METADATA {
        errors.push(metadata.too_long(LARGEST_METADATA));
    }
    for name in ["attachError", "detachError"] {
        failure(&mut errors, &status.child(name));
    }
    errors
}

/// Checks an update, of the attachment or of its status.
pub fn attachment_update(new: &Object, old: &Object) -> Vec<FieldError> {
    let mut errors = attachment(new);
    root(new, "spec").check_unchanged(&mut errors, root(old, "spec").value);
    errors
}

fn source(errors: &mut Vec<FieldError>, source: &Field<'_>) {
    let (inline, name) = (source.child("inlineVolumeSpec"), source.child("persistentVolumeName"));
    match (inline.is_set(), name.is_set()) {
        (false, false) => errors.push(source.required(ONE_SOURCE)),
        (true, true) => errors.push(source.forbidden(ONE_SOURCE)),
        (true, false) => inline::volume(errors, &inline),
        (false, true) if name.text().is_empty() => errors.push(name.required("must specify non empty persistentVolumeName")),
        (false, true) => {}
    }
    if name.is_set() {
        name.judge(errors, names::subdomain(name.text(), false));
    }
}

/// The last failure to attach or detach.
fn failure(errors: &mut Vec<FieldError>, failure: &Field<'_>) {
    let (message, code) = (failure.child("message"), failure.child("errorCode"));
    if message.text().len() > LONGEST_MESSAGE {
        // Upstream names the bound of the metadata.
        errors.push(message.too_long(LARGEST_METADATA));
    }
    if code.int() < 0 {
        errors.push(code.invalid(between(0, i64::from(i32::MAX))));
    }
}
