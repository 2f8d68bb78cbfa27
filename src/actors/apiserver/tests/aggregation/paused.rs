//! Safe mode: servers of API services are asked nothing, and all else is served.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use troupe_api::{
    ApiService,
    service::{ListOptions, Operation},
};
use troupe_api_server::store::{Store, memory::MemoryStore};

use super::{
    super::edge::door::Door,
    extension::{Extension, GROUP, becomes, reason},
};
use crate::apiserver::{Bootstrap, testing::eventually};

const NAME: &str = "v1.wardle.example.com";
const SERVICES: &str = "apiservices.apiregistration.k8s.io";
const FLUNDERS: &str = "/apis/wardle.example.com/v1/namespaces/default/flunders";

#[actix::test]
async fn no_other_server_is_asked_and_what_names_it_can_be_removed() {
    let extension = Extension::serve("flunder", "v1").await;
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let kept = store.clone();
    let usual = extension.boot_with(|options| options.store = kept).await;
    extension.make_service(&usual, "flunder").await;
    usual.create(extension.api_service("flunder")).await;
    becomes(&usual, NAME, "Passed").await;
    eventually("it is discovered", async || usual.server.registry().by_resource(GROUP, "flunders").is_some()).await;
    eventually("the usual server has asked what it wants to know", async || {
        let before = extension.asked("").len();
        tokio::time::sleep(Duration::from_millis(300)).await;
        extension.asked("").len() == before
    })
    .await;
    let asked = extension.asked("").len();
    let safe = extension
        .boot_with(|options| {
            options.store = store;
            options.extensions_paused = true;
        })
        .await;
    safe.server.bootstrap(&Bootstrap::default()).await.expect("what it serves by itself has API services");
    let mut door = Door::open_to(safe).await;
    for path in [FLUNDERS.to_owned(), format!("{FLUNDERS}?watch=true"), format!("{FLUNDERS}/f"), format!("/apis/{GROUP}/v1")] {
        let (code, told) = door.get(&path).await.refusal();
        assert!(code == 503 && told.contains("safe mode"), "{path}: {code} {told}");
    }
    let refused = door.post(FLUNDERS, &json!({"kind": "Flunder", "apiVersion": format!("{GROUP}/v1"), "metadata": {"name": "f"}})).await;
    assert_eq!(refused.status, 503);
    // Nor do units of this process reach it: they know of nothing there.
    let registry = door.api().server.registry();
    assert!(registry.aggregated().rows().is_empty(), "{:?}", registry.aggregated().rows());
    // Whoever has a row of before is told the same.
    let row = usual.target("flunders.wardle.example.com", "default", "");
    let told = door.api().call(row, Operation::List(ListOptions::default())).await.expect_err("nobody is asked");
    assert!(told.code == 503 && told.message.contains("safe mode"), "{told:?}");
    assert_eq!(extension.asked("").len(), asked, "it was asked nothing, not even how it is");
    // Everything of this server's is served and discovered, and says what it is.
    assert_eq!(door.get("/apis/apps/v1/deployments").await.status, 200);
    assert!(door.get("/apis/apps/v1").await.json()["resources"].as_array().is_some_and(|resources| !resources.is_empty()));
    let groups = door.get("/apis").await.json();
    let has = |name: &str| groups["groups"].as_array().expect("groups").iter().any(|group| group["name"] == name);
    assert!(has("apps") && has("apiregistration.k8s.io") && has(GROUP));
    becomes(door.api(), "v1.apps", "Local").await;
    assert_eq!(reason(door.api(), NAME).await, "Passed", "others go by what it says");
    assert_eq!(door.send("DELETE", &format!("/apis/apiregistration.k8s.io/v1/apiservices/{NAME}"), &[], "").await.status, 200);
    eventually("its group goes with it", async || door.get(FLUNDERS).await.status == 404).await;
    assert!(door.api().get(SERVICES, "", NAME).await.is_err());
    assert!(extension.asked("flunders").is_empty(), "it was asked for no object");
    door.close().await;
}
