//! What is told about a device.

use serde_json::Value;

use super::{
    super::Field,
    identifiers::{self, LONGEST_QUALIFIED},
    map,
};
use crate::{
    resources::tree::{at, fields, items},
    status::FieldError,
};

const LONGEST_VALUE: usize = 64;
const SINGLE: [&str; 4] = ["bool", "int", "string", "version"];
const LISTS: [&str; 4] = ["bools", "ints", "strings", "versions"];
const NO_VERSION: &str = "must be a string compatible with semver.org spec 2.0.0";

/// Whether a device has attributes with more than one value.
pub fn has_lists(device: &Value) -> bool {
    let mut attributes = fields(device, &["attributes"]).into_iter().flatten();
    attributes.any(|(_, attribute)| LISTS.iter().any(|list| !at(attribute, &[list]).is_null()))
}

/// How many values the attributes of a device have.
pub fn count_values(device: &Value) -> usize {
    let values = |attribute| LISTS.iter().map(|list| items(attribute, &[list]).len()).sum::<usize>().max(1);
    fields(device, &["attributes"]).into_iter().flatten().map(|(_, attribute)| values(attribute)).sum()
}

/// Checks `attributes`.
pub fn attributes(errors: &mut Vec<FieldError>, attributes: &Field<'_>) {
    for (name, shown, value) in map(errors, attributes, usize::MAX, LONGEST_QUALIFIED) {
        identifiers::qualified(errors, attributes, name);
        attribute(errors, &attributes.key(&shown).with(value));
    }
}

fn attribute(errors: &mut Vec<FieldError>, attribute: &Field<'_>) {
    let (text, version) = (attribute.child("string"), attribute.child("version"));
    if text.is_set() {
        text_value(errors, &text);
    }
    if version.is_set() {
        version_value(errors, &version);
    }
    for name in LISTS {
        let list = attribute.child(name);
        if list.is_set() && list.items().is_empty() {
            errors.push(list.invalid("must not be empty if specified"));
        }
        match name {
            "strings" => list.each().for_each(|value| text_value(errors, &value)),
            "versions" => list.each().for_each(|value| version_value(errors, &value)),
            _ => {}
        }
    }
    match SINGLE.iter().chain(&LISTS).filter(|name| attribute.child(name).is_set()).count() {
        0 => errors.push(attribute.invalid_as("", "exactly one value must be specified")),
        1 => {}
        _ => errors.push(attribute.invalid("exactly one value must be specified")),
    }
}

fn text_value(errors: &mut Vec<FieldError>, value: &Field<'_>) {
    if value.text().len() > LONGEST_VALUE {
        errors.push(value.too_long(LONGEST_VALUE));
    }
}

fn version_value(errors: &mut Vec<FieldError>, value: &Field<'_>) {
    if !is_version(value.text()) {
        errors.push(value.invalid_as(value.text(), NO_VERSION));
    }
    text_value(errors, value);
}

/// Whether a text is a version as semver.org has it.
fn is_version(text: &str) -> bool {
    let (text, build) = text.split_once('+').map_or((text, None), |(text, build)| (text, Some(build)));
    let (core, release) = text.split_once('-').map_or((text, None), |(core, release)| (core, Some(release)));
    let core: Vec<&str> = core.splitn(4, '.').collect();
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let before = |word: &str| is_word(word) && (is_number(word) || !word.bytes().all(|byte| byte.is_ascii_digit()));
    core.len() == 3
        && core.into_iter().all(is_number)
        && release.is_none_or(|release| release.split('.').all(before))
        && build.is_none_or(|build| build.split('.').all(is_word))
}

/// Digits without a zero before them.
fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_semantic_ones() {
        for good in ["1.2.3", "0.0.0", "1.2.3-alpha.1", "1.2.3-0a", "1.2.3+build.01", "1.2.3-x-y.7+b-c", "10.20.30"] {
            assert!(is_version(good), "{good}");
        }
        for bad in ["", "1", "1.2", "1.2.3.4", "01.2.3", "1.2.3-01", "1.2.3-", "1.2.3+", "1.2.3-a..b", "v1.2.3", "1.2.3-ä", " 1.2.3"] {
            assert!(!is_version(bad), "{bad}");
        }
    }
}
