//! The jobs of a chart that give its webhook a certificate, tell the API server whom to trust, and clean up.

use k8s_openapi::{
    ByteString,
    api::{admissionregistration::v1::ValidatingWebhookConfiguration, core::v1::Secret},
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::json;
use troupe_api::auth::pki::{LeafSpec, Pki};

const MANAGER: &str = "widget-certificates";
const AUTHORITY: &str = "ca.crt";

fn release() -> String {
    std::env::var("OPERATOR_RELEASE").expect("the chart names its release")
}

/// The Secret with the webhook's certificate, which is no part of the chart.
fn secret() -> String {
    format!("{}-webhook", release())
}

/// Makes a certificate for the webhook's Service and keeps it.
pub async fn certify(client: &Client) {
    let namespace = client.default_namespace();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let pki = Pki::open(dir.path()).expect("a CA");
    let name = format!("{}.{namespace}.svc", secret());
    let spec = LeafSpec { file: "webhook".into(), common_name: name.clone(), dns_names: vec![name], server: true, ..LeafSpec::default() };
    let made = pki.leaf(&spec).expect("a certificate");
    let data = json!({"tls.crt": made.certificate_pem, "tls.key": made.key_pem, AUTHORITY: pki.ca_pem()});
    let secret_object =
        json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": secret()}, "stringData": data});
    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    secrets.patch(&secret(), &PatchParams::apply(MANAGER).force(), &Patch::Apply(secret_object)).await.expect("is kept");
}

/// Puts the webhook's authority into its configuration.
pub async fn trust(client: &Client) {
    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    let found = secrets.get(&secret()).await.expect("was made").data.expect("has data");
    let authority: &ByteString = &found[AUTHORITY];
    let configurations: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let change = json!([{"op": "add", "path": "/webhooks/0/clientConfig/caBundle", "value": authority}]);
    let change = Patch::<()>::Json(serde_json::from_value(change).expect("a patch"));
    configurations.patch(&release(), &PatchParams::default(), &change).await.expect("is told");
}

/// Takes the certificate away.
pub async fn forget(client: &Client) {
    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    match secrets.delete(&secret(), &DeleteParams::default()).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 404 => {}
        Err(error) => panic!("{error}"),
    }
}
