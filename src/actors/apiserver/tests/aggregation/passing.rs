use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use troupe_api::service::PatchType;

use super::{
    super::edge::door::Door,
    extension::{Extension, GROUP, Manners, becomes},
};
use crate::apiserver::testing::eventually;

const NAME: &str = "v1.wardle.example.com";
const FLUNDERS: &str = "/apis/wardle.example.com/v1/namespaces/default/flunders";

#[actix::test]
async fn requests_go_to_the_server_as_whoever_calls_and_without_credentials() {
    let extension = Extension::serve("flunder", "v1").await;
    let api = extension.boot().await;
    extension.make_service(&api, "flunder").await;
    api.create(extension.api_service("flunder")).await;
    becomes(&api, NAME, "Passed").await;
    let mut door = Door::open_to(api).await;
    let flunder = json!({"kind": "Flunder", "apiVersion": format!("{GROUP}/v1"), "metadata": {"name": "f"}});
    let mine = [
        ("authorization", "Basic c2VjcmV0"),
        ("x-remote-user", "somebody"),
        ("x-remote-group", "system:nodes"),
        ("x-remote-extra-a", "b"),
        ("x-mine", "kept"),
        ("content-type", "application/json"),
    ];
    let made = door.send("POST", &format!("{FLUNDERS}?fieldManager=me%2Fyou"), &mine, flunder.to_string()).await;
    assert_eq!((made.status.as_u16(), made.json()["metadata"]["uid"].clone()), (201, json!("uid-2")));
    let asked = extension.asked("POST");
    let asked = asked.first().expect("it was asked");
    assert_eq!(asked.line, format!("POST {FLUNDERS}?fieldManager=me%2Fyou"));
    assert_eq!(asked.all("x-remote-user"), ["admin"]);
    assert_eq!(asked.all("x-remote-group"), ["system:masters", "system:authenticated"]);
    assert!(asked.all("x-remote-extra-authentication.kubernetes.io%2fcredential-id")[0].starts_with("X509SHA256="));
    assert_eq!((asked.all("authorization"), asked.all("x-remote-extra-a")), (vec![], vec![]));
    assert_eq!((asked.all("x-mine"), asked.all("x-forwarded-for").len()), (vec!["kept"], 1));
    let got = door.get(&format!("{FLUNDERS}/f")).await;
    assert_eq!(got.json()["metadata"]["name"], "f");
    let missing = door.get(&format!("{FLUNDERS}/g")).await;
    assert_eq!(missing.refusal(), (404, "flunders \"g\" not found".to_owned()));
    assert_eq!(door.get("/apis/wardle.example.com/v1").await.json()["resources"][0]["name"], "flunders");
    // Whatever the server has below its version is its own.
    assert_eq!(door.get("/apis/wardle.example.com/v1/other").await.status, 404);
    door.close().await;
}

#[actix::test]
async fn watches_and_upgrades_are_passed_on_as_they_come() {
    let extension = Extension::serve("flunder", "v1").await;
    let api = extension.boot().await;
    extension.make_service(&api, "flunder").await;
    api.create(extension.api_service("flunder")).await;
    becomes(&api, NAME, "Passed").await;
    let door = Door::open_to(api).await;
    let mut watch = door.stream(&format!("{FLUNDERS}?watch=true"), &[]).await;
    assert_eq!(watch.status, 200);
    let mut other = door.another().await;
    for name in ["a", "b"] {
        other.post(FLUNDERS, &json!({"kind": "Flunder", "apiVersion": format!("{GROUP}/v1"), "metadata": {"name": name}})).await;
        let event = watch.line().await;
        assert_eq!((event["type"].as_str(), event["object"]["metadata"]["name"].as_str()), (Some("ADDED"), Some(name)));
    }
    let mut exec = door.another().await;
    let (status, mut stream) = exec.upgrade(&format!("{FLUNDERS}/a/exec"), "websocket").await;
    assert_eq!(status, 101);
    stream.write_all(b"hello").await.expect("is open");
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).await.expect("is open");
    assert_eq!(&answer, b"HELLO");
    assert_eq!(extension.asked("exec")[0].all("x-remote-user"), ["admin"]);
    drop((stream, watch));
    door.close().await;
}

#[actix::test]
async fn a_server_that_does_not_answer_is_told_as_upstream_tells_it_and_found_again() {
    let mut extension = Extension::serve("flunder", "v1").await;
    let api = extension.boot().await;
    api.create(extension.api_service("flunder")).await;
    becomes(&api, NAME, "ServiceNotFound").await;
    extension.make_service(&api, "flunder").await;
    becomes(&api, NAME, "Passed").await;
    extension.behave(Manners { broken: true, ..Manners::default() });
    // What it answers to a request is its own matter.
    let target = api.target("apiservices.apiregistration.k8s.io", "", NAME);
    let mut door = Door::open_to(api).await;
    assert_eq!(door.get(FLUNDERS).await.refusal(), (500, "I am broken".to_owned()));
    extension.die();
    // A change has it checked at once.
    door.api().patch(target.clone(), PatchType::Merge, json!({"spec": {"versionPriority": 201}})).await.expect("is patched");
    becomes(door.api(), NAME, "FailedDiscoveryCheck").await;
    let refused = door.get(FLUNDERS).await;
    assert_eq!((refused.status.as_u16(), &refused.body[..]), (503, &b"service unavailable\n"[..]));
    assert_eq!(refused.headers["content-type"], "text/plain; charset=utf-8");
    assert_eq!(door.get("/apis/wardle.example.com/v1").await.status, 503);
    extension.behave(Manners::default());
    extension.rise().await;
    becomes(door.api(), NAME, "Passed").await;
    eventually("requests go there again", async || door.get(FLUNDERS).await.status == 200).await;
    door.close().await;
}

#[actix::test]
async fn a_server_without_the_name_of_its_service_is_not_believed() {
    let extension = Extension::serve("another", "v1").await;
    let api = extension.boot().await;
    extension.make_service(&api, "flunder").await;
    api.create(extension.api_service("flunder")).await;
    becomes(&api, NAME, "FailedDiscoveryCheck").await;
    let mut insecure = extension.api_service("flunder");
    insecure["spec"]["insecureSkipTLSVerify"] = json!(true);
    insecure["spec"].as_object_mut().expect("fields").remove("caBundle");
    insecure["metadata"]["resourceVersion"] =
        json!(api.get("apiservices.apiregistration.k8s.io", "", NAME).await.expect("is there").str(&["metadata", "resourceVersion"]));
    api.try_update(insecure).await.expect("is taken");
    becomes(&api, NAME, "Passed").await;
}
