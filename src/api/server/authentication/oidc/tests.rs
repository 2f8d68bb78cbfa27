use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use serde_json::{Value, json};
use troupe_api::{
    auth::{Authenticator, Credentials, chain::AuthenticatorChain, identify},
    document,
    meta::SystemClock,
    schema::from_yaml,
    service::UserInfo,
};

use super::JwtAuthenticator;
use crate::{
    authentication::{AuthenticationConfiguration, OidcFlags, TokenWebhook},
    webhook_client::{Endpoint, testing::Server},
};

/// An issuer that signs, and serves its keys.
struct TestIssuer {
    server: Server,
    keys: Arc<Mutex<Vec<(String, EcdsaKeyPair)>>>,
}

fn new_key() -> EcdsaKeyPair {
    let random = SystemRandom::new();
    let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, document.as_ref(), &random).expect("a key")
}

fn encoded(value: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value)
}

impl TestIssuer {
    async fn serve() -> Self {
        let keys = Arc::new(Mutex::new(vec![("one".to_owned(), new_key())]));
        let (shown, url) = (keys.clone(), Arc::new(OnceLock::<String>::new()));
        let own = url.clone();
        let server = Server::serve(move |path, _| {
            let url = own.get().cloned().unwrap_or_default();
            match path {
                "/.well-known/openid-configuration" => (200, json!({"issuer": url, "jwks_uri": format!("{url}/keys")}).to_string()),
                "/keys" => {
                    let key = |(id, key): &(String, EcdsaKeyPair)| {
                        let point = key.public_key().as_ref();
                        json!({"kty": "EC", "crv": "P-256", "use": "sig", "kid": id, "x": encoded(&point[1..33]), "y": encoded(&point[33..])})
                    };
                    let keys: Vec<Value> = shown.lock().iter().map(key).collect();
                    (200, json!({"keys": keys}).to_string())
                }
                _ => (404, String::new()),
            }
        })
        .await;
        url.set(format!("https://127.0.0.1:{}", server.port)).expect("once");
        TestIssuer { server, keys }
    }

    fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.server.port)
    }

    /// A token for `app` that lasts a minute, with `change` put in.
    fn token(&self, change: Value) -> String {
        let now = jiff::Timestamp::now().as_second();
        let mut claims = json!({"iss": self.url(), "aud": "app", "exp": now + 60, "sub": "jane"});
        for (name, value) in change.as_object().into_iter().flatten() {
            claims[name] = value.clone();
        }
        let keys = self.keys.lock();
        let (id, key) = keys.last().expect("a key");
        let message = format!("{}.{}", encoded(json!({"alg": "ES256", "kid": id}).to_string()), encoded(claims.to_string()));
        let signature = key.sign(&SystemRandom::new(), message.as_bytes()).expect("signs");
        format!("{message}.{}", encoded(signature))
    }

    fn flags(&self) -> OidcFlags {
        let ca_file = self.server.kubeconfig.with_file_name("ca.pem");
        std::fs::write(&ca_file, &self.server.ca_pem).expect("writes");
        OidcFlags { issuer_url: self.url(), client_id: "app".into(), ca_file: Some(ca_file), ..OidcFlags::default() }
    }

    fn configuration(&self, more: &str) -> Result<AuthenticationConfiguration, String> {
        let ca = json!(self.server.ca_pem);
        let issuer = format!("issuer: {{url: '{}', audiences: [app], certificateAuthority: {ca}}}", self.url());
        configuration(&format!("jwt: [{{{issuer}, {more}}}]"))
    }

    fn authenticator(&self, configuration: &AuthenticationConfiguration) -> JwtAuthenticator {
        JwtAuthenticator::new(&configuration.jwt[0], &[], vec!["api".into()], Arc::new(SystemClock)).expect("works")
    }
}

fn configuration(text: &str) -> Result<AuthenticationConfiguration, String> {
    let text = format!("{{apiVersion: apiserver.config.k8s.io/v1, kind: AuthenticationConfiguration, {text}}}");
    let read: AuthenticationConfiguration = document::read(from_yaml(&text).expect("YAML")).map_err(|error| error.to_string())?;
    read.checked(&["https://kubernetes.default.svc".into()]).map_err(|error| error.to_string())
}

