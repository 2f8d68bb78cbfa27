//! The keys that a signer tells of.

use std::time::Duration;

use troupe_api::auth::tokens::{PublicKey, TrustedKey};

use super::{
    LONGEST_ID,
    messages::{Key, KeysResponse, Timestamp},
};

/// What an answer says.
pub struct Fetched {
    pub keys: Vec<TrustedKey>,
    /// When that was right, in seconds since 1970.
    pub as_of: f64,
    /// When it is worth asking again.
    pub again: Duration,
}

impl Fetched {
    /// # Errors
    /// What is wrong with the answer, in upstream's words.
    pub fn read(response: KeysResponse) -> Result<Self, String> {
        let hint = response.refresh_hint_seconds;
        let seconds = u64::try_from(hint).ok().filter(|seconds| *seconds > 0).ok_or_else(|| format!("found invalid refresh hint ({hint}s)"))?;
        if response.keys.is_empty() {
            return Err("found no keys".to_owned());
        }
        let as_of = response.data_timestamp.as_ref().and_then(seconds_of).ok_or("invalid data timestamp")?;
        let keys = response.keys.into_iter().map(trusted).collect::<Result<Vec<_>, String>>()?;
        Ok(Fetched { keys, as_of, again: Duration::from_secs(seconds) })
    }
}

fn seconds_of(timestamp: &Timestamp) -> Option<f64> {
    let at = jiff::Timestamp::new(timestamp.seconds, timestamp.nanos).ok().filter(|_| timestamp.nanos >= 0)?;
    Some(at.as_duration().as_secs_f64())
}

fn trusted(key: Key) -> Result<TrustedKey, String> {
    let Key { key_id, key, exclude_from_oidc_discovery } = key;
    if key_id.is_empty() || key_id.len() > LONGEST_ID {
        return Err(format!("found invalid public key id {key_id:?}"));
    }
    if key.is_empty() {
        return Err("found empty public key".to_owned());
    }
    let read = PublicKey::from_spki(&key).ok_or("while parsing external public keys: neither RSA nor P-256, P-384 or P-521")?;
    Ok(TrustedKey { key: read.called(key_id), is_hidden: exclude_from_oidc_discovery })
}
