use std::sync::Arc;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Pod, Secret, ServiceAccount};
use serde_json::{Value, json};
use troupe_api::{
    auth::{
        Authenticator, Credentials,
        tokens::{
            Issuer, LegacyVerifier, SigningKey,
            usage::{INVALID_SINCE, LAST_USED, TRACKING, day_of},
        },
    },
    certificates::Draft,
    meta::{ObjectKey, SystemClock, time::parse_time},
    service::PatchType,
};

use super::{
    super::{
        legacy_tokens::{LegacyTokenCleaner, LegacyTokenTracking, NotedUses, TokenUseController},
        token_secrets::TokenSecretController,
    },
    World, eventually, eventually_async,
};

impl World {
    async fn token_secret(&self, name: &str, labels: Value) {
        let annotations = json!({"kubernetes.io/service-account.name": "default"});
        let metadata = json!({"name": name, "namespace": "default", "labels": labels, "annotations": annotations});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "kubernetes.io/service-account-token"});
        self.api.create(secret).await;
    }

    /// A label of a secret; `None` where there is no such secret.
    async fn secret_label(&self, name: &str, label: &str) -> Option<String> {
        let secret = self.api.get("secrets", "default", name).await.ok()?;
        Some(secret.str(&["metadata", "labels", label]).to_owned())
    }

    fn today(&self) -> String {
        day_of(self.system.clock().now())
    }
}

#[actix::test]
async fn the_day_on_which_a_token_is_used_is_noted_on_its_secret() {
    let world = World::new().await;
    let key = Draft::node_client("n1").with_new_key().expect("a key");
    let issuer = Arc::new(Issuer::new(SigningKey::from_pem(&key.key_pem).expect("a key")));
    let uses: Arc<NotedUses> = Arc::default();
    world.start(TokenSecretController::new(&world.caches, issuer.clone(), "CA"));
    world.start(TokenUseController::new(uses.clone()));
    world.token_secret("s", json!({})).await;
    let secrets = world.client().namespaced::<Secret>("default");
    let token = async || secrets.get("s").await.ok()?.data.as_ref()?.get("token").map(|token| token.0.clone());
    eventually_async("the secret has its token", async || token().await.is_some()).await;
    let token = String::from_utf8(token().await.expect("there")).expect("text");
    let listers = world.api.server.listers();
    let audiences = issuer.audiences().to_vec();
    let verifier = LegacyVerifier::new(vec![issuer.public_key().clone()], audiences, listers, Arc::new(SystemClock), uses);
    let authenticate = || verifier.authenticate(&Credentials { bearer: Some(&token), ..Credentials::default() });
    let earliest = world.today();
    eventually_async("the day is noted", async || {
        assert_eq!(authenticate().expect("is taken").expect("a user").name, "system:serviceaccount:default:default");
        let noted = world.secret_label("s", LAST_USED).await.expect("there");
        noted == earliest || noted == world.today()
    })
    .await;
    let marked = json!({"metadata": {"labels": {INVALID_SINCE: "2020-01-01"}}});
    world.api.patch(world.api.target("secrets", "default", "s"), PatchType::Merge, marked).await.expect("is marked");
    assert_eq!(authenticate().expect_err("is refused").code, 401);
}

#[actix::test]
async fn an_account_lists_no_secret_that_is_gone() {
    let world = World::new().await;
    let key = Draft::node_client("n1").with_new_key().expect("a key");
    let issuer = Arc::new(Issuer::new(SigningKey::from_pem(&key.key_pem).expect("a key")));
    world.start(TokenSecretController::new(&world.caches, issuer, "CA"));
    world.token_secret("s", json!({})).await;
    let listed = json!({"secrets": [{"name": "s"}, {"name": "other"}]});
    world.api.patch(world.api.target("serviceaccounts", "default", "default"), PatchType::Merge, listed).await.expect("it lists them");
    let filled = async || !world.api.get("secrets", "default", "s").await.expect("there").str(&["data", "token"]).is_empty();
    eventually_async("the secret is known", filled).await;
    world.api.delete("secrets", "default", "s", Default::default()).await.expect("deleted");
    let lists = async || world.api.get("serviceaccounts", "default", "default").await.expect("there").list(&["secrets"]).to_vec();
    eventually_async("the other one is left", async || lists().await == [json!({"name": "other"})]).await;
}

#[actix::test]
async fn tokens_that_nobody_uses_are_marked_and_those_that_nobody_missed_go() {
    let world = World::new().await;
    world.start(LegacyTokenTracking::new(&world.caches));
    let tracking = async || world.api.get("configmaps", "kube-system", TRACKING).await;
    eventually_async("it is said since when uses are noted", async || tracking().await.is_ok()).await;
    assert_eq!(tracking().await.expect("there").str(&["data", "since"]), world.today());
    let long = json!({"data": {"since": "2020-01-01"}});
    world.api.patch(world.api.target("configmaps", "kube-system", TRACKING), PatchType::Merge, long).await.expect("is changed");
    let listed: Vec<Value> = ["forgotten", "mounted", "unused", "used"].iter().map(|name| json!({"name": name})).collect();
    let target = world.api.target("serviceaccounts", "default", "default");
    world.api.patch(target, PatchType::Merge, json!({"secrets": listed})).await.expect("the account lists them");
    let volumes = json!([{"name": "v", "secret": {"secretName": "mounted"}}]);
    let spec = json!({"containers": [{"name": "c", "image": "a:1"}], "volumes": volumes});
    world.api.create(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "default"}, "spec": spec})).await;
    world.token_secret("forgotten", json!({INVALID_SINCE: "2020-01-01"})).await;
    world.token_secret("used", json!({LAST_USED: world.today()})).await;
    for name in ["by-hand", "mounted", "unused"] {
        world.token_secret(name, json!({})).await;
    }
    let (accounts, pods) = (world.caches.cache::<ServiceAccount>(), world.caches.cache::<Pod>());
    let account = ObjectKey::new("default", "default");
    eventually("account and pod are seen", || {
        let lists = accounts.get(&account).and_then(|account| Some(account.object.secrets.as_ref()?.len()));
        lists == Some(4) && pods.contains(&ObjectKey::new("default", "p"))
    })
    .await;
    let last = world.api.get("secrets", "default", "unused").await.expect("there");
    let made = parse_time(last.str(&["metadata", "creationTimestamp"])).expect("a time");
    let unused = SignedDuration::from_secs(1);
    eventually("the secrets are old enough", || world.system.clock().now().duration_since(made) > unused).await;
    world.start(LegacyTokenCleaner::new(&world.caches, unused));
    eventually_async("what nobody missed is gone", async || world.secret_label("forgotten", INVALID_SINCE).await.is_none()).await;
    eventually_async("what nobody uses is marked", async || world.secret_label("unused", INVALID_SINCE).await.is_some_and(|since| !since.is_empty()))
        .await;
    world.settles().await;
    for name in ["by-hand", "mounted", "used"] {
        assert_eq!(world.secret_label(name, INVALID_SINCE).await.as_deref(), Some(""), "{name}");
    }
}
