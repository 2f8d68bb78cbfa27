//! Providers that are shells.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use troupe_api::meta::SystemClock;

use super::*;

/// A cluster of one service account, which gives tokens of a number.
struct Account {
    annotations: Value,
    token: AtomicUsize,
}

#[async_trait]
impl Accounts for Account {
    async fn account(&self) -> Result<Option<Arc<ServiceAccount>>, Status> {
        let account = json!({"metadata": {"name": "robot", "namespace": "a", "uid": "u1", "annotations": self.annotations}});
        Ok(Some(Arc::new(serde_json::from_value(account).expect("an account"))))
    }

    async fn token(&self, audience: &str) -> Result<String, Status> {
        Ok(format!("{audience}-{}", self.token.load(Ordering::Relaxed)))
    }
}

fn account(annotations: Value) -> Account {
    Account { annotations, token: AtomicUsize::new(1) }
}

fn config(script: &str) -> ProviderConfig {
    ProviderConfig {
        name: "sh".into(),
        match_images: vec!["*.example".into()],
        default_cache_duration: Duration::ZERO,
        api_version: protocol::VERSIONS[0].into(),
        args: vec!["-c".into(), script.into()],
        env: vec![("WHO".into(), "me".into())],
        token_attributes: None,
    }
}

fn attributes() -> TokenAttributes {
    TokenAttributes {
        audience: "registry".into(),
        cache_type: CacheType::ServiceAccount,
        require_service_account: true,
        required_annotations: vec!["id".into()],
        optional_annotations: vec!["more".into()],
    }
}

fn provider(config: ProviderConfig, longest: Duration) -> Provider {
    let files = ProviderFiles { config: "".into(), bin_dir: "/bin".into() };
    Provider::new(config, &files, Arc::new(SystemClock), longest)
}

/// A script that notes each call in a file and answers with a user and a password, which are the shell's words.
fn answering(calls: &std::path::Path, more: &str, user: &str, password: &str) -> String {
    format!(
        "IN=$(cat); echo \"$IN\" >> {}; printf '{{\"kind\": \"CredentialProviderResponse\", \"apiVersion\": \
         \"credentialprovider.kubelet.k8s.io/v1\", {more}, \"auth\": {{\"a.example\": {{\"username\": \"%s\", \"password\": \"%s\"}}}}}}' \
         \"{user}\" \"{password}\"",
        calls.display()
    )
}

async fn ask(provider: &Provider, image: &str, name: &str, accounts: &Account) -> Result<Vec<(String, String)>, String> {
    let asked = Asked { image, namespace: "a", account: name, accounts };
    let (auths, _) = provider.provide(asked).await?;
    Ok(auths.values().map(|auth| (auth.username.clone(), auth.password.clone())).collect())
}

fn pair(user: &str, password: &str) -> Vec<(String, String)> {
    vec![(user.to_owned(), password.to_owned())]
}

fn calls(path: &std::path::Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a request")).collect()
}

#[tokio::test]
async fn a_program_is_asked_once_for_all_that_its_answer_is_for() {
    let place = tempfile::tempdir().expect("a directory");
    let noted = place.path().join("calls");
    let script = answering(&noted, "\"cacheKeyType\": \"Registry\", \"cacheDuration\": \"1h\"", "$WHO", "p");
    let (provider, nobody) = (provider(config(&script), LONGEST), account(json!({})));
    let (one, other) = tokio::join!(ask(&provider, "a.example/b", "", &nobody), ask(&provider, "a.example/b", "", &nobody));
    assert_eq!((one, other), (Ok(pair("me", "p")), Ok(pair("me", "p"))));
    assert_eq!(ask(&provider, "a.example/c", "", &nobody).await, Ok(pair("me", "p")));
    assert_eq!(ask(&provider, "other.org/c", "", &nobody).await, Ok(Vec::new()), "it is not for this image");
    let seen = calls(&noted);
    assert_eq!(seen.len(), 1, "who asked at once waited for one process, and others had its answer: {seen:?}");
    assert_eq!(seen[0]["image"], "a.example/b");
    ask(&provider, "b.example/c", "", &nobody).await.expect("an answer");
    assert_eq!(calls(&noted).len(), 2, "another registry is asked for anew");
}

