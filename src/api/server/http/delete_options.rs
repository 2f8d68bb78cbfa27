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
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

/// Reads the options.
///
/// # Errors
/// 400 when the body does not decode, 422 when options contradict each other.
pub async fn delete_options(query: &Query, format: InputFormat, body: Bytes) -> Result<DeleteOptions, Status> {
    let wire = match body.len() {
        0 => from_query(query)?,
        length => aside::compute(length, move || from_body(format, &body)).await?,
    };
    let mut errors = Vec::new();
    let propagation = propagation(&wire, &mut errors);
    let dry_run = write_options::dry_run(wire.dry_run.iter().flatten().map(String::as_str), &mut errors);
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
    })
}

fn from_query(query: &Query) -> Result<Wire, Status> {
    Ok(Wire {
        grace_period_seconds: query.integer("gracePeriodSeconds")?,
        orphan_dependents: query.flag("orphanDependents"),
        propagation_policy: query.text("propagationPolicy").map(str::to_owned),
        dry_run: Some(query.all("dryRun").map(str::to_owned).collect()),
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
        let options = delete_options(&Query::parse("gracePeriodSeconds=9"), InputFormat::Json, body).await.expect("fine");
        assert_eq!((options.grace_period_seconds, options.propagation), (Some(3), Some(Propagation::Foreground)));
        assert_eq!(options.precondition_uid.as_deref(), Some("u"));
        let options =
            delete_options(&Query::parse("gracePeriodSeconds=9&orphanDependents=true"), InputFormat::Json, Bytes::new()).await.expect("fine");
        assert_eq!((options.grace_period_seconds, options.propagation), (Some(9), Some(Propagation::Orphan)));
    }

    #[tokio::test]
    async fn contradictions_and_other_kinds_are_refused() {
        let both = Bytes::from(r#"{"propagationPolicy":"Orphan","orphanDependents":true}"#);
        assert_eq!(delete_options(&Query::default(), InputFormat::Json, both).await.expect_err("both").code, 422);
        let pod = Bytes::from(r#"{"kind":"Pod"}"#);
        assert_eq!(delete_options(&Query::default(), InputFormat::Json, pod).await.expect_err("a pod").code, 400);
    }
}
