//! Identities that others vouch for, and requests without any.

use std::sync::Arc;

use futures::future::BoxFuture;
use serde_json::json;
use troupe_api::{
    auth::{Attributes, Authenticator, Authorizer, Credentials, Decision},
    service::UserInfo,
    status::Status,
};

use super::{client::Door, fake::FakeService};

/// Knows nobody until it has asked somebody.
struct Asking;

fn jane(credentials: &Credentials<'_>) -> Result<Option<UserInfo>, Status> {
    match credentials.bearer {
        Some("janes") => Ok(Some(UserInfo { name: "jane".into(), ..UserInfo::default() })),
        Some(_) => Err(Status::unauthorized()),
        None => Ok(Some(UserInfo { name: "system:anonymous".into(), groups: vec!["system:unauthenticated".into()], ..UserInfo::default() })),
    }
}

impl Authenticator for Asking {
    fn authenticate(&self, _credentials: &Credentials<'_>) -> Result<Option<UserInfo>, Status> {
        Err(Status::unauthorized())
    }

    fn ask<'a>(&'a self, credentials: &'a Credentials<'a>) -> Option<BoxFuture<'a, Result<Option<UserInfo>, Status>>> {
        Some(Box::pin(async move {
            tokio::task::yield_now().await;
            jane(credentials)
        }))
    }
}

/// Lets jane read after it has asked somebody, and everybody look at health.
struct Judge;

impl Authorizer for Judge {
    fn authorize(&self, _user: &UserInfo, _attributes: &Attributes<'_>) -> Decision {
        Decision::NoOpinion("nobody was asked".into())
    }

    fn decide<'a>(&'a self, user: &'a UserInfo, attributes: &'a Attributes<'a>) -> Option<BoxFuture<'a, Decision>> {
        Some(Box::pin(async move {
            tokio::task::yield_now().await;
            let allowed = attributes.path.is_some() || user.name == "jane" && attributes.verb == "list";
            if allowed { Decision::Allow } else { Decision::Deny("only lists".into()) }
        }))
    }
}

#[actix_web::test]
async fn who_asks_others_is_waited_for() {
    let door = Door::open(FakeService::new(), |options| {
        options.authenticator = Arc::new(Asking);
        options.authorizer = Arc::new(Judge);
    });
    let mut connection = door.connect(false).await;
    let mut get = async |method: &str, path: &str, token: &str| {
        let bearer = format!("Bearer {token}");
        connection.send(method, path, &[("authorization", bearer.as_str())], "").await
    };
    let maps = "/api/v1/namespaces/default/configmaps";
    assert_eq!(get("GET", maps, "janes").await.status, 200);
    assert_eq!(get("GET", maps, "others").await.status, 401);
    let refused = get("DELETE", maps, "janes").await;
    assert_eq!(refused.status, 403);
    assert!(refused.json()["message"].as_str().is_some_and(|told| told.ends_with(": only lists")), "{}", refused.json());
}

#[actix_web::test]
async fn requests_without_credentials_are_taken_for_some_paths_only() {
    let door = Door::open(FakeService::new(), |options| {
        options.authenticator = Arc::new(Asking);
        options.authorizer = Arc::new(Judge);
        options.anonymous_paths = Some(vec!["/healthz".into()]);
    });
    let mut connection = door.connect(false).await;
    assert_eq!(connection.get("/healthz").await.status, 200);
    for path in ["/livez", "/version", "/healthz/ping"] {
        let refused = connection.get(path).await;
        assert_eq!((refused.status.as_u16(), refused.json()["reason"].clone()), (401, json!("Unauthorized")), "{path}");
    }
}
