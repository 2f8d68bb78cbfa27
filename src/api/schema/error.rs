//! Why a body does not decode.

use super::{node::Schema, strict};
use crate::{
    meta::limits::Excess,
    status::{Status, quoted},
};

/// So much of a body is shown where it is not recognized.
const SHOWN: usize = 30;

/// Why a body is no object of its kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not even JSON or YAML, nested too deeply, or full of aliases.
    #[error("{0}")]
    Syntax(String),
    /// No YAML, or nothing that JSON has; the text is upstream's.
    #[error("error converting YAML to JSON: {0}")]
    Yaml(String),
    /// Too many values for its size.
    #[error("{0}")]
    TooLarge(String),
    /// A value of the wrong type; the text is upstream's.
    #[error("{0}")]
    Type(String),
}

impl DecodeError {
    /// The 400 for a body of this kind, which is shown as far as upstream shows it.
    pub fn into_status(self, schema: &Schema, body: &[u8]) -> Status {
        let gvk = &schema.gvk;
        match self.quoted() {
            DecodeError::Syntax(why) => unrecognized(&gvk.kind, &format!("couldn't get version/kind; json parse error: {why}"), body),
            DecodeError::Yaml(why) => unrecognized(&gvk.kind, &why, body),
            DecodeError::TooLarge(why) => Status::too_large(why),
            DecodeError::Type(why) => strict::cannot_be_handled(&gvk.kind, &gvk.version, why),
        }
    }

    /// With no more of what it quotes than anybody reads.
    fn quoted(self) -> Self {
        match self {
            DecodeError::Syntax(why) => DecodeError::Syntax(quoted(&why).into_owned()),
            DecodeError::Yaml(why) => DecodeError::Yaml(quoted(&why).into_owned()),
            DecodeError::Type(why) => DecodeError::Type(quoted(&why).into_owned()),
            DecodeError::TooLarge(why) => DecodeError::TooLarge(why),
        }
    }

    /// The status where no schema is at hand; `refused` is what a refusal begins with.
    pub fn into_bad_request(self, refused: &str) -> Status {
        match self.quoted() {
            DecodeError::TooLarge(why) => Status::too_large(why),
            DecodeError::Syntax(why) | DecodeError::Type(why) => Status::bad_request(format!("{refused}{why}")),
            yaml @ DecodeError::Yaml(_) => Status::bad_request(format!("{refused}{yaml}")),
        }
    }
}

/// The 400 of a body that is no object at all, which is shown as far as upstream shows it.
pub fn unrecognized(kind: &str, why: &str, body: &[u8]) -> Status {
    Status::bad_request(format!("the object provided is unrecognized (must be of type {kind}): {why} ({})", beginning(body)))
}

/// How a body begins: JSON as it is, all else in hexadecimal digits (`summarizeData`).
fn beginning(body: &[u8]) -> String {
    let shown = &body[..body.len().min(SHOWN)];
    let more = if body.len() > SHOWN { " ..." } else { "" };
    match body.first() {
        None => "<empty>".to_owned(),
        Some(b'{') => format!("{}{more}", String::from_utf8_lossy(shown)),
        Some(_) => format!("{}{more}", hex::encode(shown)),
    }
}

impl From<Excess> for DecodeError {
    fn from(excess: Excess) -> Self {
        match excess {
            Excess::Depth | Excess::Aliasing => DecodeError::Syntax(excess.to_string()),
            Excess::Cost => DecodeError::TooLarge(excess.to_string()),
        }
    }
}
