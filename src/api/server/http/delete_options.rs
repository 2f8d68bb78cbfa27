//! `metav1.DeleteOptions` from the body or, without one, from the query.

use bytes::Bytes;
use serde::Deserialize;
use troupe_api::{
    aside, protobuf,
    schema::{DecodeError, Format, decode::parse_value},
    service::{DeleteOptions, Propagation},
    status::{FieldError, Status},
};

use super::{body::InputFormat, query::Query, write_options};

const IGNORE_STORE_READ_ERROR: &str = "ignoreStoreReadErrorWithClusterBreakingPotential";

/// The wire form.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wire {
    kind: String,
    grace_period_seconds: Option<i64>,
    preconditions: Option<Preconditions>,
    orphan_dependents: Option<bool>,
    propagation_policy: Option<String>,
    dry_run: Option<Vec<String>>,
    #[serde(rename = "ignoreStoreReadErrorWithClusterBreakingPotential")]
    ignore_store_read_error: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

/// Reads the options. What is said of objects that cannot be read counts only where `takes_unsafe`.
///
/// # Errors
/// 400 when the body does not decode, 422 when options contradict each other.
pub async fn delete_options(query: &Query, format: InputFormat, body: Bytes, takes_unsafe: bool) -> Result<DeleteOptions, Status> {
    let wire = match body.len() {
        0 => from_query(query)?,
        length => aside::compute(length, move || from_body(format, &body)).await?,
    };
    let mut errors = Vec::new();
    let propagation = propagation(&wire, &mut errors);
    let dry_run = write_options::dry_run(wire.dry_run.iter().flatten().map(String::as_str), &mut errors);
    let ignore_store_read_error = takes_unsafe && wire.ignore_store_read_error == Some(true);
    if ignore_store_read_error {
        errors.extend(beside_unsafe(&wire));
    }
    if !errors.is_empty() {
        return Err(Status::invalid("meta.k8s.io", "DeleteOptions", "", errors));
    }
    let preconditions = wire.preconditions.unwrap_or_default();
    let precondition_revision = match preconditions.resource_version.as_deref() {
        None | Some("") => None,
        Some(text) => Some(text.parse().map_err(|_| Status::bad_request(format!("invalid resourceVersion precondition {text:?}")))?),
    };
    Ok(DeleteOptions {
        dry_run,
        grace_period_seconds: wire.grace_period_seconds,
        precondition_uid: preconditions.uid.filter(|uid| !uid.is_empty()),
        precondition_revision,
        propagation,
        ignore_store_read_error,
    })
}

/// What an object that cannot be read cannot be asked of: nobody knows its finalizers, its grace or who it is.
fn beside_unsafe(wire: &Wire) -> impl Iterator<Item = FieldError> {
    let said = [
        (wire.dry_run.as_ref().is_some_and(|runs| !runs.is_empty()), "dryRun"),
        (wire.propagation_policy.is_some(), "propagationPolicy"),
        (wire.orphan_dependents.is_some(), "orphanDependents"),
        (wire.grace_period_seconds.is_some(), "gracePeriodSeconds"),
        (wire.preconditions.is_some(), "preconditions"),
    ];
    let refused = |field| FieldError::invalid(IGNORE_STORE_READ_ERROR, true, format!("cannot be set together with .{field}"));
    said.into_iter().filter(|(is_said, _)| *is_said).map(move |(_, field)| refused(field))
}

fn from_query(query: &Query) -> Result<Wire, Status> {
    Ok(Wire {
        grace_period_seconds: query.integer("gracePeriodSeconds")?,
        orphan_dependents: query.flag("orphanDependents"),
        propagation_policy: query.text("propagationPolicy").map(str::to_owned),
        dry_run: Some(query.all("dryRun").map(str::to_owned).collect()),
        ignore_store_read_error: query.flag(IGNORE_STORE_READ_ERROR),
        ..Wire::default()
    })
}

fn from_body(format: InputFormat, body: &Bytes) -> Result<Wire, Status> {
    let value = match format {
        InputFormat::Json => parse_value(body, Format::Json).map_err(undecodable)?,
        InputFormat::Yaml => parse_value(body, Format::Yaml).map_err(undecodable)?,
        InputFormat::Protobuf => protobuf::to_json(body)?,
    };
    let wire = Wire::deserialize(value).map_err(|error| Status::bad_request(format!("{UNDECODABLE}{error}")))?;
    if !matches!(wire.kind.as_str(), "" | "DeleteOptions") {
        return Err(Status::bad_request("decoded object cannot be converted to DeleteOptions"));
    }
    Ok(wire)
}

