//! The token with which a paged list goes on: where the last page ended, and at which revision.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use troupe_api::{
    meta::{ObjectKey, Revision},
    schema::json_syntax,
    status::Status,
};

/// A decoded token. Without a revision the list goes on at the newest state, inconsistently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContinueToken {
    pub revision: Option<Revision>,
    pub last: ObjectKey,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: String,
    rv: i64,
    start: String,
}

const VERSION: &str = "meta.k8s.io/v1";

impl ContinueToken {
    pub fn encode(&self) -> String {
        let rv = self.revision.map_or(-1, |revision| i64::try_from(revision.0).unwrap_or(i64::MAX));
        // The zero byte makes the key of the last object the exclusive start, as upstream writes it.
        let wire = Wire { v: VERSION.into(), rv, start: format!("{}\0", self.last) };
        BASE64_URL_SAFE_NO_PAD.encode(serde_json::to_vec(&wire).expect("a token always encodes"))
    }

    /// # Errors
    /// 400 when it is no token of ours.
    pub fn decode(text: &str) -> Result<Self, Status> {
        let invalid = |why: &str| Status::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|error| invalid(&error.to_string()))?;
        let why = |error: serde_json::Error| json_syntax::describe(&bytes).unwrap_or_else(|| error.to_string());
        let wire: Wire = serde_json::from_slice(&bytes).map_err(|error| invalid(&why(error)))?;
        if wire.v != VERSION {
            return Err(invalid("server does not recognize this encoded version"));
        }
        if wire.rv == 0 {
            return Err(invalid("incorrect encoded start resourceVersion (version meta.k8s.io/v1)"));
        }
        let start = wire.start.trim_end_matches('\0').trim_start_matches('/');
        if start.is_empty() {
            return Err(invalid("encoded start key empty (version meta.k8s.io/v1)"));
        }
        let last = match start.split_once('/') {
            Some((namespace, name)) => ObjectKey::new(namespace, name),
            None => ObjectKey::cluster(start),
        };
        Ok(ContinueToken { revision: u64::try_from(wire.rv).ok().map(Revision), last })
    }
}

/// 410 for a page whose revision is compacted, with a token to go on regardless.
pub fn expired(last: &ObjectKey) -> Status {
    let mut status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, \
         or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an \
         inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    status.continue_token = Some(ContinueToken { revision: None, last: last.clone() }.encode().into());
    status
}

/// 410 for an exact revision that is compacted.
pub fn expired_exact(_revision: Revision) -> Status {
    Status::expired("The resourceVersion for the provided list is too old.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_survives_the_round_trip_and_nonsense_is_refused() {
        for revision in [Some(Revision(7)), None] {
            for last in [ObjectKey::new("ns", "a"), ObjectKey::cluster("n1")] {
                let token = ContinueToken { revision, last };
                assert_eq!(ContinueToken::decode(&token.encode()), Ok(token));
            }
        }
        assert_eq!(ContinueToken::decode("%%%").map_err(|status| status.code), Err(400));
    }
}