async fn user(authenticator: &dyn Authenticator, token: &str) -> Result<Option<UserInfo>, u16> {
    identify(authenticator, &Credentials { bearer: Some(token), ..Credentials::default() }).await.map_err(|status| status.code)
}

async fn why(authenticator: &dyn Authenticator, token: &str) -> String {
    authenticator.ask_review(token, &[]).expect("it asks").await.map(|_| ()).expect_err("is refused")
}

#[tokio::test]
async fn flags_make_an_issuer_whose_users_are_let_in() {
    let issuer = TestIssuer::serve().await;
    let flags = OidcFlags {
        groups_claim: Some("groups".into()),
        groups_prefix: Some("oidc:".into()),
        required_claims: vec!["hd=example.org".into()],
        ..issuer.flags()
    };
    let configuration = AuthenticationConfiguration::from_flags(flags, &[]).expect("works");
    let authenticator = issuer.authenticator(&configuration);
    let found = user(&authenticator, &issuer.token(json!({"groups": ["dev", "ops"], "hd": "example.org", "jti": "7"}))).await;
    let found = found.expect("is let in").expect("a user");
    assert_eq!(found.name, format!("{}#jane", issuer.url()));
    assert_eq!(found.groups, ["oidc:dev", "oidc:ops"]);
    assert_eq!(found.extra["authentication.kubernetes.io/credential-id"], ["JTI=7"]);
    assert_eq!(user(&authenticator, &issuer.token(json!({"hd": "else"}))).await, Err(401));
    assert!(why(&authenticator, &issuer.token(json!({}))).await.contains("oidc: required claim hd not present in ID token"));
    let other = issuer.token(json!({"iss": "https://other.example"}));
    assert_eq!(user(&authenticator, &other).await, Ok(None), "it is somebody else's");
    let asked: Vec<String> = issuer.server.asked().into_iter().map(|(path, _)| path).collect();
    assert_eq!(asked, ["/.well-known/openid-configuration", "/keys"], "keys are asked for once");
}

#[tokio::test]
async fn tokens_that_are_forged_expired_or_for_others_are_refused() {
    let issuer = TestIssuer::serve().await;
    let configuration = AuthenticationConfiguration::from_flags(issuer.flags(), &[]).expect("works");
    let authenticator = issuer.authenticator(&configuration);
    assert!(user(&authenticator, &issuer.token(json!({}))).await.expect("is let in").is_some());
    let good = issuer.token(json!({}));
    let (message, signature) = good.rsplit_once('.').expect("three parts");
    let claims = encoded(json!({"iss": issuer.url(), "aud": "app", "exp": 9_999_999_999_i64, "sub": "root"}).to_string());
    let forged = format!("{}.{claims}.{signature}", message.split('.').next().expect("a header"));
    assert!(why(&authenticator, &forged).await.contains("failed to verify id token signature"));
    let unsigned = format!("{}.{claims}.", encoded(json!({"alg": "none"}).to_string()));
    assert_eq!(user(&authenticator, &unsigned).await, Err(401));
    assert!(why(&authenticator, &issuer.token(json!({"exp": 1}))).await.contains("token is expired"));
    assert!(why(&authenticator, &issuer.token(json!({"aud": ["x"]}))).await.contains("oidc: expected audience in [\"app\"] got [\"x\"]"));
    let later = jiff::Timestamp::now().as_second() + 1000;
    assert!(why(&authenticator, &issuer.token(json!({"nbf": later}))).await.contains("nbf"));
    // A key that is not known is looked for, but not for everybody who asks.
    issuer.keys.lock().push(("two".into(), new_key()));
    let before = issuer.server.asked().len();
    for _ in 0..5 {
        assert_eq!(user(&authenticator, &issuer.token(json!({}))).await, Err(401), "keys were just looked at");
    }
    assert_eq!(issuer.server.asked().len(), before);
    let fresh = issuer.authenticator(&configuration);
    assert!(user(&fresh, &issuer.token(json!({}))).await.expect("is let in").is_some());
}

