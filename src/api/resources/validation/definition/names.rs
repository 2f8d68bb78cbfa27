//! The names that a kind goes by.

use crate::{meta::names::dns_1035_label, resources::validation::Field, status::FieldError};

/// Checks those names that are there.
pub(super) fn check(errors: &mut Vec<FieldError>, names: &Field<'_>) {
    for name in ["plural", "singular"] {
        label(errors, &names.child(name));
    }
    for name in ["kind", "listKind"] {
        kind(errors, &names.child(name));
    }
    names.child("shortNames").each().for_each(|name| any_label(errors, &name));
    let list_kind = names.child("listKind");
    if !list_kind.text().is_empty() && names.child("kind").text() == list_kind.text() {
        errors.push(list_kind.invalid("kind and listKind may not be the same"));
    }
    names.child("categories").each().for_each(|name| any_label(errors, &name));
}

/// The names that must be there.
pub(super) fn required(errors: &mut Vec<FieldError>, names: &Field<'_>) {
    for name in ["plural", "singular", "kind", "listKind"] {
        names.child(name).check_required(errors);
    }
}

fn label(errors: &mut Vec<FieldError>, name: &Field<'_>) {
    if !name.text().is_empty() {
        any_label(errors, name);
    }
}

/// A label, where nothing is wrong as well.
pub(super) fn any_label(errors: &mut Vec<FieldError>, name: &Field<'_>) {
    let faults = dns_1035_label(name.text(), false);
    if !faults.is_empty() {
        errors.push(name.invalid_as(name.text(), faults.join(",")));
    }
}

fn kind(errors: &mut Vec<FieldError>, name: &Field<'_>) {
    let faults = dns_1035_label(&name.text().to_lowercase(), false);
    if !name.text().is_empty() && !faults.is_empty() {
        errors.push(name.invalid(format!("may have mixed case, but should otherwise match: {}", faults.join(","))));
    }
}
