//! What a provider's program is told and what it answers: `credentialprovider.kubelet.k8s.io`. Pure.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use troupe_api::expressions::go_duration;

/// Its versions. All say the same but for service accounts, which are in the first alone.
pub(super) const VERSIONS: [&str; 3] =
    ["credentialprovider.kubelet.k8s.io/v1", "credentialprovider.kubelet.k8s.io/v1alpha1", "credentialprovider.kubelet.k8s.io/v1beta1"];

/// What an answer for all images is kept under; no image is called so.
pub(super) const GLOBAL: &str = "<global>";

const UNREADABLE: &str = "error decoding credential provider plugin response from stdout";

/// A user with a password.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Auth {
    pub username: String,
    pub password: String,
}

/// Without what nobody may read.
impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth").field("username", &self.username).finish_non_exhaustive()
    }
}

/// By the place that they are for.
pub(super) type Auths = BTreeMap<String, Auth>;

/// For what else an answer counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) enum CacheKey {
    Image,
    Registry,
    Global,
}

impl CacheKey {
    /// What an answer about an image is kept under.
    pub(super) fn of(self, image: &str) -> String {
        match self {
            CacheKey::Image => image,
            CacheKey::Registry => registry(image),
            CacheKey::Global => GLOBAL,
        }
        .to_owned()
    }
}

/// The registry of a repository, with its port.
pub(super) fn registry(image: &str) -> &str {
    image.split('/').next().unwrap_or_default()
}

/// The question, as JSON.
pub(super) fn request(version: &str, image: &str, token: &str, annotations: &BTreeMap<String, String>) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Request<'a> {
        kind: &'static str,
        api_version: &'a str,
        image: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        service_account_token: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        service_account_annotations: Option<&'a BTreeMap<String, String>>,
    }
    let request = Request {
        kind: "CredentialProviderRequest",
        api_version: version,
        image,
        service_account_token: Some(token).filter(|token| !token.is_empty()),
        service_account_annotations: Some(annotations).filter(|annotations| !annotations.is_empty()),
    };
    serde_json::to_vec(&request).expect("texts encode")
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub cache_key: CacheKey,
    /// `None` for as long as is configured.
    pub cache_duration: Option<Duration>,
    pub auth: Arc<Auths>,
}

/// Reads an answer of a version. What is wrong with it is not told where that could quote what is in it.
///
/// # Errors
/// When it is another document, or has fields that there are not.
pub(super) fn response(version: &str, text: &[u8]) -> Result<Response, String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    struct Raw {
        kind: String,
        #[serde(rename = "apiVersion")]
        _api_version: String,
        #[serde(default)]
        cache_key_type: String,
        cache_duration: Option<String>,
        auth: Option<Auths>,
    }
    let value: Value = serde_json::from_slice(text).map_err(|_| "error reading GVK from response: it is no JSON".to_owned())?;
    let found = value["apiVersion"].as_str().unwrap_or_default();
    if found != version {
        return Err(format!("apiVersion from credential plugin response did not match expected apiVersion:{version}, actual apiVersion:{found}"));
    }
    let raw: Raw = serde_json::from_value(value).map_err(|_| UNREADABLE.to_owned())?;
    if raw.kind != "CredentialProviderResponse" {
        return Err(UNREADABLE.into());
    }
    let cache_key = match raw.cache_key_type.as_str() {
        "Image" => CacheKey::Image,
        "Registry" => CacheKey::Registry,
        "Global" => CacheKey::Global,
        odd => return Err(format!("credential provider plugin did not return a valid cacheKeyType: {odd}")),
    };
    let nanoseconds = raw.cache_duration.map(|text| go_duration(&text)).transpose().map_err(|_| UNREADABLE.to_owned())?;
    let cache_duration = nanoseconds.map(|nanoseconds| Duration::from_nanos(nanoseconds.max(0).unsigned_abs()));
    Ok(Response { cache_key, cache_duration, auth: Arc::new(raw.auth.unwrap_or_default()) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_program_is_told_what_it_may_know() {
        let text = |token: &str, annotations: &BTreeMap<String, String>| {
            serde_json::from_slice::<Value>(&request(VERSIONS[0], "a.example/b", token, annotations)).expect("JSON")
        };
        let bare = json!({"kind": "CredentialProviderRequest", "apiVersion": "credentialprovider.kubelet.k8s.io/v1", "image": "a.example/b"});
        assert_eq!(text("", &BTreeMap::new()), bare);
        let mut whole = bare;
        whole["serviceAccountToken"] = "t".into();
        whole["serviceAccountAnnotations"] = json!({"k": "v"});
        assert_eq!(text("t", &BTreeMap::from([("k".into(), "v".into())])), whole);
    }

    #[test]
    fn answers_are_read_strictly_and_their_secrets_not_told() {
        let read = |value: Value| response(VERSIONS[0], value.to_string().as_bytes());
        let answer = json!({"kind": "CredentialProviderResponse", "apiVersion": VERSIONS[0], "cacheKeyType": "Registry", "cacheDuration": "1m30s",
            "auth": {"*.example": {"username": "me", "password": "s3cret"}}});
        let found = read(answer.clone()).expect("an answer");
        assert_eq!((found.cache_key, found.cache_duration), (CacheKey::Registry, Some(Duration::from_secs(90))));
        assert_eq!(found.cache_key.of("a.example:5/b"), "a.example:5");
        assert_eq!((found.auth["*.example"].password.as_str(), format!("{found:?}").contains("s3cret")), ("s3cret", false));
        let with = |field: &str, value: Value| {
            let mut answer = answer.clone();
            answer[field] = value;
            read(answer).expect_err("refused")
        };
        assert_eq!(with("odd", json!("s3cret")), UNREADABLE);
        assert_eq!(with("auth", json!({"a": {"username": "me", "password": "s3cret", "odd": 1}})), UNREADABLE);
        assert_eq!(with("kind", json!("Odd")), UNREADABLE);
        assert_eq!(with("cacheDuration", json!("s3cret")), UNREADABLE);
        assert_eq!(with("cacheKeyType", json!("")), "credential provider plugin did not return a valid cacheKeyType: ");
        assert!(with("apiVersion", json!(VERSIONS[2])).ends_with("actual apiVersion:credentialprovider.kubelet.k8s.io/v1beta1"));
        assert!(response(VERSIONS[0], b"s3cret").is_err_and(|why| !why.contains("s3cret")));
    }
}