#[tokio::test]
async fn failures_are_told_and_give_nothing() {
    let nobody = account(json!({}));
    let why = async |script: &str, longest| ask(&provider(config(script), longest), "a.example/b", "", &nobody).await.expect_err("fails");
    let begin = "failed to get credential from external registry credential provider: ";
    let exec = format!("{begin}error execing credential provider plugin sh for image a.example/b: ");
    assert_eq!(why("echo no >&2; exit 3", LONGEST).await, format!("{exec}exit status 3: no\n"));
    assert_eq!(why("sleep 60", Duration::from_millis(300)).await, format!("{exec}context deadline exceeded: "));
    let unreadable = format!("{begin}error decoding credential provider plugin response from stdout");
    assert_eq!(why("cat", LONGEST).await, unreadable, "it gives the question back");
    assert_eq!(why("head -c 2000000 /dev/zero", LONGEST).await, format!("{exec}its answer is longer than 1048576 bytes: "));
    let failing = Providers(vec![provider(config("exit 1"), LONGEST)]);
    let keyring = failing.keyring(Asked { image: "a.example/b", namespace: "a", account: "", accounts: &nobody }).await;
    assert_eq!(keyring, Keyring::default());
}

#[tokio::test]
async fn tokens_go_to_programs_that_want_them_and_answers_to_their_accounts() {
    let place = tempfile::tempdir().expect("a directory");
    let noted = place.path().join("calls");
    let script = answering(&noted, "\"cacheKeyType\": \"Global\", \"cacheDuration\": \"1h\"", "u", "p");
    let with = |cache_type| ProviderConfig { token_attributes: Some(TokenAttributes { cache_type, ..attributes() }), ..config(&script) };
    let robot = account(json!({"id": "7", "more": "m", "other": "o"}));
    let by_account = provider(with(CacheType::ServiceAccount), LONGEST);
    for _ in 0..2 {
        assert_eq!(ask(&by_account, "a.example/b", "robot", &robot).await, Ok(pair("u", "p")));
        robot.token.fetch_add(1, Ordering::Relaxed);
    }
    let seen = calls(&noted);
    assert_eq!(seen.len(), 1, "another token of the same account gets the same");
    assert_eq!((&seen[0]["serviceAccountToken"], &seen[0]["serviceAccountAnnotations"]), (&json!("registry-1"), &json!({"id": "7", "more": "m"})));
    let by_token = provider(with(CacheType::Token), LONGEST);
    for _ in 0..2 {
        ask(&by_token, "a.example/b", "robot", &robot).await.expect("an answer");
        ask(&by_token, "a.example/b", "robot", &robot).await.expect("an answer");
        robot.token.fetch_add(1, Ordering::Relaxed);
    }
    assert_eq!(calls(&noted).len(), 3, "once for each token");
    let unmarked = account(json!({"more": "m"}));
    assert_eq!(ask(&by_token, "a.example/b", "robot", &unmarked).await, Ok(Vec::new()), "a required annotation is missing");
    assert_eq!(ask(&by_token, "a.example/b", "", &robot).await, Ok(Vec::new()), "there is no account");
    assert_eq!(calls(&noted).len(), 3);
    let asked = Asked { image: "a.example/b", namespace: "a", account: "robot", accounts: &robot };
    let found = Providers(vec![by_account]).keyring(asked).await.lookup("a.example/b");
    let whose = Coordinates { uid: "u1".into(), namespace: "a".into(), name: "robot".into() };
    assert_eq!(found, [Credential::basic("u", "p", Some(Source::ServiceAccount(whose)))]);
}

#[tokio::test]
async fn a_token_is_no_password_unless_it_is_kept_by_token() {
    let place = tempfile::tempdir().expect("a directory");
    let script = answering(&place.path().join("calls"), "\"cacheKeyType\": \"Image\"", "u", "registry-1");
    let with = |cache_type| ProviderConfig { token_attributes: Some(TokenAttributes { cache_type, ..attributes() }), ..config(&script) };
    let robot = account(json!({"id": "7"}));
    let refused = ask(&provider(with(CacheType::ServiceAccount), LONGEST), "a.example/b", "robot", &robot).await.expect_err("refused");
    assert!(refused.starts_with("credential provider plugin returned the service account token as the password"), "{refused}");
    assert_eq!(ask(&provider(with(CacheType::Token), LONGEST), "a.example/b", "robot", &robot).await, Ok(pair("u", "registry-1")));
}
