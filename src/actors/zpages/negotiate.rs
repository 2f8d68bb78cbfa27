//! Which form of a page a client wants. Pure.

use troupe_api::Status;
use troupe_api_server::http::accept::clauses;

const GROUP: &str = "config.k8s.io";
const TEXT: &str = "text/plain";
/// In the server's order.
const MEDIA_TYPES: [&str; 3] = ["application/json", "application/yaml", TEXT];

/// A version of the objects. Both have the same fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1Alpha1,
    V1Beta1,
}

impl Version {
    pub fn name(self) -> &'static str {
        match self {
            Version::V1Alpha1 => "v1alpha1",
            Version::V1Beta1 => "v1beta1",
        }
    }

    pub fn api_version(self) -> &'static str {
        match self {
            Version::V1Alpha1 => "config.k8s.io/v1alpha1",
            Version::V1Beta1 => "config.k8s.io/v1beta1",
        }
    }
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Text,
    /// An object of a kind, as JSON unless it is YAML.
    Object {
        version: Version,
        yaml: bool,
        pretty: bool,
    },
}

/// Text where nothing is asked for. An object is only given to who names its group, version and kind.
///
/// # Errors
/// 406 in upstream's words.
pub fn negotiate(accept: &str, kind: &str) -> Result<Form, Status> {
    if accept.trim().is_empty() {
        return Ok(Form::Text);
    }
    for clause in clauses(accept) {
        if !clause.param("stream").is_empty() || !clause.param("sv").is_empty() {
            continue;
        }
        let version = match ["g", "v", "as"].map(|name| clause.param(name)) {
            ["", "", ""] => None,
            [GROUP, "v1alpha1", asked] if asked == kind => Some(Version::V1Alpha1),
            [GROUP, "v1beta1", asked] if asked == kind => Some(Version::V1Beta1),
            _ => continue,
        };
        // Text is of no version, and what is no text is of one.
        let fits = |media_type: &&&str| clause.takes(media_type) && (**media_type == TEXT) == version.is_none();
        if let Some(media_type) = MEDIA_TYPES.iter().find(fits) {
            let (yaml, pretty) = (*media_type == "application/yaml", clause.param("pretty") == "1");
            return Ok(version.map_or(Form::Text, |version| Form::Object { version, yaml, pretty }));
        }
    }
    Err(Status::not_acceptable(format!("only the following media types are accepted: {}", MEDIA_TYPES.join(", "))))
}
