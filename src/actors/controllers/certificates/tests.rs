use std::{net::IpAddr, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    ByteString,
    api::{certificates::v1::CertificateSigningRequest, core::v1::Node, networking::v1::ServiceCIDR},
};
use serde_json::json;
use troupe_api::{
    auth::{
        node::{ClusterIdentity, Reserved},
        peer::PEER_ADDRESS,
    },
    certificates::{Draft, SigningRequest},
    meta::{Object, Revision, time::format_time},
    stored::StoredObject,
};

use super::{
    approver::{names_a_node, recognised},
    cleaner::goes_at,
    pod_requests::stays,
    serving::{NodeAddresses, Verdict, judge},
    signer::{LASTS, accepted, lasts},
    with_ranges,
};
use crate::runtime::cache::{Cache, digest_of};

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
fn only_what_a_node_can_be_called_is_approved() {
    assert!(names_a_node("system:node:one.example"));
    for name in ["system:node:", "system:node:One", "system:node:one.", "system:node:a:b/../c", "one"] {
        assert!(!names_a_node(name), "{name}");
    }
}

fn cluster() -> ClusterIdentity {
    ClusterIdentity {
        service_ranges: vec!["10.96.0.0/12".parse().expect("a range")],
        servers: [IpAddr::from([10, 0, 0, 1])].into(),
        names: ["api.example.com".to_owned()].into(),
        ..ClusterIdentity::default()
    }
}

/// Judges a request of the node `name` for this address, which comes from the address `peer`.
fn judged(name: &str, ip: &str, peer: Option<&str>, nodes: &[Arc<NodeAddresses>]) -> Verdict {
    let ip: IpAddr = ip.parse().expect("an address");
    let draft = Draft::node_serving(name, vec![ip]).with_new_key().expect("a request");
    let (mut request, _) = request(&Asks { signer: SERVING, user: &format!("system:node:{name}"), auth: "server auth", ips: &[ip] });
    request.spec.extra = peer.map(|peer| [(PEER_ADDRESS.to_owned(), vec![peer.to_owned()])].into());
    judge(&request, &SigningRequest::from_pem(draft.request_pem.as_bytes()).expect("reads"), nodes, &cluster())
}

fn shows(name: &str, ip: &str) -> Arc<NodeAddresses> {
    let addresses = json!([{"type": "InternalIP", "address": ip}, {"type": "Hostname", "address": name}]);
    digest_of(&serde_json::from_value::<Node>(json!({"metadata": {"name": name}, "status": {"addresses": addresses}})).expect("a node"))
}

#[test]
fn a_serving_certificate_is_approved_for_the_address_that_it_is_asked_from() {
    let (here, registered) = (Some("10.0.0.7"), [shows("one", "10.0.0.7"), shows("two", "10.0.0.8")]);
    let waits = |verdict: Verdict, reason: &str| assert_eq!(verdict, Verdict::Wait(reason.into()));
    assert_eq!(judged("one", "10.0.0.7", here, &registered), Verdict::Approve);
    assert_eq!(judged("one", "10.0.0.7", Some("in-process"), &registered), Verdict::Approve);
    waits(judged("one", "10.0.0.7", here, &[]), "the node is not registered");
    waits(judged("one", "10.0.0.7", here, &[shows("one", "10.0.0.9")]), "the node does not show the address 10.0.0.7");
    waits(judged("one", "10.0.0.7", None, &registered), "the request does not come from 10.0.0.7");
    waits(judged("one", "10.0.0.9", here, &[shows("one", "10.0.0.9")]), "the request does not come from 10.0.0.9");
    waits(judged("one", "10.0.0.8", Some("10.0.0.8"), &registered), "10.0.0.8 is node \"two\"'s");
}

