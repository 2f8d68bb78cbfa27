use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::{certificates::v1::CertificateSigningRequest, core::v1::Node},
};
use serde_json::{Value, json};
use troupe_api::{
    auth::certificates::{Draft, SigningRequest},
    meta::time::format_time,
};

use super::{
    approver::recognised,
    cleaner::goes_at,
    serving::{Verdict, judge},
    signer::{LASTS, accepted, lasts},
};

struct Asks<'a> {
    signer: &'a str,
    user: &'a str,
    auth: &'a str,
    ips: &'a [IpAddr],
}

/// A request for the node `one`.
fn request(asks: &Asks<'_>) -> (CertificateSigningRequest, SigningRequest) {
    let serving = Draft::node_serving("one", asks.ips.to_vec());
    let draft = if asks.ips.is_empty() { Draft::node_client("one") } else { serving };
    let pem = draft.with_new_key().expect("a request").request_pem;
    let mut request: CertificateSigningRequest = serde_json::from_value(json!({"metadata": {"name": "r"}, "spec": {
        "request": "", "signerName": asks.signer, "username": asks.user, "groups": ["system:nodes", "system:authenticated"],
        "usages": ["digital signature", asks.auth]}}))
    .expect("a request");
    request.spec.request = ByteString(pem.clone().into_bytes());
    (request, SigningRequest::from_pem(pem.as_bytes()).expect("reads"))
}

fn node(addresses: Value) -> Node {
    serde_json::from_value(json!({"metadata": {"name": "one"}, "status": {"addresses": addresses}})).expect("a node")
}

const CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const SERVING: &str = "kubernetes.io/kubelet-serving";

#[test]
fn a_node_renews_by_one_right_and_is_bootstrapped_by_another() {
    let ways = |user: &str, auth: &str| {
        let (request, asked) = request(&Asks { signer: CLIENT, user, auth, ips: &[] });
        recognised(&request, &asked).into_iter().map(|(way, _)| way).collect::<Vec<_>>()
    };
    assert_eq!(ways("system:node:one", "client auth"), ["selfnodeclient", "nodeclient"]);
    assert_eq!(ways("system:bootstrap:abcdef", "client auth"), ["nodeclient"]);
    assert_eq!(ways("system:node:one", "server auth"), Vec::<&str>::new());
}

#[test]
fn a_serving_certificate_is_approved_for_registered_addresses_only() {
    let ip = [IpAddr::from([10, 0, 0, 7])];
    let judged = |user: &str, node: Option<&Node>| {
        let (request, asked) = request(&Asks { signer: SERVING, user, auth: "server auth", ips: &ip });
        judge(&request, &asked, node)
    };
    let registered = node(json!([{"type": "InternalIP", "address": "10.0.0.7"}, {"type": "Hostname", "address": "one"}]));
    let elsewhere = node(json!([{"type": "InternalIP", "address": "10.0.0.8"}, {"type": "Hostname", "address": "one"}]));
    assert_eq!(judged("system:node:one", Some(&registered)), Verdict::Approve);
    assert_eq!(judged("system:node:one", Some(&elsewhere)), Verdict::Wait);
    assert_eq!(judged("system:node:one", None), Verdict::Wait);
    assert_eq!(judged("system:node:two", Some(&registered)), Verdict::Foreign);
}

#[test]
fn signers_refuse_wrong_usages_and_leave_others_signers_alone() {
    let judged = |signer: &str, auth: &str| {
        let (request, asked) = request(&Asks { signer, user: "u", auth, ips: &[] });
        accepted(&request, &asked)
    };
    assert_eq!(judged(CLIENT, "client auth"), Some(Ok(())));
    assert_eq!(judged(SERVING, "server auth"), Some(Err("DNS or IP subjectAltName is required".into())));
    assert_eq!(judged("kubernetes.io/kube-apiserver-client", "code signing"), Some(Err("invalid usage for client certificate: code signing".into())));
    assert_eq!(judged("example.com/signer", "client auth"), None);
    let lasts = |asked| lasts(asked, LASTS).as_secs();
    assert_eq!((lasts(Some(1)), lasts(Some(3600))), (600, 3600));
    assert_eq!(lasts(None), lasts(Some(i32::MAX)));
    let short = SignedDuration::from_secs(90);
    assert_eq!((super::signer::lasts(None, short), super::signer::lasts(Some(3600), short)), (short, short));
}

#[test]
fn requests_go_after_an_hour_when_settled_and_after_a_day_when_not() {
    let now = Timestamp::from_second(1_000_000).expect("a time");
    let (mut request, _) = request(&Asks { signer: CLIENT, user: "u", auth: "client auth", ips: &[] });
    request.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
    assert_eq!(goes_at(&request), Some(now + SignedDuration::from_hours(24)));
    let later = now + SignedDuration::from_mins(1);
    let verdict = |kind: &str| json!({"conditions": [{"type": kind, "status": "True", "lastUpdateTime": format_time(later)}]});
    request.status = Some(serde_json::from_value(verdict("Denied")).expect("a status"));
    assert_eq!(goes_at(&request), Some(later + SignedDuration::from_hours(1)));
    request.status = Some(serde_json::from_value(verdict("Approved")).expect("a status"));
    assert_eq!(goes_at(&request), Some(later + SignedDuration::from_hours(24)));
}
