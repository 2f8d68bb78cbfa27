//! kubectl certificate: somebody asks for an identity, and an administrator says yes or no.

use base64::{Engine, prelude::BASE64_STANDARD};
use troupe_api::certificates::Draft;

use super::program::Kubectl;

pub fn are_approved_and_denied(kubectl: &Kubectl<'_>) {
    let user = format!("user-of-{}", kubectl.corner.namespace);
    let key = asks(kubectl, &user, &user);
    let row = kubectl.run(&format!("get csr {user} --no-headers"));
    assert!(row.contains("kubernetes.io/kube-apiserver-client") && row.trim_end().ends_with("Pending"), "{row}");
    let approved = format!("certificatesigningrequest.certificates.k8s.io/{user} approved\n");
    assert_eq!(kubectl.run(&format!("certificate approve {user}")), approved);
    kubectl.eventually(&format!("get csr {user} --no-headers"), |row| row.trim_end().ends_with("Approved,Issued"));
    let certificate = kubectl.run(&format!("get csr {user} -o 'jsonpath={{.status.certificate}}'"));
    let certificate = BASE64_STANDARD.decode(certificate).expect("base64");
    let certificate = kubectl.corner.file("user.crt", &String::from_utf8(certificate).expect("PEM"));
    let key = kubectl.corner.file("user.key", &key);
    let access = kubectl.corner.access();
    let ca = kubectl.corner.file("ca.crt", &access.ca_pem);
    let as_user = format!(
        "--kubeconfig=/dev/null --server={} --certificate-authority={ca} --client-certificate={certificate} --client-key={key}",
        access.server
    );
    assert!(kubectl.run(&format!("{as_user} auth whoami")).contains(&user));
    let refused = kubectl.fails(&format!("{as_user} get nodes"));
    assert!(refused.contains(&format!("nodes is forbidden: User \"{user}\" cannot list resource \"nodes\"")), "{refused}");

    let nobody = format!("nobody-of-{}", kubectl.corner.namespace);
    asks(kubectl, &nobody, "nobody");
    let denied = format!("certificatesigningrequest.certificates.k8s.io/{nobody} denied\n");
    assert_eq!(kubectl.run(&format!("certificate deny {nobody}")), denied);
    kubectl.eventually(&format!("get csr {nobody} --no-headers"), |row| row.trim_end().ends_with("Denied"));
    let late = kubectl.fails(&format!("certificate approve {nobody}"));
    assert!(late.contains("is already Denied"), "{late}");
    assert_eq!(kubectl.run(&format!("get csr {nobody} -o 'jsonpath={{.status.certificate}}'")), "");
    kubectl.run(&format!("delete csr {user} {nobody}"));
}

/// Makes a request for a client certificate, and its key.
fn asks(kubectl: &Kubectl<'_>, name: &str, user: &str) -> String {
    let keyed = Draft { common_name: user.to_owned(), ..Draft::default() }.with_new_key().expect("a key");
    let request = BASE64_STANDARD.encode(keyed.request_pem);
    let manifest = format!(
        "apiVersion: certificates.k8s.io/v1\nkind: CertificateSigningRequest\nmetadata: {{name: {name}}}\n\
         spec: {{signerName: kubernetes.io/kube-apiserver-client, usages: [client auth], request: {request}}}\n"
    );
    let file = kubectl.corner.file(&format!("{name}.yaml"), &manifest);
    let created = kubectl.run(&format!("create -f {file}"));
    assert_eq!(created, format!("certificatesigningrequest.certificates.k8s.io/{name} created\n"));
    keyed.key_pem
}
