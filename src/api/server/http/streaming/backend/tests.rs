use serde_json::{Value, json};

use super::{
    links,
    rewrite::{Rewrite, backend_path},
};
use crate::backends::locate::{self, Transport, Wanted};
use crate::backends::place::{Kubelet, KubeletAddress};

fn typed<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object of its kind")
}

fn pod(ip: &str) -> k8s_openapi::api::core::v1::Pod {
    let containers = json!([{"name": "a"}, {"name": "b", "ports": [{"containerPort": 8080}]}]);
    typed(json!({"metadata": {"name": "p"}, "spec": {"containers": containers}, "status": {"podIP": ip}}))
}

#[test]
fn names_may_say_scheme_and_port() {
    assert_eq!(Wanted::parse("p"), Some(Wanted { scheme: "", name: "p", port: "" }));
    assert_eq!(Wanted::parse("p:80"), Some(Wanted { scheme: "", name: "p", port: "80" }));
    assert_eq!(Wanted::parse("https:p:"), Some(Wanted { scheme: "https", name: "p", port: "" }));
    for wrong in ["", ":80", "ftp:p:1", "a:b:c:d"] {
        assert_eq!(Wanted::parse(wrong), None, "{wrong}");
    }
}

#[test]
fn a_pod_is_reached_at_its_first_declared_port_unless_another_is_named() {
    let of = |id: &str| locate::of_pod(&Wanted::parse(id).expect("well formed"), &pod("10.0.0.7")).expect("an address");
    assert_eq!((of("p").authority(), of("p").transport), ("10.0.0.7:8080".into(), Transport::Http));
    assert_eq!((of("https:p:99").authority(), of("https:p:99").transport), ("10.0.0.7:99".into(), Transport::Https));
    let refused = [
        "127.0.0.1",
        "169.254.169.254",
        "::1",
        "",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "::127.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "0.0.0.0",
        "fd00:ec2::254",
        "fe80::1",
        "localhost",
    ];
    for ip in refused {
        let found = locate::of_pod(&Wanted::parse("p").expect("well formed"), &pod(ip)).expect("an address");
        let refused = found.checked(false).expect_err(ip);
        assert_eq!((refused.code, refused.message.as_str()), (400, "address not allowed"));
    }
}

#[test]
fn a_service_is_reached_at_a_pod_behind_its_port() {
    let service = typed(json!({"spec": {"ports": [{"name": "web", "port": 80}, {"name": "other", "port": 81}]}}));
    assert_eq!(locate::port_name(&service, 80, "s"), Ok("web".into()));
    let missing = locate::port_name(&service, 82, "s").expect_err("no such port");
    assert_eq!((missing.code, missing.message.as_str()), (503, "no service port 82 found for service \"s\""));
    let endpoints = typed(json!({"subsets": [{
        "addresses": [
            {"ip": "10.0.0.1"},
            {"ip": "10.0.0.2", "targetRef": {"kind": "Pod", "name": "gone"}},
            {"ip": "10.0.0.3", "targetRef": {"kind": "Pod", "name": "there"}},
        ],
        "ports": [{"name": "web", "port": 8080}],
    }]}));
    let wanted = Wanted::parse("s:web").expect("well formed");
    let is_pod = |name: &str, ip: &str| name == "there" && ip == "10.0.0.3";
    for _ in 0..20 {
        let found = locate::of_endpoints(&wanted, "web", &endpoints, is_pod, "s:web").expect("a pod");
        assert_eq!(found.authority(), "10.0.0.3:8080");
    }
    let none = locate::of_endpoints(&wanted, "other", &endpoints, is_pod, "s:other").expect_err("no such port");
    assert_eq!((none.code, none.message.as_str()), (503, "no endpoints available for service \"s:other\""));
    let empty = locate::of_endpoints(&wanted, "web", &typed(json!({})), is_pod, "s:web").expect_err("nothing there");
    assert_eq!(empty.message, "no endpoints available for service \"s\"");
}

