//! A node's daemon begins where there are 10,000 Services: how soon the kernel has all of them, and what memory they take.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use super::PATIENCE;
use crate::{
    cluster::{Cluster, eventually},
    figures::{Budget, report},
    https::Door,
    process::Process,
    running::Running,
    runtime,
    services::{self, CLIENTS, SERVICES},
};

/// A daemon that has begun has done so by then.
const SETTLING: Duration = Duration::from_secs(5);
const MEBIBYTE: f64 = 1_048_576.0;

pub fn measure() {
    let cluster = Cluster::place();
    let _control_plane = cluster.daemon("control-plane", &[]);
    eventually("the control plane writes the node's kubeconfig", || cluster.path("node.kubeconfig").exists());
    let node = cluster.daemon("node", &[]);
    eventually("the node is Ready", || cluster.kubectl_output("wait --for=condition=Ready node/it --timeout=1s").status.success());
    cluster.kubectl("-n kube-system rollout status daemonset --timeout=60s");
    // The first one imported images, which costs memory for good.
    drop(node);
    let node = cluster.daemon("node", &[]);
    thread::sleep(SETTLING);
    let before = resident(&node);
    drop(node);

    cluster.kubectl("create namespace services");
    cluster.enter();
    runtime().block_on(async {
        let mut connections = Door::of(&cluster.kubeconfig()).connections(CLIENTS).await;
        services::create_all(&mut connections).await;
    });
    assert!(!has_all(&cluster), "no daemon was there to tell the kernel");
    let begun = Instant::now();
    let node = cluster.daemon("node", &[]);
    let took = loop {
        assert!(begun.elapsed() < 6 * PATIENCE, "the kernel never has all Services");
        // Reading 10,000 Services out of the kernel takes a core for a second or two, which the daemon needs: it is asked first, and then believed
        // only if the kernel has them.
        if says_all_is_written() {
            let told = begun.elapsed();
            if has_all(&cluster) {
                break told;
            }
        }
        thread::sleep(Duration::from_millis(20));
    };
    report("start of the node daemon to 10,000 Services in the kernel", took.as_secs_f64(), " s", Budget::AtMost(2.0));
    thread::sleep(SETTLING);
    let grown = resident(&node) - before;
    report("resident more with 10,000 Services, node daemon alone", grown, " MiB", Budget::AtMost(60.0 * 1e6 / MEBIBYTE));
}

/// Where the proxy tells its health, in the cluster's network.
const HEALTH: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 10_256);

/// Whether the daemon says that the rules of all Services that it knew at its start are written: before, it names no family of addresses.
fn says_all_is_written() -> bool {
    let ask = || -> io::Result<String> {
        let mut daemon = TcpStream::connect(HEALTH)?;
        daemon.set_read_timeout(Some(PATIENCE))?;
        daemon.write_all(b"GET /livez HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n")?;
        let mut said = String::new();
        daemon.read_to_string(&mut said)?;
        Ok(said)
    };
    ask().is_ok_and(|said| said.contains("\"IPv4\""))
}

/// Whether the kernel has the endpoint of every Service.
fn has_all(cluster: &Cluster) -> bool {
    cluster.rules().lines().filter(|line| line.contains("--to-destination 10.") && line.contains(":8080")).count() >= SERVICES
}

fn resident(daemon: &Running) -> f64 {
    Process::new(i32::try_from(daemon.id()).expect("a pid")).resident_mib()
}