const UNDECODABLE: &str = "couldn't get version/kind; json parse error: ";

fn undecodable(error: DecodeError) -> Status {
    error.into_bad_request(UNDECODABLE)
}

fn propagation(wire: &Wire, errors: &mut Vec<FieldError>) -> Option<Propagation> {
    let policy = wire.propagation_policy.as_deref();
    if let (Some(policy), Some(_)) = (policy, wire.orphan_dependents) {
        errors.push(FieldError::invalid("propagationPolicy", policy, "orphanDependents and deletionPropagation cannot be both set"));
    }
    match (policy, wire.orphan_dependents) {
        (Some("Orphan"), _) | (None, Some(true)) => Some(Propagation::Orphan),
        (Some("Background"), _) | (None, Some(false)) => Some(Propagation::Background),
        (Some("Foreground"), _) => Some(Propagation::Foreground),
        (Some(other), _) => {
            errors.push(FieldError::not_supported("propagationPolicy", other, &["Foreground", "Background", "Orphan", "nil"]));
            None
        }
        (None, None) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_body_wins_over_the_query() {
        let body = Bytes::from(
            r#"{"kind":"DeleteOptions","apiVersion":"v1","gracePeriodSeconds":3,"propagationPolicy":"Foreground","preconditions":{"uid":"u"}}"#,
        );
        let options = delete_options(&Query::parse("gracePeriodSeconds=9"), InputFormat::Json, body, false).await.expect("fine");
        assert_eq!((options.grace_period_seconds, options.propagation), (Some(3), Some(Propagation::Foreground)));
        assert_eq!(options.precondition_uid.as_deref(), Some("u"));
        let options =
            delete_options(&Query::parse("gracePeriodSeconds=9&orphanDependents=true"), InputFormat::Json, Bytes::new(), false).await.expect("fine");
        assert_eq!((options.grace_period_seconds, options.propagation), (Some(9), Some(Propagation::Orphan)));
    }

    #[tokio::test]
    async fn contradictions_and_other_kinds_are_refused() {
        let both = Bytes::from(r#"{"propagationPolicy":"Orphan","orphanDependents":true}"#);
        assert_eq!(delete_options(&Query::default(), InputFormat::Json, both, false).await.expect_err("both").code, 422);
        let pod = Bytes::from(r#"{"kind":"Pod"}"#);
        assert_eq!(delete_options(&Query::default(), InputFormat::Json, pod, false).await.expect_err("a pod").code, 400);
    }

    #[tokio::test]
    async fn what_cannot_be_read_is_deleted_without_further_wishes() {
        let body = |more: &str| Bytes::from(format!(r#"{{"{IGNORE_STORE_READ_ERROR}":true{more}}}"#));
        let read = async |body: Bytes, takes_unsafe| delete_options(&Query::default(), InputFormat::Json, body, takes_unsafe).await;
        assert!(read(body(""), true).await.expect("fine").ignore_store_read_error);
        assert!(!read(body(r#","gracePeriodSeconds":0"#), false).await.expect("is as if it were not said").ignore_store_read_error);
        let asked = Query::parse(&format!("{IGNORE_STORE_READ_ERROR}=true"));
        assert!(delete_options(&asked, InputFormat::Json, Bytes::new(), true).await.expect("fine").ignore_store_read_error);
        for (more, field) in [
            (r#","dryRun":["All"]"#, "dryRun"),
            (r#","propagationPolicy":"Orphan""#, "propagationPolicy"),
            (r#","orphanDependents":false"#, "orphanDependents"),
            (r#","gracePeriodSeconds":0"#, "gracePeriodSeconds"),
            (r#","preconditions":{}"#, "preconditions"),
        ] {
            let refused = read(body(more), true).await.expect_err(field);
            let wanted = format!("{IGNORE_STORE_READ_ERROR}: Invalid value: true: cannot be set together with .{field}");
            assert_eq!((refused.code, refused.message), (422, format!("DeleteOptions.meta.k8s.io \"\" is invalid: {wanted}")));
        }
    }
}
