//! Accept negotiation: which encoding and which form of an object a client wants.

use actix_web::{HttpRequest, http::header::ACCEPT};
use troupe_api::{protobuf, status::Status};

use super::query::Query;

/// The encodings of replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Json,
    Yaml,
    Protobuf,
}

/// What an endpoint has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Its objects as they are come in protobuf too; those of custom resources do not.
    pub protobuf: bool,
    /// Tables of what people list; there are none of what is only answered, such as reviews.
    pub tables: bool,
    /// Partial metadata.
    pub transforms: bool,
    /// A watch, which has no YAML.
    pub stream: bool,
}

impl Offer {
    /// A document about the API.
    pub const DOCUMENT: Offer = Offer { protobuf: true, tables: false, transforms: false, stream: false };

    /// Encodings in the server's order of preference.
    const ENCODINGS: [(&'static str, Encoding); 3] =
        [("application/json", Encoding::Json), ("application/yaml", Encoding::Yaml), (protobuf::MEDIA_TYPE, Encoding::Protobuf)];

    /// Whether a form is made in an encoding. Tables have no protobuf form, as upstream has none.
    fn has(self, encoding: Encoding, form: Form) -> bool {
        match form {
            Form::Full => self.protobuf || encoding != Encoding::Protobuf,
            Form::Table(_) => self.tables && encoding != Encoding::Protobuf,
            Form::Partial(_) | Form::PartialList(_) => self.transforms,
        }
    }

    /// 406 in upstream's words.
    fn not_acceptable(self) -> Status {
        Status::not_acceptable(if self.stream {
            "only the following media types are accepted: application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch"
        } else {
            "only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf"
        })
    }
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

/// No client knows so many media types.
const MOST_CLAUSES: usize = 100;

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

    /// 2 when type and subtype are named, 1 for a type, 0 for anything.
    fn is_named(&self) -> u8 {
        match self.media_type {
            "*/*" => 0,
            other if other.ends_with("/*") => 1,
            _ => 2,
        }
    }

    /// Whether this clause takes `media_type`.
    pub fn takes(&self, media_type: &str) -> bool {
        let (kind, _) = media_type.split_once('/').unwrap_or((media_type, ""));
        self.media_type == media_type || self.media_type == "*/*" || self.media_type.strip_suffix("/*") == Some(kind)
    }
}

/// The alternatives of an Accept header, best first.
pub fn clauses(header: &str) -> Vec<Clause<'_>> {
    let mut found: Vec<Clause<'_>> = header.split(',').filter(|clause| !clause.trim().is_empty()).take(MOST_CLAUSES).map(clause).collect();
    // Of equal quality, what is named wins over what is matched.
    found.sort_by(|a, b| b.quality.total_cmp(&a.quality).then(b.is_named().cmp(&a.is_named())));
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
/// 406 in upstream's words when nothing on offer is accepted.
pub fn negotiate(header: &str, offer: Offer) -> Result<Accepted, Status> {
    let plain = Accepted { encoding: Encoding::Json, form: Form::Full, pretty: false };
    if matches!(header, "" | "*/*" | "application/json" | "application/json, */*") {
        return Ok(plain);
    }
    for clause in clauses(header).iter().filter(|clause| clause.quality > 0.0) {
        let Some(form) = form_of(clause) else { continue };
        let fits = |(media_type, encoding): &(&str, Encoding)| {
            let streams = clause.param("stream").is_empty() || *encoding != Encoding::Yaml;
            streams && clause.takes(media_type) && offer.has(*encoding, form)
        };
        match Offer::ENCODINGS.iter().find(|known| fits(known)) {
            Some((_, Encoding::Yaml)) if offer.stream => break,
            Some((_, encoding)) => return Ok(Accepted { encoding: *encoding, form, pretty: clause.param("pretty") == "1" }),
            None => {}
        }
    }
    Err(offer.not_acceptable())
}

/// The encoding in which a failure is told: what the client would have got, else JSON.
pub fn encoding_of_failure(header: &str) -> Encoding {
    let everything = Offer { protobuf: true, tables: true, transforms: true, stream: false };
    negotiate(header, everything).map_or(Encoding::Json, |accepted| accepted.encoding)
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

/// The Accept header, or "".
pub fn header(request: &HttpRequest) -> &str {
    request.headers().get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("")
}

/// Whether a human reads the reply.
pub fn wants_pretty(query: &Query, user_agent: &str) -> bool {
    match query.text("pretty") {
        Some(value) => matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True"),
        None => ["curl", "Wget", "Mozilla/5.0"].iter().any(|human| user_agent.starts_with(human)),
    }
}

/// The same, as a request says that stands elsewhere: by its raw query and its user agent.
pub fn is_for_people(query: &str, user_agent: &str) -> bool {
    wants_pretty(&Query::parse(query), user_agent)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OBJECTS: Offer = Offer { protobuf: true, tables: true, transforms: true, stream: false };

    fn accepted(header: &str) -> Accepted {
        negotiate(header, OBJECTS).expect("acceptable")
    }

    #[test]
    fn the_first_alternative_we_have_wins() {
        let kubectl = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";
        assert_eq!(accepted(kubectl).form, Form::Table("meta.k8s.io/v1"));
        let controller = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json";
        assert_eq!((accepted(controller).form, accepted(controller).encoding), (Form::PartialList("meta.k8s.io/v1"), Encoding::Protobuf));
        assert_eq!(accepted("application/vnd.kubernetes.protobuf, application/json").encoding, Encoding::Protobuf);
        assert_eq!(accepted("application/json;q=0.5,application/yaml").encoding, Encoding::Yaml);
        assert_eq!(accepted("application/*").encoding, Encoding::Json);
        assert_eq!(accepted("*/*,application/yaml").encoding, Encoding::Yaml, "a name beats a pattern");
        assert!(accepted("application/json;pretty=1").pretty);
    }

    #[test]
    fn tables_are_text_and_custom_resources_have_no_protobuf() {
        let table = "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io";
        assert_eq!(accepted(table).encoding, Encoding::Json);
        let custom = Offer { protobuf: false, ..OBJECTS };
        assert_eq!(negotiate("application/vnd.kubernetes.protobuf", custom).expect_err("no such form").code, 406);
        let partial = "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;v=v1;g=meta.k8s.io";
        assert_eq!(negotiate(partial, custom).expect("metadata is built in").encoding, Encoding::Protobuf);
        assert_eq!(negotiate(partial, Offer::DOCUMENT).expect_err("a document").code, 406);
    }

    #[test]
    fn a_watch_has_no_yaml() {
        let watch = Offer { stream: true, ..OBJECTS };
        assert_eq!(negotiate("application/yaml,application/json", watch).expect_err("as upstream").code, 406);
        let stream = "application/yaml;stream=watch,application/vnd.kubernetes.protobuf;stream=watch";
        assert_eq!(negotiate(stream, watch).expect("acceptable").encoding, Encoding::Protobuf);
        assert_eq!(negotiate("application/json;stream=nonsense", watch).expect_err("no such stream").code, 406);
    }

    #[test]
    fn what_we_do_not_have_is_not_acceptable() {
        for header in ["text/html", "application/json;as=Nonsense;g=meta.k8s.io;v=v1", "application/json;q=0"] {
            assert_eq!(negotiate(header, OBJECTS).expect_err(header).code, 406);
        }
    }

    #[test]
    fn people_get_indented_replies() {
        assert!(wants_pretty(&Query::default(), "curl/8"));
        assert!(!wants_pretty(&Query::default(), "kubectl/v1"));
        assert!(!wants_pretty(&Query::parse("pretty=false"), "curl/8"));
    }
}
