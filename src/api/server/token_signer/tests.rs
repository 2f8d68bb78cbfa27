use async_trait::async_trait;
use parking_lot::Mutex;
use rcgen::PublicKeyData;
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use serde_json::json;
use troupe_api::{auth::tokens::PublicKey, meta::SystemClock};

use super::{
    messages::{Key, KeysResponse, MetadataResponse, Timestamp},
    *,
};

/// A signer that says what it is told to.
struct FakeSigner {
    pair: EcdsaKeyPair,
    said: Mutex<Said>,
}

struct Said {
    header: Value,
    keys: KeysResponse,
    longest: i64,
    /// How often it does not answer yet.
    absent: usize,
    fetches: usize,
}

fn key(id: &str, key: &[u8], exclude_from_oidc_discovery: bool) -> Key {
    Key { key_id: id.into(), key: key.to_vec(), exclude_from_oidc_discovery }
}

/// With its key as others read it.
fn fake() -> (Arc<FakeSigner>, Vec<u8>) {
    let made = rcgen::KeyPair::generate().expect("a key");
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &made.serialize_der(), &SystemRandom::new()).expect("reads");
    let public = made.subject_public_key_info();
    let keys = KeysResponse {
        keys: vec![key("k1", &public, false)],
        data_timestamp: Some(Timestamp { seconds: 1_800_000_000, nanos: 0 }),
        refresh_hint_seconds: 90,
    };
    let header = json!({"alg": "ES256", "kid": "k1", "typ": "JWT"});
    let said = Said { header, keys, longest: 3600, absent: 0, fetches: 0 };
    (Arc::new(FakeSigner { pair, said: Mutex::new(said) }), public)
}

#[async_trait]
impl SignerService for FakeSigner {
    async fn sign(&self, request: SignRequest) -> Result<SignResponse, Status> {
        let header = BASE64_URL_SAFE_NO_PAD.encode(self.said.lock().header.to_string());
        let message = format!("{header}.{}", request.claims);
        let signature = self.pair.sign(&SystemRandom::new(), message.as_bytes()).map_err(|_| Status::internal("no random numbers"))?;
        Ok(SignResponse { header, signature: BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref()) })
    }

    async fn fetch_keys(&self) -> Result<KeysResponse, Status> {
        let mut said = self.said.lock();
        said.fetches += 1;
        if said.fetches <= said.absent {
            return Err(Status::unavailable("no such file"));
        }
        Ok(said.keys.clone())
    }

    async fn metadata(&self) -> Result<MetadataResponse, Status> {
        Ok(MetadataResponse { max_token_expiration_seconds: self.said.lock().longest })
    }
}

async fn connect(fake: &Arc<FakeSigner>) -> Result<Connected, String> {
    ExternalSigner::connect(fake.clone(), Arc::new(SystemClock)).await
}

#[tokio::test]
async fn a_token_is_put_together_of_what_the_signer_says() {
    let (fake, public) = fake();
    fake.said.lock().absent = 1;
    let connected = connect(&fake).await.expect("it comes up");
    assert_eq!((connected.longest, connected.again), (3600, Duration::from_secs(90)));
    let token = connected.signer.sign(json!({"sub": "x"})).await.expect("signs");
    let (message, signature) = token.rsplit_once('.').expect("three parts");
    let claims = BASE64_URL_SAFE_NO_PAD.decode(message.split('.').nth(1).expect("claims")).expect("base64");
    assert_eq!(serde_json::from_slice::<Value>(&claims).expect("JSON"), json!({"sub": "x"}));
    let told = connected.signer.keys().told();
    assert_eq!(told, [PublicKey::from_spki(&public).expect("reads").called("k1")]);
    assert!(told[0].verifies(message.as_bytes(), &BASE64_URL_SAFE_NO_PAD.decode(signature).expect("base64")));
}

#[tokio::test]
async fn headers_that_nobody_could_verify_by_are_refused() {
    let (fake, public) = fake();
    let connected = connect(&fake).await.expect("connects");
    fake.said.lock().keys.keys.push(key("old", &public, true));
    for (header, why) in [
        (json!({"alg": "ES256", "kid": "k1"}), "bad type"),
        (json!({"alg": "ES256", "kid": "", "typ": "JWT"}), "key id missing"),
        (json!({"alg": "HS256", "kid": "k1", "typ": "JWT"}), "bad signing algorithm \"HS256\""),
        (json!({"alg": "ES256", "kid": "k1", "typ": "JWT", "jku": "x"}), "while parsing header JSON: unknown field `jku`"),
        (json!({"alg": "ES256", "kid": "old", "typ": "JWT"}), "key used for signing JWT (kid: old) is excluded from OIDC discovery docs"),
    ] {
        fake.said.lock().header = header;
        let refused = connected.signer.sign(json!({})).await.expect_err(why);
        assert!(refused.starts_with(&format!("while validating header: {why}")), "{refused}");
    }
    assert_eq!(connected.signer.keys().load().len(), 2, "the key that was not known was asked for");
}

#[tokio::test]
async fn keys_are_asked_for_once_however_many_tokens_name_unknown_ones() {
    let (fake, _) = fake();
    let connected = connect(&fake).await.expect("connects");
    for _ in 0..5 {
        connected.signer.refresh().await;
    }
    assert_eq!(fake.said.lock().fetches, 2);
}

#[tokio::test]
async fn a_signer_that_cannot_be_used_stops_the_server() {
    let (short, _) = fake();
    short.said.lock().longest = 599;
    let refused = connect(&short).await.err().expect("is refused");
    assert_eq!(refused, "max token life supported by external-jwt-signer (599s) is less than acceptable (min 600s)");
    type Change = fn(&mut KeysResponse);
    let changes: [(Change, &str); 6] = [
        (|said| said.refresh_hint_seconds = 0, "found invalid refresh hint (0s)"),
        (|said| said.keys.clear(), "found no keys"),
        (|said| said.data_timestamp = None, "invalid data timestamp"),
        (|said| said.keys[0].key_id.clear(), "found invalid public key id \"\""),
        (|said| said.keys[0].key.clear(), "found empty public key"),
        (|said| said.keys[0].key.truncate(20), "while parsing external public keys"),
    ];
    for (change, why) in changes {
        let (odd, _) = fake();
        change(&mut odd.said.lock().keys);
        let refused = connect(&odd).await.err().expect("is refused");
        assert!(refused.starts_with(&format!("while initially filling key cache: {why}")), "{refused}");
    }
}
