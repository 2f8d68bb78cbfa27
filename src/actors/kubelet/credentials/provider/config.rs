//! Which providers there are: a `CredentialProviderConfig` (`kubelet.config.k8s.io`) from a file or a folder of them, decoded strictly and
//! checked in upstream's words.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use thiserror::Error;
use troupe_api::{expressions::go_duration, meta::names, schema::from_yaml};

use super::{super::matching::Place, protocol::VERSIONS};
use crate::document_shape::{
    Shape::{self, Bool, List, Object, Text},
    TEXTS, check, strict_error,
};

/// Versions of the document; the last one alone knows `tokenAttributes`.
const DOCUMENTS: [&str; 3] = ["kubelet.config.k8s.io/v1alpha1", "kubelet.config.k8s.io/v1beta1", "kubelet.config.k8s.io/v1"];
const KIND: &str = "CredentialProviderConfig";
const EXTENSIONS: [&str; 3] = ["json", "yaml", "yml"];
const CACHE_TYPES: [&str; 2] = ["ServiceAccount", "Token"];

const ENV: Shape = Object(&[("name", &Text), ("value", &Text)]);
const ENVS: Shape = List(&ENV);
const TOKEN_ATTRIBUTES: Shape = Object(&[
    ("serviceAccountTokenAudience", &Text),
    ("cacheType", &Text),
    ("requireServiceAccount", &Bool),
    ("requiredServiceAccountAnnotationKeys", &TEXTS),
    ("optionalServiceAccountAnnotationKeys", &TEXTS),
]);
const PROVIDER: Shape = Object(&[
    ("name", &Text),
    ("matchImages", &TEXTS),
    ("defaultCacheDuration", &Shape::Duration),
    ("apiVersion", &Text),
    ("args", &TEXTS),
    ("env", &ENVS),
    ("tokenAttributes", &TOKEN_ATTRIBUTES),
]);
const PROVIDERS: Shape = List(&PROVIDER);
const DOCUMENT: Shape = Object(&[("apiVersion", &Text), ("kind", &Text), ("providers", &PROVIDERS)]);

/// Where providers are told of, and where their programs are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProviderFiles {
    /// A file, or a folder of `*.json`, `*.yaml` and `*.yml`.
    pub config: PathBuf,
    pub bin_dir: PathBuf,
}

/// Why providers cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("plugin binary directory {0} did not exist")]
    NoDirectory(PathBuf),
    #[error("plugin binary executable {0} did not exist")]
    NoProgram(PathBuf),
    #[error("error inspecting binary executable {0}: permission denied")]
    NotExecutable(PathBuf),
    #[error("unable to access path {0:?}: {1}")]
    Unreachable(PathBuf, io::Error),
    #[error("unable to read {0:?}: {1}")]
    Unreadable(PathBuf, io::Error),
    #[error("no configuration files found in directory {0:?}")]
    Empty(PathBuf),
    #[error("error decoding config {0:?}: {1}")]
    Malformed(PathBuf, String),
    #[error("duplicate provider name {0:?} found in configuration file(s)")]
    Duplicate(String),
    #[error("failed to validate credential provider config: {0}")]
    Invalid(String),
}

/// One provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ProviderConfig {
    /// Of its program, too.
    pub name: String,
    pub match_images: Vec<String>,
    pub default_cache_duration: Duration,
    pub api_version: String,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub token_attributes: Option<TokenAttributes>,
}

/// What it is told of service accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TokenAttributes {
    pub audience: String,
    pub cache_type: CacheType,
    pub require_service_account: bool,
    pub required_annotations: Vec<String>,
    pub optional_annotations: Vec<String>,
}