#[tokio::test]
async fn nobody_waits_for_an_issuer_whose_key_is_known() {
    let issuer = TestIssuer::serve().await;
    let configuration = AuthenticationConfiguration::from_flags(issuer.flags(), &[]).expect("works");
    let authenticator = issuer.authenticator(&configuration);
    let token = issuer.token(json!({}));
    assert!(user(&authenticator, &token).await.expect("is let in").is_some());
    authenticator.provider().age();
    let hanging = authenticator.provider().hang().await;
    let answered = tokio::time::timeout(Duration::from_secs(5), user(&authenticator, &token)).await;
    assert!(answered.expect("is answered meanwhile").expect("is let in").is_some());
    drop(hanging);
}

#[tokio::test]
async fn a_token_that_wants_more_understood_than_is_known_is_nobodys() {
    let issuer = TestIssuer::serve().await;
    let configuration = AuthenticationConfiguration::from_flags(issuer.flags(), &[]).expect("works");
    let authenticator = issuer.authenticator(&configuration);
    let claims = json!({"iss": issuer.url(), "aud": "app", "exp": 9_999_999_999_i64, "sub": "jane"});
    let signed = |header: Value| {
        let message = format!("{}.{}", encoded(header.to_string()), encoded(claims.to_string()));
        let signature = issuer.keys.lock()[0].1.sign(&SystemRandom::new(), message.as_bytes()).expect("signs");
        format!("{message}.{}", encoded(signature))
    };
    assert!(user(&authenticator, &signed(json!({"alg": "ES256", "kid": "one"}))).await.expect("is let in").is_some());
    let bound = json!({"alg": "ES256", "kid": "one", "crit": ["exp"]});
    assert_eq!(user(&authenticator, &signed(bound)).await, Ok(None));
}

#[tokio::test]
async fn claims_are_mapped_and_judged_by_expressions() {
    let issuer = TestIssuer::serve().await;
    let text = "claimMappings: {username: {expression: 'claims.sub + \"@\" + claims.org'}, groups: {expression: 'claims.roles.split(\",\")'}, uid: {claim: oid}, extra: [{key: example.org/tenant, valueExpression: claims.tenant}]}, claimValidationRules: [{expression: 'claims.level > 1', message: level too low}], userValidationRules: [{expression: '!user.username.startsWith(\"system:\")', message: reserved}]";
    let configuration = issuer.configuration(text).expect("is valid");
    let authenticator = issuer.authenticator(&configuration);
    let claims = json!({"org": "acme", "roles": "dev,,ops", "oid": "u1", "tenant": ["t1", ""], "level": 2});
    let found = user(&authenticator, &issuer.token(claims.clone())).await.expect("is let in").expect("a user");
    assert_eq!((found.name.as_str(), found.uid.as_str()), ("jane@acme", "u1"));
    assert_eq!((found.groups, found.extra["example.org/tenant"].clone()), (vec!["dev".to_owned(), "ops".into()], vec!["t1".to_owned()]));
    let but = |name: &str, value: Value| {
        let mut claims = claims.clone();
        claims[name] = value;
        issuer.token(claims)
    };
    assert!(why(&authenticator, &but("level", json!(1))).await.contains("validation expression 'claims.level > 1' failed: level too low"));
    assert!(why(&authenticator, &but("sub", json!("system:x"))).await.contains("failed: reserved"));
    assert!(why(&authenticator, &but("org", json!(3))).await.contains("oidc: error evaluating username claim expression"));
}

#[tokio::test]
async fn an_issuer_that_does_not_answer_lets_nobody_in_and_harms_nobody_else() {
    let issuer = TestIssuer::serve().await;
    let (token, flags) = (issuer.token(json!({})), issuer.flags());
    let configuration = AuthenticationConfiguration::from_flags(flags, &[]).expect("works");
    let authenticator = issuer.authenticator(&configuration);
    drop(issuer);
    assert!(why(&authenticator, &token).await.contains("oidc: authenticator not initialized"));
    let chain = AuthenticatorChain::new(vec![Arc::new(authenticator)], true);
    let nobody = identify(&chain, &Credentials::default()).await.expect("is let in").expect("a user");
    assert_eq!(nobody.name, "system:anonymous");
}