#[test]
fn a_node_is_its_kubelet_unless_another_port_is_named() {
    let kubelet = || Kubelet { node: "n".into(), address: KubeletAddress { host: "198.51.100.2".into(), port: 10250 } };
    let of = |id: &str| locate::of_node(&Wanted::parse(id).expect("well formed"), kubelet()).expect("an address");
    assert_eq!(of("n").transport, Transport::Kubelet { node: "n".into() });
    assert_eq!(of("https:n:10250").transport, Transport::Kubelet { node: "n".into() });
    assert_eq!((of("n:9100").transport, of("n:9100").authority()), (Transport::Http, "198.51.100.2:9100".into()));
}

#[test]
fn paths_keep_their_trailing_slash() {
    let cases =
        [("", "/x/proxy", ""), ("", "/x/proxy/", "/"), ("a/b", "/x/proxy/a/b", "/a/b"), ("a/", "/x/proxy/a/", "/a/"), ("a", "/x/proxy/a/", "/a/")];
    for (rest, whole, want) in cases {
        assert_eq!(backend_path(rest, whole), want, "{whole}");
    }
}

#[test]
fn urls_of_the_backend_lead_through_the_proxy() {
    let rewrite = Rewrite::new("/api/v1/namespaces/n/pods/p/proxy/a/b", "/a/b", "10.0.0.7:80", "api.example:6443");
    let through = |url: &str| rewrite.url(url);
    assert_eq!(through("/login?next=%2F"), "/api/v1/namespaces/n/pods/p/proxy/login?next=%2F");
    assert_eq!(through("http://10.0.0.7:80/x/"), "/api/v1/namespaces/n/pods/p/proxy/x/");
    assert_eq!(through("https://api.example:6443/x"), "/api/v1/namespaces/n/pods/p/proxy/x");
    for same in ["x.html", "../x", "https://elsewhere/x", "mailto:a@b", "#top", "/api/v1/namespaces/n/pods/p/proxy/x"] {
        assert_eq!(through(same), same);
    }
    assert_eq!(rewrite.forwarded_uri("/a/b"), "/api/v1/namespaces/n/pods/p/proxy/a/b");
}

#[test]
fn links_of_pages_are_found_and_nothing_else() {
    let page = r#"<!DOCTYPE html><A title="/no" HREF='/yes'>/no</a><img src=/yes><!-- <a href="/no"> --><script src="/yes">x = '<a href="/no">';</script><p href="/no" data-x>a < b</p><form action="/yes"/>"#;
    let want = page.replace("/yes", "/p/yes");
    assert_eq!(links::rewritten(page, 1 << 20, |url| format!("/p{url}")).as_deref(), Some(&*want));
    assert_eq!(links::rewritten("<a href=\"/x", 99, |url| format!("/p{url}")).as_deref(), Some("<a href=\"/p/x\""));
    assert_eq!(links::rewritten("plain < text <", 99, |_| String::new()).as_deref(), Some("plain < text <"));
}

#[test]
fn hostile_pages_take_no_more_time_and_room_than_others() {
    let began = std::time::Instant::now();
    let scripts = "<script></script>".repeat(100_000);
    assert_eq!(links::rewritten(&scripts, 2 << 20, str::to_owned).as_deref(), Some(&*scripts));
    let open = format!("<style></STYLE >{}", "<script></".repeat(100_000));
    assert_eq!(links::rewritten(&open, 2 << 20, str::to_owned).as_deref(), Some(&*open));
    assert!(began.elapsed() < std::time::Duration::from_secs(30), "it took {:?}", began.elapsed());
    // A prefix may be as long as a request line.
    let prefix = "/".repeat(60_000);
    for links in ["<a href=/>", "<a ", "<a href=/ "].map(|start| format!("{start}{}", "href=/ ".repeat(50_000)) + &"<a href=/>".repeat(50_000)) {
        assert_eq!(links::rewritten(&links, 2 << 20, |url| format!("{prefix}{url}")), None);
    }
}
