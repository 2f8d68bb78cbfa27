//! Options of create, update and patch from the query, with upstream's refusals.

use troupe_api::{
    service::{FieldValidation, PatchType, WriteOptions},
    status::{FieldError, Status},
};

use super::query::Query;

/// Longest field manager, in bytes.
const MANAGER_MAX: usize = 128;

/// Options of a write. `patch_type` is set for patches; `user_agent` names the manager where the query does not.
pub fn write_options(query: &Query, kind: &str, patch_type: Option<PatchType>, user_agent: &str) -> Result<WriteOptions, Status> {
    let manager = query.text("fieldManager").unwrap_or("");
    let mut errors = Vec::new();
    match patch_type {
        Some(PatchType::Apply) if manager.is_empty() => errors.push(FieldError::required("fieldManager", "is required for apply patch")),
        Some(PatchType::Apply) | None => {}
        Some(_) if query.get("force").is_some() => errors.push(FieldError::forbidden("force", "may not be specified for non-apply patch")),
        Some(_) => {}
    }
    errors.extend(manager_errors(manager));
    let dry_run = dry_run(query.all("dryRun"), &mut errors);
    let field_validation = match query.text("fieldValidation") {
        None | Some("Warn") => FieldValidation::Warn,
        Some("Ignore") => FieldValidation::Ignore,
        Some("Strict") => FieldValidation::Strict,
        Some(other) => {
            errors.push(FieldError::not_supported("fieldValidation", other, &["", "Ignore", "Strict", "Warn"]));
            FieldValidation::Warn
        }
    };
    if !errors.is_empty() {
        return Err(Status::invalid("meta.k8s.io", kind, "", errors));
    }
    let field_manager = if manager.is_empty() { manager_of(user_agent) } else { manager.to_owned() };
    let implied_manager = manager.is_empty();
    Ok(WriteOptions { dry_run, field_manager, implied_manager, field_validation, force: query.flag("force").unwrap_or(false) })
}

/// Whether the values of `dryRun` ask for one; anything but `All` is an error.
pub fn dry_run<'a>(values: impl Iterator<Item = &'a str>, errors: &mut Vec<FieldError>) -> bool {
    let values: Vec<&str> = values.filter(|value| !value.is_empty()).collect();
    if values.iter().any(|value| *value != "All") {
        errors.push(FieldError::not_supported("dryRun", serde_json::json!(values), &["All"]));
    }
    !values.is_empty()
}

fn manager_errors(manager: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if manager.len() > MANAGER_MAX {
        errors.push(FieldError::too_long("fieldManager", MANAGER_MAX));
    }
    for (at, character) in manager.char_indices().filter(|(_, character)| character.is_control()) {
        let detail = format!("invalid character U+{:04X} (at position {at})", u32::from(character));
        errors.push(FieldError::invalid("fieldManager", manager, detail));
    }
    errors
}

/// The field manager that a user agent stands for: all up to the first `/`, printable, at most 128 bytes.
fn manager_of(user_agent: &str) -> String {
    let mut manager = String::new();
    for character in user_agent.split('/').next().unwrap_or("").chars().filter(|character| !character.is_control()) {
        if manager.len() + character.len_utf8() > MANAGER_MAX {
            break;
        }
        manager.push(character);
    }
    manager
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_agent_names_the_manager_unless_the_query_does() {
        let options = write_options(&Query::default(), "CreateOptions", None, "kubectl/v1.32 (linux)").expect("fine");
        assert_eq!((options.field_manager.as_str(), options.field_validation), ("kubectl", FieldValidation::Warn));
        let query = Query::parse("fieldManager=me&dryRun=All&fieldValidation=Strict");
        let options = write_options(&query, "CreateOptions", None, "x").expect("fine");
        assert_eq!((options.field_manager.as_str(), options.dry_run, options.field_validation), ("me", true, FieldValidation::Strict));
    }

    #[test]
    fn bad_options_are_invalid_in_upstreams_words() {
        let apply = write_options(&Query::default(), "PatchOptions", Some(PatchType::Apply), "x").expect_err("no manager");
        assert_eq!(apply.message, "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch");
        let dry = write_options(&Query::parse("dryRun=Some"), "CreateOptions", None, "x").expect_err("no such dry run");
        assert_eq!(dry.message, "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"");
        assert!(write_options(&Query::parse("force=true"), "PatchOptions", Some(PatchType::Merge), "x").is_err());
    }
}
