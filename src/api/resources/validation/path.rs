//! Paths that become files.

use super::Field;
use crate::status::FieldError;

/// A path without `..` in it.
pub fn no_backsteps(errors: &mut Vec<FieldError>, path: &Field<'_>) {
    if path.text().split('/').any(|segment| segment == "..") {
        errors.push(path.invalid_as(path.text(), "must not contain '..'"));
    }
}

/// A path that stays below where it starts.
pub fn descending(errors: &mut Vec<FieldError>, path: &Field<'_>) {
    if path.text().starts_with('/') {
        errors.push(path.invalid_as(path.text(), "must be a relative path"));
    }
    no_backsteps(errors, path);
}

/// A descending path that is not one of the writer's own, which begin with two dots.
pub fn local(errors: &mut Vec<FieldError>, path: &Field<'_>) {
    descending(errors, path);
    let text = path.text();
    if text.starts_with("..") && !text.starts_with("../") {
        errors.push(path.invalid_as(text, "must not start with '..'"));
    }
}

/// The mode of a file.
pub fn mode(errors: &mut Vec<FieldError>, mode: &Field<'_>) {
    if mode.number().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        errors.push(mode.invalid("must be a number between 0 and 0777 (octal), both inclusive"));
    }
}
