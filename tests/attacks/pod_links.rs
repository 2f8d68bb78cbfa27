//! A pod that makes packets of its own (NET_RAW, which pods have by default): its neighbours on the node and the node hear from it what a pod may
//! say, and nothing that policies could not judge.

use std::{
    fs::File,
    io::Read,
    net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    process::Command,
    time::{Duration, Instant},
};

use nix::sched::{CloneFlags, setns};
use serde_json::json;

use crate::{
    cluster::{apply, eventually, text},
    stage::{self, Room, Stage},
};

const IMAGE: &str = "docker.io/library/busybox:1.35";
/// Longer than any packet of one machine takes.
const SOON: Duration = Duration::from_millis(500);
/// Where pods listen.
const PORT: u16 = 8081;
/// What an attacker speaks from where it forges an answer.
const ANSWERED: u16 = 5557;

/// A pod that runs, with its network.
struct Pod {
    process: String,
    ip: Ipv4Addr,
}

impl Pod {
    fn of(stage: &Stage, room: &Room<'_>, name: &str) -> Self {
        let ip = stage.kubectl(&format!("-n {} get pod {name} -o jsonpath={{.status.podIP}}", room.name));
        Pod { process: stage.process_of(&room.name, name), ip: ip.trim().parse().expect("an address") }
    }

    /// Does something in the pod's network, with all rights there.
    fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/proc/{}/ns/net", self.process)).expect("the pod runs");
        let enter = move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("enters the namespace");
            work()
        };
        std::thread::scope(|scope| scope.spawn(enter).join().expect("the thread does not panic"))
    }

    fn ip(&self, words: &str) -> String {
        let output = self.run(|| Command::new("ip").args(words.split_whitespace()).output().expect("ip runs"));
        text(&output.stdout)
    }

    /// The word behind another in what `ip` tells.
    fn told(&self, words: &str, behind: &str) -> String {
        let told = self.ip(words);
        let mut found = told.split_whitespace().skip_while(|word| *word != behind);
        found.nth(1).unwrap_or_else(|| panic!("no {behind} in {told}")).to_owned()
    }

    fn mac(&self, words: &str, behind: &str) -> [u8; 6] {
        let bytes: Vec<u8> = self.told(words, behind).split(':').map(|byte| u8::from_str_radix(byte, 16).expect("a byte")).collect();
        bytes.try_into().expect("a hardware address")
    }

    fn listen(&self) -> UdpSocket {
        self.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).expect("binds"))
    }

    /// Sends a word from one of its ports; any where it is 0.
    fn say(&self, from: u16, to: Ipv4Addr, word: &str) {
        let socket = self.run(|| UdpSocket::bind((self.ip, from)).expect("binds"));
        socket.set_broadcast(true).expect("sets");
        // It may be refused at once.
        let _ = socket.send_to(word.as_bytes(), (to, PORT));
    }

    /// Sends a frame as it is.
    fn send_frame(&self, frame: &[u8]) {
        self.run(|| {
            // SAFETY: a plain system call; what it returns is checked before it is owned.
            let socket = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0) };
            assert!(socket >= 0, "{}", std::io::Error::last_os_error());
            // SAFETY: the descriptor is new, and nobody else has it.
            let socket = unsafe { OwnedFd::from_raw_fd(socket) };
            let link = nix::net::if_::if_nametoindex("eth0").expect("an interface");
            // SAFETY: all bytes zero are an address of no link.
            let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            to.sll_family = u16::try_from(libc::AF_PACKET).expect("small");
            to.sll_ifindex = i32::try_from(link).expect("small");
            let size = libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).expect("small");
            // SAFETY: frame and address live until it returns, and have the sizes that are given.
            let sent = unsafe { libc::sendto(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, (&raw const to).cast(), size) };
            assert_eq!(usize::try_from(sent).ok(), Some(frame.len()), "{}", std::io::Error::last_os_error());
        });
    }
}

/// Whether a word comes soon; others before it are passed over.
fn hears(socket: &UdpSocket, word: &str) -> bool {
    let deadline = Instant::now() + SOON;
    let mut buffer = [0; 64];
    while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        socket.set_read_timeout(Some(left)).expect("sets");
        if socket.recv(&mut buffer).is_ok_and(|count| &buffer[..count] == word.as_bytes()) {
            return true;
        }
    }
    false
}

/// The checksum of RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes.chunks(2).map(|pair| (u32::from(pair[0]) << 8) | u32::from(pair.get(1).copied().unwrap_or(0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded twice")
}

