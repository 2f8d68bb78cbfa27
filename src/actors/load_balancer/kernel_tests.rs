//! Whether the kernel of another machine answers for an address, in network namespaces. Needs root, as the project's tests do.

use std::net::IpAddr;

use troupe_net::announce::foreign_holder;

use crate::proxy::kernel_tests::{Namespace, sh};

#[test]
fn a_stranger_is_told_from_a_machine_of_the_cluster() {
    let (asking, other) = (Namespace::new(), Namespace::new());
    let (a, b) = (asking.name(), other.name());
    sh(&format!("ip -n {a} link add up0 type veth peer name up0 netns {b} && ip -n {a} link set up0 up && ip -n {b} link set up0 up"));
    sh(&format!("ip -n {a} addr add 192.0.2.1/24 dev up0 && ip -n {a} addr add 2001:db8::1/64 dev up0 nodad"));
    for address in ["192.0.2.2/24", "192.0.2.10/32"] {
        sh(&format!("ip -n {b} addr add {address} dev up0"));
    }
    for address in ["2001:db8::2/64", "2001:db8::10/128"] {
        sh(&format!("ip -n {b} addr add {address} dev up0 nodad"));
    }
    let holder = |address: &str, ours: &[&str]| {
        let address: IpAddr = address.parse().expect("an address");
        let ours: Vec<IpAddr> = ours.iter().map(|ip| ip.parse().expect("an address")).collect();
        let asked = asking.run(|| {
            let link = nix::net::if_::if_nametoindex("up0").expect("a link");
            foreign_holder(link, address, &ours)
        });
        asked.expect("is asked").is_some()
    };
    for (held, free, machine) in [("192.0.2.10", "192.0.2.11", "192.0.2.2"), ("2001:db8::10", "2001:db8::11", "2001:db8::2")] {
        assert!(holder(held, &[]), "{held}");
        assert!(holder(held, &[free]), "{held}: another machine of the cluster is elsewhere");
        assert!(!holder(held, &["192.0.2.2", "2001:db8::2"]), "{held} is announced by {machine}");
        assert!(!holder(free, &[]), "{free}");
    }
    let absent: Vec<String> = (100..200).map(|last| format!("192.0.2.{last}")).collect();
    let many: Vec<&str> = absent.iter().map(String::as_str).chain(["192.0.2.2"]).collect();
    assert!(!holder("192.0.2.10", &many), "the last one of very many machines is asked for, too");
}
