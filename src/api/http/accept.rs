//! Accept negotiation: which encoding and which form of an object a client wants.

use super::query::Query;
use crate::status::Status;

/// The encodings of replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Yaml,
}

/// The form of replies that carry objects. The texts are the `apiVersion` of the form, `meta.k8s.io/v1` or `/v1beta1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Objects as they are.
    Full,
    Table(&'static str),
    /// `PartialObjectMetadata`, of one object or a watch.
    Partial(&'static str),
    /// `PartialObjectMetadataList`.
    PartialList(&'static str),
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    pub encoding: Encoding,
    pub form: Form,
    /// Asked for by a media type parameter, the query or a human's user agent.
    pub pretty: bool,
}

/// One alternative of an Accept header.
#[derive(Debug)]
pub struct Clause<'a> {
    /// `type/subtype`, wildcards included.
    pub media_type: &'a str,
    params: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl Clause<'_> {
    /// A parameter, or "".
    pub fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    /// Whether this clause takes `media_type`.
    pub fn takes(&self, media_type: &str) -> bool {
        let (kind, _) = media_type.split_once('/').unwrap_or((media_type, ""));
        self.media_type == media_type || self.media_type == "*/*" || self.media_type.strip_suffix("/*") == Some(kind)
    }
}

/// The alternatives of an Accept header, best first.
pub fn clauses(header: &str) -> Vec<Clause<'_>> {
    let mut found: Vec<Clause<'_>> = header.split(',').filter(|clause| !clause.trim().is_empty()).map(clause).collect();
    found.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    found
}

fn clause(text: &str) -> Clause<'_> {
    let mut parts = text.split(';').map(str::trim);
    let media_type = parts.next().unwrap_or("");
    let params: Vec<_> = parts.filter_map(|param| param.split_once('=')).map(|(key, value)| (key.trim(), value.trim().trim_matches('"'))).collect();
    let quality = params.iter().find(|(key, _)| *key == "q").and_then(|(_, value)| value.parse().ok()).unwrap_or(1.0);
    Clause { media_type, params, quality }
}

/// Negotiates the reply.
///
/// # Errors
/// 406 in upstream's words when nothing we have is accepted.
pub fn negotiate(header: &str) -> Result<Accepted, Status> {
    let plain = Accepted { encoding: Encoding::Json, form: Form::Full, pretty: false };
    if matches!(header, "" | "*/*" | "application/json" | "application/json, */*") {
        return Ok(plain);
    }
    for clause in clauses(header) {
        let Some(form) = form_of(&clause) else { continue };
        let pretty = clause.param("pretty") == "1";
        for (media_type, encoding) in [("application/json", Encoding::Json), ("application/yaml", Encoding::Yaml)] {
            if clause.takes(media_type) && clause.quality > 0.0 {
                return Ok(Accepted { encoding, form, pretty });
            }
        }
    }
    Err(Status::not_acceptable("only the following media types are accepted: application/json, application/yaml"))
}

/// The form a clause asks for; `None` for one that we don't have.
fn form_of(clause: &Clause<'_>) -> Option<Form> {
    if !matches!(clause.param("stream"), "" | "watch") {
        return None;
    }
    let kind = clause.param("as");
    if kind.is_empty() && clause.param("g").is_empty() && clause.param("v").is_empty() {
        return Some(Form::Full);
    }
    let version = match (clause.param("g"), clause.param("v")) {
        ("meta.k8s.io", "v1") => "meta.k8s.io/v1",
        ("meta.k8s.io", "v1beta1") => "meta.k8s.io/v1beta1",
        _ => return None,
    };
    match kind {
        "Table" => Some(Form::Table(version)),
        "PartialObjectMetadata" => Some(Form::Partial(version)),
        "PartialObjectMetadataList" => Some(Form::PartialList(version)),
        _ => None,
    }
}

/// Whether a human reads the reply.
pub fn wants_pretty(query: &Query, user_agent: &str) -> bool {
    match query.text("pretty") {
        Some(value) => matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"),
        None => ["curl", "Wget", "Mozilla/5.0"].iter().any(|human| user_agent.starts_with(human)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_alternative_we_have_wins() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(negotiate(kubectl).expect("acceptable").form, Form::Table("meta.k8s.io/v1"));
        let controller = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        assert_eq!(negotiate(controller).expect("acceptable").form, Form::PartialList("meta.k8s.io/v1"));
        assert_eq!(negotiate("application/vnd.kubernetes.protobuf, application/json").expect("acceptable").encoding, Encoding::Json);
        assert_eq!(negotiate("application/json;q=0.5,application/yaml").expect("acceptable").encoding, Encoding::Yaml);
        assert_eq!(negotiate("application/*").expect("acceptable").encoding, Encoding::Json);
        assert!(negotiate("application/json;pretty=1").expect("acceptable").pretty);
    }

    #[test]
    fn what_we_do_not_have_is_not_acceptable() {
        for header in ["application/vnd.kubernetes.protobuf", "text/html", "application/json;as=Nonsense;g=meta.k8s.io;v=v1"] {
            assert_eq!(negotiate(header).expect_err(header).code, 406);
        }
    }

    #[test]
    fn people_get_indented_replies() {
        assert!(wants_pretty(&Query::default(), "curl/8"));
        assert!(!wants_pretty(&Query::default(), "kubectl/v1"));
        assert!(!wants_pretty(&Query::parse("pretty=false"), "curl/8"));
    }
}