/// A frame with a UDP packet; its own checksum may be left out (RFC 768).
fn udp_frame(macs: ([u8; 6], [u8; 6]), (source, from): (Ipv4Addr, u16), (destination, to): (Ipv4Addr, u16), word: &str) -> Vec<u8> {
    let length = u16::try_from(8 + word.len()).expect("short");
    let mut header = vec![0x45, 0];
    header.extend((20 + length).to_be_bytes());
    header.extend([0, 1, 0, 0, 64, 17, 0, 0]);
    header.extend(source.octets());
    header.extend(destination.octets());
    let sum = checksum(&header).to_be_bytes();
    header[10..12].copy_from_slice(&sum);
    let mut frame = [macs.0, macs.1].concat();
    frame.extend([8, 0]);
    frame.extend(header);
    for number in [from, to, length, 0] {
        frame.extend(number.to_be_bytes());
    }
    frame.extend(word.as_bytes());
    frame
}

#[test]
fn a_pod_that_makes_packets_of_its_own_gets_around_no_policy() {
    let stage = stage::shared();
    let room = stage.room("links");
    for name in ["attacker", "isolated", "open"] {
        let container = json!({"name": "c", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "3600"]});
        let spec = json!({"terminationGracePeriodSeconds": 0, "containers": [container]});
        let metadata = json!({"name": name, "namespace": room.name, "labels": {"app": name}});
        apply(&stage, &json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}).to_string());
    }
    stage.kubectl(&format!("-n {} wait --for=condition=Ready pod --all --timeout=60s", room.name));
    let [attacker, isolated, open] = ["attacker", "isolated", "open"].map(|name| Pod::of(&stage, &room, name));
    let (hears_isolated, hears_open) = (isolated.listen(), open.listen());
    let link_local = isolated.run(|| TcpListener::bind(("::", PORT)).expect("binds"));
    std::thread::spawn(move || link_local.incoming().flatten().for_each(drop));

    attacker.say(0, isolated.ip, "before");
    assert!(hears(&hears_isolated, "before"), "nothing isolates it yet");
    let spec = json!({"podSelector": {"matchLabels": {"app": "isolated"}}, "policyTypes": ["Ingress"]});
    let metadata = json!({"name": "deny", "namespace": room.name});
    apply(&stage, &json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}).to_string());
    eventually("the policy is enforced", || {
        attacker.say(0, isolated.ip, "policy");
        !hears(&hears_isolated, "policy")
    });
    attacker.say(0, open.ip, "open");
    assert!(hears(&hears_open, "open"), "pods of one node reach each other over it");

    // Below IP, where no policy looks.
    let [a, b, c, _] = attacker.ip.octets();
    attacker.say(0, Ipv4Addr::new(a, b, c, 255), "broadcast");
    assert!(!hears(&hears_isolated, "broadcast") && !hears(&hears_open, "broadcast"));
    let address = isolated.told("-6 -o addr show dev eth0 scope link", "inet6");
    let address = address.split('/').next().unwrap_or_default().to_owned();
    let reached = attacker.run(|| {
        let scope = nix::net::if_::if_nametoindex("eth0").expect("an interface");
        let to = format!("[{address}%{scope}]:{PORT}").parse().expect("an address");
        TcpStream::connect_timeout(&to, Duration::from_secs(2)).and_then(|mut stream| stream.read(&mut [0; 1])).is_ok()
    });
    assert!(!reached, "{address}");

    // The isolated pod seems to have asked something, and this seems to be the answer.
    let gateway = attacker.told("route show default", "via");
    attacker.say(0, gateway.parse().expect("an address"), "to learn its hardware address");
    let macs = (attacker.mac(&format!("neigh show to {gateway}"), "lladdr"), attacker.mac("-o link show dev eth0", "link/ether"));
    attacker.send_frame(&udp_frame(macs, (attacker.ip, PORT), (open.ip, PORT), "mine"));
    assert!(hears(&hears_open, "mine"), "it does send frames");
    attacker.send_frame(&udp_frame(macs, (isolated.ip, PORT), (open.ip, PORT), "forged"));
    assert!(!hears(&hears_open, "forged"));
    attacker.send_frame(&udp_frame(macs, (isolated.ip, PORT), (attacker.ip, ANSWERED), "asked"));
    std::thread::sleep(SOON);
    attacker.say(ANSWERED, isolated.ip, "answered");
    assert!(!hears(&hears_isolated, "answered"));
}
