//! Certificates of pods on a live cluster (KEP-4317): the node makes keys and asks, a signer in the test answers, a pod reads what it got.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use troupe_api::{
    auth::{pki::Pki, x509::facts_of_pem},
    certificates::{CertificateAuthority, Policy, SigningRequest},
    meta::time::format_time,
};

use crate::cluster::{Cluster, apply, eventually};

const OBJECTS: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: certified}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: busybox:1.35
    command: [sh, -c, "cat /v/bundle.pem /v/key.pem /v/chain.pem; exec sleep 3600"]
    volumeMounts: [{name: v, mountPath: /v}]
  volumes:
  - name: v
    projected:
      sources:
      - podCertificate: {signerName: example.com/good, keyType: ECDSAP521, maxExpirationSeconds: 7200, credentialBundlePath: bundle.pem}
      - podCertificate: {signerName: example.com/good, keyType: RSA3072, keyPath: key.pem, certificateChainPath: chain.pem}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: certified}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: c
    image: busybox:1.35
    command: [sleep, "3600"]
    volumeMounts: [{name: v, mountPath: /v}]
  volumes:
  - name: v
    projected:
      sources:
      - podCertificate: {signerName: example.com/bad, keyType: ED25519, credentialBundlePath: bundle.pem}
"#;

#[test]
fn a_pod_reads_what_a_signer_made_for_its_keys() {
    let cluster = Cluster::place();
    cluster.start_with(&["--feature-gates", "PodCertificateRequest=true", "--runtime-config", "certificates.k8s.io/v1beta1=true"]);
    let signer = Signer::new();
    cluster.kubectl("create namespace certified");
    cluster.eventually_has("serviceaccount/default", "certified");
    apply(&cluster, OBJECTS);
    let is_running = || cluster.kubectl("-n certified get pod web -o jsonpath={.status.phase}") == "Running";
    eventually("the pod has its certificates and runs", || {
        signer.answer(&cluster);
        is_running()
    });
    let log = || cluster.kubectl("-n certified logs web");
    eventually("the pod has read them", || log().matches("-----END CERTIFICATE-----").count() == 2);
    let (log, chains) = (log(), signer.chains(&cluster));
    assert_eq!((chains.len(), log.matches("-----BEGIN PRIVATE KEY-----").count()), (2, 2));
    assert!(chains.values().all(|chain| log.contains(chain)), "{log}");
    let table = cluster.kubectl("-n certified get podcertificaterequests --field-selector=spec.podName=web");
    assert!(table.starts_with("NAME") && table.contains("SERVICEACCOUNTNAME") && table.matches("Issued").count() == 2, "{table}");
    let told =
        || cluster.kubectl("-n certified get events --field-selector=involvedObject.name=stranger,reason=Denied -o jsonpath={.items[*].message}");
    eventually("the other pod is told that it gets nothing", || told().contains("was denied, reason=\"Stranger\", message=\"not here\""));
    assert_eq!(cluster.kubectl("-n certified get pod stranger -o jsonpath={.status.phase}"), "Pending");
}

/// Signs what `example.com/good` is asked for, and denies everything else.
struct Signer(CertificateAuthority);

impl Signer {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let pki = Pki::open(directory.path()).expect("a CA");
        Signer(CertificateAuthority::new(pki.ca_pem(), &pki.ca_key_pem().expect("a key")).expect("a CA"))
    }

    /// Answers the requests that nobody has answered.
    fn answer(&self, cluster: &Cluster) {
        for request in requests(cluster).into_iter().filter(|request| request["status"]["conditions"].is_null()) {
            let name = request["metadata"]["name"].as_str().expect("a name");
            let is_known = request["spec"]["signerName"] == "example.com/good";
            let status = if is_known { self.sign(&request) } else { json!({"conditions": [verdict("Denied", "Stranger", "not here")]}) };
            let patch = json!({"status": status}).to_string();
            cluster.kubectl_words(&[
                "-n",
                "certified",
                "patch",
                "podcertificaterequests",
                name,
                "--subresource=status",
                "--type=merge",
                "-p",
                patch.as_str(),
            ]);
        }
    }

    /// A certificate that begins now and lasts for 65 minutes.
    fn sign(&self, request: &Value) -> Value {
        let der = BASE64_STANDARD.decode(request["spec"]["stubPKCS10Request"].as_str().expect("a request")).expect("base64");
        let asked = SigningRequest::from_der(der).expect("a request");
        // It begins five minutes before what it is told.
        let now = Timestamp::now() + SignedDuration::from_mins(5);
        let policy = Policy { usages: &["client auth".to_owned()], lasts: SignedDuration::from_hours(1), now };
        let chain = self.0.sign(&asked, &policy).expect("signs");
        let facts = facts_of_pem(chain.as_bytes()).expect("a certificate");
        let [begins, refresh, ends] = [facts.not_before, facts.not_after - SignedDuration::from_mins(20), facts.not_after].map(format_time);
        json!({"conditions": [verdict("Issued", "Known", "")], "certificateChain": chain, "notBefore": begins, "beginRefreshAt": refresh,
            "notAfter": ends})
    }

    /// What was issued, by request.
    fn chains(&self, cluster: &Cluster) -> BTreeMap<String, String> {
        let of = |request: &Value| {
            let chain = request["status"]["certificateChain"].as_str()?;
            Some((request["metadata"]["name"].to_string(), chain.to_owned()))
        };
        requests(cluster).iter().filter_map(of).collect()
    }
}

fn requests(cluster: &Cluster) -> Vec<Value> {
    let text = cluster.kubectl("-n certified get podcertificaterequests -o json");
    let list: Value = serde_json::from_str(&text).expect("JSON");
    list["items"].as_array().cloned().unwrap_or_default()
}

fn verdict(kind: &str, reason: &str, message: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": format_time(Timestamp::now())})
}