#[test]
fn configurations_that_cannot_work_are_refused_in_upstreams_words() {
    let jwt = |issuer: &str, more: &str| format!("jwt: [{{issuer: {{{issuer}}}, {more}}}]");
    let named = "claimMappings: {username: {claim: sub, prefix: ''}}";
    let good = "url: 'https://a.example', audiences: [x]";
    for (text, why) in [
        (jwt("audiences: [x]", named), "jwt[0].issuer.url: Required value"),
        (jwt("url: 'http://a.example', audiences: [x]", named), "URL scheme must be https"),
        (jwt("url: 'https://kubernetes.default.svc', audiences: [x]", named), "URL must not overlap with disallowed issuers"),
        (jwt("url: 'https://a.example?x', audiences: [x]", named), "URL must not contain a query"),
        (jwt("url: 'https://a.example'", named), "at least one jwt[0].issuer.audiences is required"),
        (jwt("url: 'https://a.example', audiences: [x, z]", named), "audienceMatchPolicy must be MatchAny for multiple audiences"),
        (jwt(&format!("{good}, discoveryURL: 'https://a.example/'"), named), "discoveryURL must be different from URL"),
        (jwt(&format!("{good}, certificateAuthority: x"), named), "jwt[0].issuer.certificateAuthority: Invalid value: \"<omitted>\""),
        (jwt(good, "claimMappings: {username: {claim: sub}}"), "prefix is required when claim is set"),
        (jwt(good, "claimMappings: {}"), "jwt[0].claimMappings.username: Required value: claim or expression is required"),
        (jwt(good, "claimMappings: {username: {expression: 'claims.'}}"), "compilation failed"),
        (jwt(good, "claimMappings: {username: {expression: 'claims.email'}}"), "claims.email_verified must be used"),
        (jwt(good, &format!("{named}, userValidationRules: [{{expression: 'user.username'}}]")), "must evaluate to bool"),
        (jwt(good, &format!("{named}, claimValidationRules: [{{claim: a, expression: b}}]")), "claim and expression can't both be set"),
        (
            jwt(good, "claimMappings: {username: {claim: sub, prefix: ''}, extra: [{key: k8s.io/x, valueExpression: claims.a}]}"),
            "reserved for Kubernetes use",
        ),
        ("anonymous: {enabled: false, conditions: [{path: /healthz}]}".into(), "enabled should be set to true when conditions are defined"),
        ("jwt: [], nope: 1".into(), "unknown field `nope`"),
    ] {
        let refused = configuration(&text).map(|_| ()).expect_err(why);
        assert!(refused.contains(why), "{refused}");
    }
    let verified = "claimMappings: {username: {expression: 'claims.email'}}, claimValidationRules: [{expression: 'claims.email_verified == true'}]";
    assert!(configuration(&jwt(good, verified)).is_ok());
}

#[tokio::test]
async fn a_webhook_is_asked_for_tokens_and_its_answers_count_for_a_while() {
    let server = Server::serve(|_, review| {
        let status = match review["spec"]["token"].as_str() {
            Some("good") => json!({"authenticated": true, "user": {"username": "jane", "groups": ["dev"], "extra": {"a": ["b"]}}}),
            Some("wrong") => json!({"authenticated": false, "error": "no such token"}),
            _ => json!({"authenticated": false}),
        };
        (200, json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status}).to_string())
    })
    .await;
    let endpoint = Endpoint::of_kubeconfig(&server.kubeconfig).expect("works");
    let webhook = TokenWebhook::new(endpoint, vec!["api".into()], Duration::from_secs(60));
    for _ in 0..3 {
        let found = user(&webhook, "good").await.expect("is let in").expect("a user");
        assert_eq!((found.name.as_str(), found.groups, found.extra["a"].clone()), ("jane", vec!["dev".to_owned()], vec!["b".to_owned()]));
    }
    assert_eq!((user(&webhook, "wrong").await, user(&webhook, "other").await), (Err(401), Ok(None)));
    let asked = server.asked();
    assert_eq!(asked.len(), 3, "what was said is remembered");
    assert_eq!(asked[0].1["spec"], json!({"token": "good", "audiences": ["api"]}));
}
