//! The real kubectl against the front door, where it is installed.

use std::{path::Path, process::Output};

use tokio::process::Command;
use troupe_api::auth::kubeconfig::Kubeconfig;

use super::{client::Door, fake::FakeService};

async fn kubectl(home: &Path, arguments: &[&str]) -> Output {
    let config = home.join("kubeconfig");
    let mut command = Command::new("kubectl");
    command.env("HOME", home).env("KUBECONFIG", config).args(arguments).kill_on_drop(true);
    command.output().await.expect("kubectl runs")
}

fn installed() -> bool {
    std::process::Command::new("kubectl").args(["version", "--client"]).output().is_ok()
}

#[actix_web::test]
async fn kubectl_discovers_creates_gets_and_deletes() {
    if !installed() {
        return;
    }
    let door = Door::open(FakeService::new(), |_| {});
    let home = door.dir.path().to_owned();
    let kubeconfig = Kubeconfig { server: format!("https://{}", door.handle.addr()), ca_pem: door.pki.ca_pem().into(), identity: door.admin.clone() };
    kubeconfig.write(&home.join("kubeconfig"), "fake").expect("a kubeconfig");
    let resources = kubectl(&home, &["api-resources", "-o", "name"]).await;
    let listed = String::from_utf8_lossy(&resources.stdout).into_owned();
    assert!(listed.contains("deployments.apps") && listed.lines().any(|line| line == "pods"), "{listed} {resources:?}");
    let made = kubectl(&home, &["create", "configmap", "a", "--from-literal=k=v"]).await;
    assert_eq!(String::from_utf8_lossy(&made.stdout), "configmap/a created\n", "{made:?}");
    let got = kubectl(&home, &["get", "configmaps"]).await;
    assert!(String::from_utf8_lossy(&got.stdout).starts_with("NAME"), "{got:?}");
    let got = kubectl(&home, &["get", "cm", "a", "-o", "jsonpath={.data.k}"]).await;
    assert_eq!(String::from_utf8_lossy(&got.stdout), "v", "{got:?}");
    let gone = kubectl(&home, &["delete", "configmap", "a", "--wait=false"]).await;
    assert!(gone.status.success(), "{gone:?}");
    let missing = kubectl(&home, &["get", "configmap", "a"]).await;
    assert_eq!(String::from_utf8_lossy(&missing.stderr), "Error from server (NotFound): configmaps \"a\" not found\n");
    // Typed commands send protobuf.
    let made = kubectl(&home, &["create", "deployment", "web", "--image=x", "--replicas=2"]).await;
    assert_eq!(String::from_utf8_lossy(&made.stdout), "deployment.apps/web created\n", "{made:?}");
    let spec = "jsonpath={.spec.replicas} {.spec.template.spec.containers[0].image} {.spec.selector.matchLabels.app}";
    let got = kubectl(&home, &["get", "deployment", "web", "-o", spec]).await;
    assert_eq!(String::from_utf8_lossy(&got.stdout), "2 x web", "{got:?}");
    let explained = kubectl(&home, &["explain", "configmap.data"]).await;
    assert!(String::from_utf8_lossy(&explained.stdout).contains("FIELD: data"), "{explained:?}");
    std::fs::write(home.join("b.yaml"), "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: b\ndata:\n  k: w\n").expect("writes");
    let file = home.join("b.yaml").to_string_lossy().into_owned();
    let applied = kubectl(&home, &["apply", "-f", &file]).await;
    assert_eq!(String::from_utf8_lossy(&applied.stdout), "configmap/b created\n", "{applied:?}");
    let version = kubectl(&home, &["version"]).await;
    assert!(String::from_utf8_lossy(&version.stdout).contains("Server Version: v1.36.0+troupe.0.0.1"), "{version:?}");
}