#[test]
fn a_node_that_writes_the_api_servers_names_into_its_status_gets_no_certificate_for_them() {
    for ip in ["10.0.0.1", "10.96.0.1", "127.0.0.1", "169.254.169.254", "::1"] {
        let verdict = judged("one", ip, Some(ip), &[shows("one", ip)]);
        assert!(matches!(&verdict, Verdict::Wait(why) if why.starts_with(ip)), "{ip}: {verdict:?}");
    }
    for name in ["kubernetes", "kubernetes.default.svc", "localhost", "api.example.com", "a.b.svc.cluster.local"] {
        let verdict = judged(name, "10.0.0.7", Some("10.0.0.7"), &[shows(name, "10.0.0.7")]);
        assert_eq!(verdict, Verdict::Wait(format!("{name:?} is not a name of the node alone")));
    }
}

#[test]
fn what_is_not_the_nodes_own_request_is_left_alone() {
    let ip = [IpAddr::from([10, 0, 0, 7])];
    let judged = |user: &str, auth: &str| {
        let (request, asked) = request(&Asks { signer: SERVING, user, auth, ips: &ip });
        judge(&request, &asked, &[shows("one", "10.0.0.7")], &cluster())
    };
    assert_eq!(judged("system:node:two", "server auth"), Verdict::Foreign);
    assert_eq!(judged("system:node:one", "client auth"), Verdict::Foreign);
}

#[test]
fn no_serving_certificate_stands_for_the_cluster_whoever_approved_it() {
    let judged = |name: &str, ip: [u8; 4]| {
        let draft = Draft::node_serving(name, vec![ip.into()]).with_new_key().expect("a request");
        let (request, _) = request(&Asks { signer: SERVING, user: "u", auth: "server auth", ips: &[ip.into()] });
        accepted(&request, &SigningRequest::from_pem(draft.request_pem.as_bytes()).expect("reads"), &cluster())
    };
    assert_eq!(judged("one", [10, 0, 0, 1]), Some(Ok(())), "an administrator may know that it is the same machine");
    assert_eq!(judged("kubernetes.default", [10, 0, 0, 7]), Some(Err("kubernetes.default is the API server's".into())));
    assert_eq!(judged("one", [10, 96, 0, 1]), Some(Err("10.96.0.1 is in the range of the cluster's services".into())));
}

#[test]
fn signers_refuse_wrong_usages_and_leave_others_signers_alone() {
    let judged = |signer: &str, auth: &str| {
        let (request, asked) = request(&Asks { signer, user: "u", auth, ips: &[] });
        accepted(&request, &asked, &cluster())
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

#[test]
fn a_verdict_of_the_last_day_there_is_holds_for_ever() {
    let (mut request, _) = request(&Asks { signer: CLIENT, user: "u", auth: "client auth", ips: &[] });
    let status = json!({"conditions": [{"type": "Denied", "status": "True", "lastUpdateTime": "9999-12-30T21:59:00Z"}]});
    request.status = Some(serde_json::from_value(status).expect("a status"));
    assert_eq!(goes_at(&request), Some(Timestamp::MAX));
}

#[test]
fn requests_for_certificates_of_pods_stay_for_a_quarter_of_an_hour() {
    let created: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
    let meta = serde_json::from_value(json!({"name": "r", "creationTimestamp": format_time(created)})).expect("metadata");
    let after = |minutes: i64| stays(&meta, created + SignedDuration::from_mins(minutes)).map(|left| left.as_secs());
    assert_eq!((after(0), after(11), after(14), after(15)), (Some(300), Some(240), Some(60), None));
}

#[test]
fn ranges_of_services_that_come_later_are_no_nodes_either() {
    let range = json!({
        "kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1", "metadata": {"name": "more", "uid": "more", "resourceVersion": "2"},
        "spec": {"cidrs": ["172.30.0.0/16"]},
    });
    let stored = Arc::new(StoredObject::from_object(&Object::from_value(range).expect("a map")).expect("well formed"));
    let ranges = Cache::<ServiceCIDR>::default();
    ranges.replace_now([(stored.key.clone(), stored)].into_iter().collect(), Revision(2));
    let known = with_ranges(&cluster(), &ranges);
    for (address, expected) in [([172, 30, 0, 7], Some(Reserved::Service)), ([10, 96, 0, 7], Some(Reserved::Service)), ([172, 31, 0, 7], None)] {
        assert_eq!(known.address(address.into()), expected, "{address:?}");
    }
}