/// For how many what it answers counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CacheType {
    /// All pods of the service account.
    ServiceAccount,
    /// Who shows the same token.
    Token,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    name: String,
    match_images: Vec<String>,
    default_cache_duration: Option<String>,
    api_version: String,
    args: Vec<String>,
    env: Vec<RawEnv>,
    token_attributes: Option<RawAttributes>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct RawEnv {
    name: String,
    value: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RawAttributes {
    service_account_token_audience: String,
    cache_type: String,
    require_service_account: Option<bool>,
    required_service_account_annotation_keys: Vec<String>,
    optional_service_account_annotation_keys: Vec<String>,
}

/// Reads all providers; gives a hash of what was read, too.
///
/// # Errors
/// When a file cannot be read or says what makes no sense, or a program is not there.
pub(super) fn load(files: &ProviderFiles) -> Result<(Vec<ProviderConfig>, String), ConfigError> {
    if !files.bin_dir.exists() {
        return Err(ConfigError::NoDirectory(files.bin_dir.clone()));
    }
    let (raws, hash) = read(&files.config)?;
    let errors = validate(&raws);
    match &errors[..] {
        [] => {}
        [only] => return Err(ConfigError::Invalid(only.clone())),
        all => return Err(ConfigError::Invalid(format!("[{}]", all.join(", ")))),
    }
    raws.iter().try_for_each(|raw| check_program(&files.bin_dir.join(&raw.name)))?;
    Ok((raws.into_iter().map(provider).collect(), hash))
}

/// Whether all of it can be used.
///
/// # Errors
/// When it cannot.
pub fn check_files(files: &ProviderFiles) -> Result<(), ConfigError> {
    load(files).map(drop)
}

fn check_program(path: &Path) -> Result<(), ConfigError> {
    let found = fs::metadata(path).map_err(|_| ConfigError::NoProgram(path.to_owned()))?;
    let is_executable = found.is_file() && found.permissions().mode() & 0o111 != 0;
    if is_executable { Ok(()) } else { Err(ConfigError::NotExecutable(path.to_owned())) }
}

fn read(config: &Path) -> Result<(Vec<Raw>, String), ConfigError> {
    let found = fs::metadata(config).map_err(|error| ConfigError::Unreachable(config.to_owned(), error))?;
    let files = if found.is_dir() { listed(config)? } else { vec![config.to_owned()] };
    let (mut all, mut names, mut hash) = (Vec::new(), BTreeSet::new(), Sha256::new());
    for file in files {
        let text = fs::read_to_string(&file).map_err(|error| ConfigError::Unreadable(file.clone(), error))?;
        // With its length, so that no two splits of the same text are equal.
        hash.update(u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        hash.update(&text);
        for raw in decode(&text).map_err(|why| ConfigError::Malformed(file.clone(), why))? {
            if !names.insert(raw.name.clone()) {
                return Err(ConfigError::Duplicate(raw.name));
            }
            all.push(raw);
        }
    }
    Ok((all, format!("sha256:{}", hex::encode(hash.finalize()))))
}

/// The files of a folder, not of those in it, in the order of their names.
fn listed(folder: &Path) -> Result<Vec<PathBuf>, ConfigError> {
    let unreadable = |error| ConfigError::Unreadable(folder.to_owned(), error);
    let entries = fs::read_dir(folder).and_then(|entries| entries.collect::<io::Result<Vec<_>>>()).map_err(unreadable)?;
    let is_config = |path: &PathBuf| !path.is_dir() && path.extension().is_some_and(|end| EXTENSIONS.iter().any(|known| end == *known));
    let mut files: Vec<PathBuf> = entries.iter().map(fs::DirEntry::path).filter(is_config).collect();
    files.sort();
    if files.is_empty() { Err(ConfigError::Empty(folder.to_owned())) } else { Ok(files) }
}

fn decode(text: &str) -> Result<Vec<Raw>, String> {
    let mut value: Value = from_yaml(text).map_err(|error| error.to_string())?;
    let head = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let (version, kind) = (head("apiVersion"), head("kind"));
    if kind != KIND {
        return Err(format!("failed to decode {kind:?} (wrong Kind)"));
    }
    if !DOCUMENTS.contains(&version.as_str()) {
        return Err(format!("no kind {kind:?} is registered for version {version:?}"));
    }
    let mut unknown = Vec::new();
    check(&value, &DOCUMENT, "", &mut unknown)?;
    let providers = value.get_mut("providers").map(Value::take).unwrap_or_default();
    if version != DOCUMENTS[2] {
        let all = providers.as_array().into_iter().flatten().enumerate();
        let newer = all.filter(|(_, provider)| provider.get("tokenAttributes").is_some());
        unknown.extend(newer.map(|(at, _)| format!("providers[{at}].tokenAttributes")));
    }
    if !unknown.is_empty() {
        return Err(strict_error(&unknown));
    }
    if providers.is_null() { Ok(Vec::new()) } else { serde_json::from_value(without_nulls(providers)).map_err(|error| error.to_string()) }
}

/// Null says nothing.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name, without_nulls(value))).collect(),
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// Of what is valid.
fn provider(raw: Raw) -> ProviderConfig {
    let attributes = raw.token_attributes.map(|attributes| TokenAttributes {
        audience: attributes.service_account_token_audience,
        cache_type: if attributes.cache_type == "Token" { CacheType::Token } else { CacheType::ServiceAccount },
        require_service_account: attributes.require_service_account.unwrap_or_default(),
        required_annotations: attributes.required_service_account_annotation_keys,
        optional_annotations: attributes.optional_service_account_annotation_keys,
    });
    let nanoseconds = raw.default_cache_duration.and_then(|text| go_duration(&text).ok()).unwrap_or_default();
    ProviderConfig {
        name: raw.name,
        match_images: raw.match_images,
        default_cache_duration: Duration::from_nanos(nanoseconds.max(0).unsigned_abs()),
        api_version: raw.api_version,
        args: raw.args,
        env: raw.env.into_iter().map(|env| (env.name, env.value)).collect(),
        token_attributes: attributes,
    }
}

fn validate(raws: &[Raw]) -> Vec<String> {
    let mut errors = Vec::new();
    if raws.is_empty() {
        errors.push("providers: Required value: at least 1 item in plugins is required".into());
    }
    for raw in raws {
        names_program(raw, &mut errors);
        names_images(raw, &mut errors);
        if let Some(attributes) = &raw.token_attributes {
            names_accounts(raw, attributes, &mut errors);
        }
    }
    errors
}

fn supported(known: &[&str]) -> String {
    known.iter().map(|known| format!("{known:?}")).collect::<Vec<_>>().join(", ")
}

fn names_program(raw: &Raw, errors: &mut Vec<String>) {
    let (name, version) = (&raw.name, &raw.api_version);
    let odd = [
        (name.is_empty(), "cannot be empty"),
        (name.contains('/'), "cannot contain '/'"),
        (name.contains(' '), "cannot contain spaces"),
        (name == ".", "cannot be '.'"),
        (name == "..", "cannot be '..'"),
    ];
    errors.extend(odd.iter().filter(|(is, _)| *is).map(|(_, why)| format!("providers.name: Invalid value: {name:?}: provider name {why}")));
    if version.is_empty() {
        errors.push("providers.apiVersion: Required value".into());
    } else if !VERSIONS.contains(&version.as_str()) {
        errors.push(format!("providers.apiVersion: Unsupported value: {version:?}: supported values: {}", supported(&VERSIONS)));
    }
}

fn names_images(raw: &Raw, errors: &mut Vec<String>) {
    if raw.match_images.is_empty() {
        errors.push("providers.matchImages: Required value: at least 1 item in matchImages is required".into());
    }
    for image in &raw.match_images {
        if let Err(why) = Place::parse(image) {
            errors.push(format!("providers.matchImages: Invalid value: {image:?}: match image is invalid: {why}"));
        }
    }
    match &raw.default_cache_duration {
        None => errors.push("providers.defaultCacheDuration: Required value".into()),
        Some(text) if go_duration(text).is_ok_and(|nanoseconds| nanoseconds < 0) => {
            errors.push(format!("providers.defaultCacheDuration: Invalid value: {text:?}: must be greater than or equal to 0"));
        }
        Some(_) => {}
    }
}

fn names_accounts(raw: &Raw, attributes: &RawAttributes, errors: &mut Vec<String>) {
    const FIELD: &str = "providers.tokenAttributes";
    let (required, optional) = (&attributes.required_service_account_annotation_keys, &attributes.optional_service_account_annotation_keys);
    if attributes.service_account_token_audience.is_empty() {
        errors.push(format!("{FIELD}.serviceAccountTokenAudience: Required value"));
    }
    if attributes.require_service_account.is_none() {
        errors.push(format!("{FIELD}.requireServiceAccount: Required value"));
    }
    if raw.api_version != VERSIONS[0] {
        errors.push(format!("{FIELD}: Forbidden: tokenAttributes is only supported for {} API version", VERSIONS[0]));
    }
    if attributes.require_service_account == Some(false) && !required.is_empty() {
        let why = "requireServiceAccount cannot be false when requiredServiceAccountAnnotationKeys is set";
        errors.push(format!("{FIELD}.requiredServiceAccountAnnotationKeys: Forbidden: {why}"));
    }
    for (field, keys) in [("required", required), ("optional", optional)] {
        let field = format!("{FIELD}.{field}ServiceAccountAnnotationKeys");
        let mut seen = BTreeSet::new();
        for key in keys {
            let whys = names::qualified(&key.to_lowercase());
            errors.extend(whys.into_iter().map(|why| format!("{field}: Invalid value: {key:?}: {why}")));
            if !seen.insert(key) {
                errors.push(format!("{field}: Duplicate value: {key:?}"));
            }
        }
    }
    let both: BTreeSet<&String> = required.iter().filter(|key| optional.contains(key)).collect();
    if !both.is_empty() {
        let both: Vec<&String> = both.into_iter().collect();
        errors.push(format!("{FIELD}: Invalid value: {both:?}: annotation keys cannot be both required and optional"));
    }
    match attributes.cache_type.as_str() {
        "" => {
            let why = "cacheType is required to be set when tokenAttributes is specified. Supported values are:";
            errors.push(format!("{FIELD}.cacheType: Required value: {why} {}", CACHE_TYPES.join(", ")));
        }
        known if CACHE_TYPES.contains(&known) => {}
        odd => errors.push(format!("{FIELD}.cacheType: Unsupported value: {odd:?}: supported values: {}", supported(&CACHE_TYPES))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\n";
    const PLAIN: &str = "matchImages: ['*.example'], defaultCacheDuration: 10m, apiVersion: credentialprovider.kubelet.k8s.io/v1";

    fn loaded(config: &Path) -> Result<(Vec<ProviderConfig>, String), String> {
        load(&ProviderFiles { config: config.to_owned(), bin_dir: "/bin".into() }).map_err(|error| error.to_string())
    }

    fn of(text: &str) -> Result<Vec<ProviderConfig>, String> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), text).expect("writes");
        let why = |why: String| why.replace(&format!("{:?}", file.path()), "FILE");
        loaded(file.path()).map(|(all, _)| all).map_err(why)
    }

    fn invalid(provider: &str) -> String {
        let why = of(&format!("{HEAD}providers: [{{name: sh, {provider}}}]\n")).expect_err("refused");
        why.strip_prefix("failed to validate credential provider config: ").unwrap_or(&why).to_owned()
    }

    #[test]
    fn all_that_a_provider_may_say_is_read() {
        let token =
            "{serviceAccountTokenAudience: a, cacheType: Token, requireServiceAccount: true, requiredServiceAccountAnnotationKeys: [x.example/k]}";
        let all = of(&format!("{HEAD}providers: [{{name: sh, {PLAIN}, args: [-c], env: [{{name: A, value: b}}], tokenAttributes: {token}}}]\n"));
        let all = all.expect("providers");
        let [provider] = &all[..] else { panic!("{all:?}") };
        assert_eq!((provider.default_cache_duration, &provider.env[..]), (Duration::from_secs(600), &[("A".to_owned(), "b".to_owned())][..]));
        let attributes = provider.token_attributes.as_ref().expect("attributes");
        assert_eq!((attributes.cache_type, attributes.require_service_account), (CacheType::Token, true));
        assert_eq!(attributes.required_annotations, ["x.example/k"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_in_upstreams_words() {
        assert_eq!(
            invalid(""),
            "[providers.apiVersion: Required value, providers.matchImages: Required value: at least 1 item in matchImages is \
            required, providers.defaultCacheDuration: Required value]"
        );
        assert_eq!(
            invalid(&PLAIN.replace("/v1", "/v2")),
            "providers.apiVersion: Unsupported value: \"credentialprovider.kubelet.k8s.io/v2\": \
            supported values: \"credentialprovider.kubelet.k8s.io/v1\", \"credentialprovider.kubelet.k8s.io/v1alpha1\", \
            \"credentialprovider.kubelet.k8s.io/v1beta1\""
        );
        let odd = invalid(&PLAIN.replace("10m", "-1s"));
        assert_eq!(odd, "providers.defaultCacheDuration: Invalid value: \"-1s\": must be greater than or equal to 0");
        assert!(invalid(&PLAIN.replace("*.example", "a b")).contains("match image is invalid: invalid character"));
        let attributes = |text: &str| invalid(&format!("{PLAIN}, tokenAttributes: {{serviceAccountTokenAudience: a, {text}}}"));
        assert_eq!(
            attributes("cacheType: Token, requireServiceAccount: false, requiredServiceAccountAnnotationKeys: [k]"),
            "providers.tokenAttributes.requiredServiceAccountAnnotationKeys: Forbidden: requireServiceAccount cannot be false when \
             requiredServiceAccountAnnotationKeys is set"
        );
        assert!(attributes("requireServiceAccount: true").contains("cacheType: Required value: cacheType is required to be set"));
        let both = "requiredServiceAccountAnnotationKeys: [k, k], optionalServiceAccountAnnotationKeys: [k]";
        let why = attributes(&format!("cacheType: Odd, requireServiceAccount: true, {both}"));
        for part in ["Duplicate value: \"k\"", "Invalid value: [\"k\"]: annotation keys cannot be both", "Unsupported value: \"Odd\""] {
            assert!(why.contains(part), "{why}");
        }
        assert_eq!(
            of(HEAD).expect_err("refused"),
            "failed to validate credential provider config: providers: Required value: at least 1 item in \
            plugins is required"
        );
        let unknown = of(&format!("{HEAD}providers: [{{name: sh, matchImage: [a]}}]\n")).expect_err("refused");
        assert_eq!(unknown, "error decoding config FILE: strict decoding error: unknown field \"providers[0].matchImage\"");
        let older = format!("{}providers: [{{name: sh, {PLAIN}, tokenAttributes: {{}}}}]\n", HEAD.replace("/v1", "/v1beta1"));
        assert!(of(&older).expect_err("refused").contains("unknown field \"providers[0].tokenAttributes\""));
        assert!(of("apiVersion: v1\nkind: Odd\n").expect_err("refused").ends_with("failed to decode \"Odd\" (wrong Kind)"));
        let path = of(&format!("{HEAD}providers: [{{name: a/sh, {PLAIN}}}]\n")).expect_err("refused");
        assert!(path.ends_with("providers.name: Invalid value: \"a/sh\": provider name cannot contain '/'"), "{path}");
        let missing = of(&format!("{HEAD}providers: [{{name: no-such-program, {PLAIN}}}]\n")).expect_err("refused");
        assert_eq!(missing, "plugin binary executable /bin/no-such-program did not exist");
    }

    #[test]
    fn the_files_of_a_folder_are_taken_together() {
        let place = tempfile::tempdir().expect("a directory");
        let write = |name: &str, provider: &str| {
            fs::write(place.path().join(name), format!("{HEAD}providers: [{{name: {provider}, {PLAIN}}}]\n")).expect("writes");
        };
        assert!(loaded(place.path()).expect_err("refused").starts_with("no configuration files found in directory"));
        write("b.yml", "sh");
        write("a.yaml", "cat");
        write("notes.txt", "ls");
        fs::create_dir(place.path().join("d.yaml")).expect("a folder");
        let (all, hash) = loaded(place.path()).expect("providers");
        assert_eq!(all.iter().map(|provider| provider.name.as_str()).collect::<Vec<_>>(), ["cat", "sh"]);
        assert!(hash.starts_with("sha256:") && hash.len() == 71, "{hash}");
        write("c.json", "sh");
        assert_eq!(loaded(place.path()).expect_err("refused"), "duplicate provider name \"sh\" found in configuration file(s)");
    }
}
