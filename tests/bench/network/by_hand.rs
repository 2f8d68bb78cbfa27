//! Networks made with `ip link` alone, shaped as the pod network is, and nothing else in them: what it is compared with.

use std::{
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use troupe_net::netns;

use super::End;
use crate::cluster::run;

/// Networks made by this process.
static MADE: AtomicUsize = AtomicUsize::new(0);

/// How two machines reach each other's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// They are on one bridge, and have routes.
    Routes,
    /// A router is between them, and a tunnel.
    Vxlan,
}

/// Two ends and what is between them; gone when dropped.
pub struct ByHand {
    namespaces: Vec<String>,
    pub from: End,
    pub to: End,
}

impl ByHand {
    /// Two ends on one bridge.
    pub fn bridge(mtu: u32) -> Self {
        let mut made = ByHand::new();
        let machine = made.machine(1);
        made.from = made.end(&machine, 1, 2, mtu);
        made.to = made.end(&machine, 1, 3, mtu);
        made
    }

    /// An end on each of two machines.
    pub fn machines(way: Way, mtu: u32) -> Self {
        let mut made = ByHand::new();
        let (between, here, there) = (made.namespace("between"), made.machine(1), made.machine(2));
        made.from = made.end(&here, 1, 2, mtu);
        made.to = made.end(&there, 2, 2, mtu);
        for (machine, port) in [(&here, "one"), (&there, "two")] {
            ip(&between, &format!("link add {port} type veth peer name eth0 netns {machine}"));
            ip(&between, &format!("link set {port} up"));
            ip(machine, "link set eth0 up");
        }
        match way {
            Way::Routes => join_by_bridge(&between, &here, &there),
            Way::Vxlan => join_by_tunnel(&between, &here, &there),
        }
        made
    }

    fn new() -> Self {
        let nowhere = End { ip: IpAddr::from([0, 0, 0, 0]), network: netns::path("") };
        ByHand { namespaces: Vec::new(), from: nowhere.clone(), to: nowhere }
    }

    fn namespace(&mut self, what: &str) -> String {
        let name = format!("troupe-hand-{}-{}-{what}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        netns::create(&name).expect("root may make it");
        self.namespaces.push(name.clone());
        ip(&name, "link set lo up");
        name
    }

    /// A namespace that forwards, with a bridge for its ends.
    fn machine(&mut self, number: u8) -> String {
        let name = self.namespace(&format!("machine{number}"));
        run("nsenter", &[&format!("--net=/run/netns/{name}"), "sysctl", "-qw", "net.ipv4.ip_forward=1"]);
        ip(&name, "link add ends type bridge");
        ip(&name, &format!("address add 10.99.{number}.1/24 dev ends"));
        ip(&name, "link set ends up");
        name
    }

    /// An end on the bridge of a machine.
    fn end(&mut self, machine: &str, number: u8, host: u8, mtu: u32) -> End {
        let name = self.namespace(&format!("end{number}x{host}"));
        ip(machine, &format!("link add end{host} mtu {mtu} type veth peer name eth0 mtu {mtu} netns {name}"));
        ip(machine, &format!("link set end{host} master ends up"));
        ip(&name, &format!("address add 10.99.{number}.{host}/24 dev eth0"));
        ip(&name, "link set eth0 up");
        ip(&name, &format!("route add default via 10.99.{number}.1"));
        End { ip: IpAddr::from([10, 99, number, host]), network: netns::path(&name) }
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        for name in &self.namespaces {
            // The links go with it.
            if let Err(error) = netns::delete(name) {
                eprintln!("{name} stays: {error}");
            }
        }
    }
}

fn join_by_bridge(between: &str, here: &str, there: &str) {
    ip(between, "link add machines type bridge");
    ip(between, "link set machines up");
    ip(between, "link set one master machines");
    ip(between, "link set two master machines");
    ip(here, "address add 10.98.0.1/24 dev eth0");
    ip(there, "address add 10.98.0.2/24 dev eth0");
    ip(here, "route add 10.99.2.0/24 via 10.98.0.2");
    ip(there, "route add 10.99.1.0/24 via 10.98.0.1");
}

fn join_by_tunnel(between: &str, here: &str, there: &str) {
    run("nsenter", &[&format!("--net=/run/netns/{between}"), "sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    for (machine, port, number, other) in [(here, "one", 1, 2), (there, "two", 2, 1)] {
        ip(between, &format!("address add 10.98.{number}.1/24 dev {port}"));
        ip(machine, &format!("address add 10.98.{number}.2/24 dev eth0"));
        ip(machine, &format!("route add default via 10.98.{number}.1"));
        ip(machine, &format!("link add tunnel type vxlan id 7 local 10.98.{number}.2 remote 10.98.{other}.2 dstport 8472 dev eth0"));
        ip(machine, &format!("address add 10.97.0.{number}/24 dev tunnel"));
        ip(machine, "link set tunnel up");
        ip(machine, &format!("route add 10.99.{other}.0/24 via 10.97.0.{other}"));
    }
}

fn ip(namespace: &str, words: &str) {
    let words: Vec<&str> = ["-n", namespace].into_iter().chain(words.split_whitespace()).collect();
    run("ip", &words);
}
