//! The packet simulator against the kernel: the rules of random clusters in a real packet filter, packets of all sorts through it, and what
//! becomes of each. Needs root, as the project's tests do.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    net::IpAddr,
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use troupe_net::iptables::{Family, HostIptables, RuleSet};

use super::{
    is_here, planned,
    random::{addresses, cluster, governed_cluster},
    reference::Cluster,
    services::{self, Door, Served},
    wire::{Arrival, LAST_NUMBER, Wire},
};
use crate::{
    network_policy::layout::{self, PolicyLayout},
    proxy::{
        base,
        kernel_tests::{Namespace, sh},
        layout::ServiceLayout,
    },
    rules::{
        Changes, Layout, Ledger,
        backend::Backend,
        journey::{Fate, fates},
        simulate::Packet,
    },
};

/// How many packets are sent in each family; more with this variable.
const CASES_VARIABLE: &str = "TROUPE_PACKETS";
const CASES: usize = 400;
/// What chooses clusters and packets; the same number chooses the same.
const SEED_VARIABLE: &str = "TROUPE_SEED";
/// How many packets each cluster is asked with.
const CASES_A_CLUSTER: usize = 25;
/// How long a packet may take that arrives or is refused for certain.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long others are waited for, which should not arrive or need not.
const GRACE: Duration = Duration::from_millis(30);

/// Pods have these numbers as the ends of their addresses.
const PODS: std::ops::RangeInclusive<u8> = 1..=7;

fn number<T: FromStr>(variable: &str, default: T) -> T {
    env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The node's addresses: that on its link, and that where its pods are.
fn node(family: Family) -> [IpAddr; 2] {
    let node = if family == Family::V4 { ["172.31.0.1", "10.244.0.254"] } else { ["fd00:1f::1", "fd00:10:244::fe"] };
    node.map(ip)
}

/// The address of a pod of the node.
fn pod(family: Family, number: u8) -> IpAddr {
    ip(&if family == Family::V4 { format!("10.244.0.{number}") } else { format!("fd00:10:244::{number}") })
}

/// Those who ask from elsewhere: pods of other nodes, nodes, and anybody.
fn outside(family: Family) -> [IpAddr; 7] {
    let outside = match family {
        Family::V4 => ["10.244.1.1", "10.244.1.2", "10.244.1.5", "192.0.2.1", "198.51.100.7", "192.168.1.1", "192.168.1.2"],
        Family::V6 => ["fd00:10:244:1::1", "fd00:10:244:1::2", "fd00:10:244:1::5", "2001:db8::7", "2001:db8:7::7", "fd00:1::1", "fd00:1::2"],
    };
    outside.map(ip)
}

/// A node with a bridge, a pod at each of its addresses, and a link behind which everybody else is.
struct Stage {
    node: Namespace,
    /// They last as long as the wires.
    _others: Vec<Namespace>,
    /// By the pods' addresses of both families.
    ends: BTreeMap<IpAddr, usize>,
    /// That of everybody else, and those of the pods.
    wires: Vec<Wire>,
}

impl Stage {
    fn new() -> Self {
        let (node, elsewhere) = (Namespace::new(), Namespace::new());
        let (n, e) = (node.name(), elsewhere.name());
        // Whoever speaks for many addresses asks for no neighbours.
        sh(&format!(
            "ip -n {n} link add br0 type bridge && ip -n {n} link set br0 up \
             && ip -n {n} addr add 10.244.0.254/24 dev br0 && ip -n {n} addr add fd00:10:244::fe/64 dev br0 nodad \
             && ip -n {n} link add up0 address 02:00:00:00:01:01 type veth peer name eth0 address 02:00:00:00:01:00 netns {e} \
             && ip -n {n} addr add 172.31.0.1/24 dev up0 && ip -n {n} addr add fd00:1f::1/64 dev up0 nodad && ip -n {n} link set up0 up \
             && ip -n {e} addr add 172.31.0.2/24 dev eth0 && ip -n {e} addr add fd00:1f::2/64 dev eth0 nodad && ip -n {e} link set eth0 up"
        ));
        for (there, here) in [("172.31.0.2", "172.31.0.1"), ("fd00:1f::2", "fd00:1f::1")] {
            sh(&format!(
                "ip -n {n} neigh replace {there} lladdr 02:00:00:00:01:00 dev up0 nud permanent && ip -n {n} route add default via {there} \
                 && ip -n {e} neigh replace {here} lladdr 02:00:00:00:01:01 dev eth0 nud permanent && ip -n {e} route add default via {here}"
            ));
        }
        elsewhere.run(|| sh("echo 0 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv6/conf/all/forwarding"));
        // Refusals are told however many there are; packets of SCTP have no checksum here.
        node.run(|| {
            sh("cd /proc/sys/net; echo 1 > ipv4/ip_forward; echo 1 > ipv6/conf/all/forwarding; echo 0 > ipv4/icmp_ratemask; \
                echo 0 > ipv6/icmp/ratelimit; echo 129 > ipv6/icmp/ratemask; echo 0 > netfilter/nf_conntrack_checksum; \
                for filter in ipv4/conf/*/rp_filter; do echo 0 > $filter; done");
        });
        let (mut wires, mut others, mut ends) = (vec![elsewhere.run(Wire::open)], vec![elsewhere], BTreeMap::new());
        for number in PODS {
            let namespace = Namespace::new();
            let p = namespace.name();
            sh(&format!(
                "ip -n {n} link add v{number} type veth peer name eth0 address 02:00:00:00:00:0{number} netns {p} \
                 && ip -n {n} link set v{number} master br0 up && ip -n {n} link set v{number} type bridge_slave hairpin on \
                 && ip -n {p} addr add 10.244.0.{number}/24 dev eth0 && ip -n {p} addr add fd00:10:244::{number}/64 dev eth0 nodad \
                 && ip -n {p} link set eth0 up \
                 && ip -n {p} route add default via 10.244.0.254 && ip -n {p} route add default via fd00:10:244::fe"
            ));
            for ip in Family::ALL.map(|family| pod(family, number)) {
                sh(&format!("ip -n {n} neigh replace {ip} lladdr 02:00:00:00:00:0{number} dev br0 nud permanent"));
                ends.insert(ip, wires.len());
            }
            wires.push(namespace.run(Wire::open));
            others.push(namespace);
        }
        Stage { node, _others: others, ends, wires }
    }

    /// The wire of whoever has an address.
    fn wire(&self, ip: IpAddr) -> &Wire {
        &self.wires[self.ends.get(&ip).copied().unwrap_or(0)]
    }

    fn arrived(&self) -> Vec<Arrival> {
        self.wires.iter().flat_map(Wire::arrived).collect()
    }
}

/// A table's rules, as its units and its actor would have them.
struct Standing<L: Layout> {
    ledger: Ledger<L>,
    owners: BTreeSet<L::Owner>,
}

impl<L: Layout> Standing<L> {
    async fn new(base: RuleSet, kernel: &Backend) -> Self {
        let ledger = Ledger::<L>::new(base, kernel.family);
        kernel.reconcile(ledger.clone()).await.expect("takes what always stands");
        Standing { ledger, owners: BTreeSet::new() }
    }

    /// Goes on from what stands to these.
    async fn put(&mut self, kernel: &Backend, wanted: Changes<L::Owner>) {
        let gone = self.owners.iter().filter(|owner| !wanted.contains_key(*owner)).map(|owner| (owner.clone(), None));
        let mut changes: Changes<L::Owner> = gone.collect();
        self.owners = wanted.keys().cloned().collect();
        changes.extend(wanted);
        let patch = self.ledger.patch(&changes);
        kernel.apply(&patch).await.unwrap_or_else(|error| panic!("{error}\n{}", patch.to_restore()));
        self.ledger.commit(&changes);
    }

    /// The kernel has what it should.
    async fn stands(&self, kernel: &Backend) {
        let (steps, left) = kernel.reconcile(self.ledger.clone()).await.expect("compares");
        assert!(steps == 0 && left.is_empty(), "{} were otherwise", L::RULES);
    }
}

/// A packet, and what may become of it.
struct Case {
    packet: Packet,
    fates: BTreeSet<Fate>,
}

/// What became of a packet that was not lost.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Arrived { destination: IpAddr, port: Option<u16>, is_masqueraded: bool },
    Refused,
}

impl Case {
    fn agrees(&self, seen: Option<&Seen>) -> bool {
        self.fates.iter().any(|fate| match (fate, seen) {
            (Fate::Forwarded { destination, port, is_masqueraded }, Some(seen)) => {
                *seen == Seen::Arrived { destination: *destination, port: *port, is_masqueraded: *is_masqueraded }
            }
            (Fate::Dropped(_), None) | (Fate::Refused(_), Some(Seen::Refused)) => true,
            // Nobody listens there.
            (Fate::TakenIn, None | Some(Seen::Refused)) => true,
            _ => false,
        })
    }

    /// Something will be heard of it.
    fn is_certain(&self) -> bool {
        !self.fates.iter().any(|fate| matches!(fate, Fate::Dropped(_) | Fate::TakenIn))
    }
}

/// The kernel with what stands in it, and all that was sent through it.
struct Trial {
    family: Family,
    stage: Stage,
    kernel: Backend,
    services: Standing<ServiceLayout>,
    policies: Standing<PolicyLayout>,
    runner: TestRunner,
    random: StdRng,
    clusters: usize,
    cases: Vec<Case>,
    /// By the place of the case.
    seen: BTreeMap<usize, Seen>,
}

impl Trial {
    async fn new(family: Family, seed: u64) -> Self {
        let stage = Stage::new();
        let filter = Arc::new(HostIptables::within(stage.node.path()).of(family));
        let kernel = Backend { iptables: filter.clone(), sets: Some(filter), family };
        let services = Standing::<ServiceLayout>::new(base::rules(false, family), &kernel).await;
        let policies = Standing::<PolicyLayout>::new(layout::base(family), &kernel).await;
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        let runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
        let random = StdRng::seed_from_u64(seed);
        Trial { family, stage, kernel, services, policies, runner, random, clusters: 0, cases: Vec::new(), seen: BTreeMap::new() }
    }

    fn sample<S: Strategy>(&mut self, strategy: &S) -> S::Value {
        strategy.new_tree(&mut self.runner).expect("there is one").current()
    }

    /// One more cluster, and packets that meet its rules. Every other one follows on the one before, and the rest on no rules at all:
    /// there some connections stood before.
    async fn cluster(&mut self) {
        self.clusters += 1;
        let cluster = if self.clusters.is_multiple_of(3) { self.sample(&cluster()) } else { self.sample(&governed_cluster()) };
        let served = self.sample(&services::services());
        let is_fresh = self.clusters % 2 == 1;
        let first = self.cases.len();
        let packets: Vec<Packet> = (0..CASES_A_CLUSTER).map(|_| self.packet(&cluster, &served, is_fresh)).collect();
        if is_fresh {
            self.services.put(&self.kernel, Changes::new()).await;
            self.policies.put(&self.kernel, Changes::new()).await;
            self.establish(&packets, first).await;
        }
        self.services.put(&self.kernel, services::changes(&served, node(self.family)[0])).await;
        self.policies.put(&self.kernel, planned(&cluster).changes(self.family, is_here)).await;
        let mut rules = self.services.ledger.wanted();
        rules.merge(self.policies.ledger.wanted());
        for packet in packets {
            let fates = fates(&rules, &node(self.family), &packet).expect("knows its own rules");
            self.cases.push(Case { packet, fates });
        }
        for (at, case) in self.cases.iter().enumerate().skip(first) {
            self.stage.wire(case.packet.source).send(&case.packet, number_of(at));
        }
        self.gather(first).await;
        self.compare(first, &rules);
    }

    /// Anything that may be asked of a cluster, by whoever may ask.
    fn packet(&mut self, cluster: &Cluster, served: &[Served], is_fresh: bool) -> Packet {
        let (family, random) = (self.family, &mut self.random);
        let (pods, outside): (Vec<IpAddr>, _) = (PODS.map(|number| pod(family, number)).collect(), outside(family));
        loop {
            let some = if random.random_bool(0.7) { &pods[..] } else { &outside[..] };
            let source = *some.choose(random).expect("somebody");
            let is_direct = random.random_bool(0.5);
            let (destination, protocol, port): Door = if is_direct {
                let destination = *addresses(cluster, family).choose(random).expect("there are pods");
                let echo = services::echo(family);
                let protocol = *["tcp", "udp", "sctp", echo].choose(random).expect("one of them");
                (destination, protocol.to_owned(), (protocol != echo).then(|| random.random_range(79..86)))
            } else {
                services::doors(served, family, &node(family)).choose(random).expect("there are Services").clone()
            };
            // By its own address nobody leaves his place.
            if source != destination {
                let established = is_fresh && is_direct && protocol == "udp" && random.random_bool(0.4);
                return Packet { source, destination, protocol, port, established };
            }
        }
    }

    /// Has connections answered that packets are of.
    async fn establish(&self, packets: &[Packet], first: usize) {
        let all = || packets.iter().enumerate().filter(|(_, packet)| packet.established);
        for (at, packet) in all() {
            self.stage.wire(packet.source).begin(packet, number_of(first + at));
        }
        tokio::time::sleep(GRACE).await;
        for (at, packet) in all() {
            self.stage.wire(packet.destination).answer(packet, number_of(first + at));
        }
        tokio::time::sleep(GRACE).await;
    }

    /// Waits for what must be heard of, and a moment for the rest.
    async fn gather(&mut self, first: usize) {
        let deadline = Instant::now() + PATIENCE;
        self.hear();
        while self.cases[first..].iter().enumerate().any(|(at, case)| case.is_certain() && !self.seen.contains_key(&(first + at)))
            && Instant::now() < deadline
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
            self.hear();
        }
        tokio::time::sleep(GRACE).await;
        self.hear();
    }

    fn hear(&mut self) {
        for arrival in self.stage.arrived() {
            let (Arrival::Packet { number, .. } | Arrival::Refusal { number }) = arrival;
            // What only prepares others is no case.
            let Some(at) = usize::from(number).checked_sub(1).filter(|at| *at < self.cases.len()) else { continue };
            match arrival {
                Arrival::Packet { source, destination, port, .. } => {
                    let is_masqueraded = source != self.cases[at].packet.source;
                    self.seen.insert(at, Seen::Arrived { destination, port, is_masqueraded });
                }
                // Whoever got it may refuse it, too.
                Arrival::Refusal { .. } => {
                    self.seen.entry(at).or_insert(Seen::Refused);
                }
            }
        }
    }

    /// The cases from one on fared as the simulator says.
    fn compare(&self, first: usize, rules: &RuleSet) {
        for (at, case) in self.cases.iter().enumerate().skip(first) {
            let seen = self.seen.get(&at);
            assert!(
                case.agrees(seen),
                "case {at} of cluster {}: {:?} should be one of {:?} and is {seen:?} by {rules:#?}",
                self.clusters,
                case.packet,
                case.fates
            );
        }
    }

    /// Nothing came late, the kernel has what was planned, and loses it again.
    async fn end(mut self) {
        tokio::time::sleep(GRACE).await;
        self.hear();
        self.compare(0, &RuleSet::default());
        self.services.stands(&self.kernel).await;
        self.policies.stands(&self.kernel).await;
        self.services.put(&self.kernel, Changes::new()).await;
        self.policies.put(&self.kernel, Changes::new()).await;
        self.services.stands(&self.kernel).await;
        self.policies.stands(&self.kernel).await;
        let count = |what: &dyn Fn(&Seen) -> bool| self.seen.values().filter(|seen| what(seen)).count();
        let arrived = count(&|seen| matches!(seen, Seen::Arrived { .. }));
        let masqueraded = count(&|seen| matches!(seen, Seen::Arrived { is_masqueraded: true, .. }));
        let refused = count(&|seen| *seen == Seen::Refused);
        let (all, certain) = (self.cases.len(), self.cases.iter().filter(|case| case.fates.len() == 1).count());
        let lost = (0..all).filter(|at| !self.seen.contains_key(at)).count();
        println!(
            "{all} packets through {} clusters: {arrived} arrived, {masqueraded} of them masqueraded, {refused} refused, {lost} lost",
            self.clusters
        );
        println!("of {certain} it was certain what becomes of them");
        assert!([arrived, masqueraded, refused, lost].iter().all(|count| *count > 0) && certain > all / 2, "packets of all sorts");
    }
}

/// The number of a case's packet. The kernel puts in another one for zero.
fn number_of(case: usize) -> u16 {
    u16::try_from(case + 1).expect("not that many")
}

async fn try_out(family: Family) {
    let (cases, seed) = (number(CASES_VARIABLE, CASES), number(SEED_VARIABLE, u64::from(std::process::id())));
    assert!(cases + CASES_A_CLUSTER < usize::from(LAST_NUMBER), "packets have no more numbers");
    println!("{} {SEED_VARIABLE}={seed} {CASES_VARIABLE}={cases}", family.name());
    let mut trial = Trial::new(family, seed).await;
    while trial.cases.len() < cases {
        trial.cluster().await;
    }
    trial.end().await;
}

#[tokio::test]
async fn the_simulator_and_the_kernel_agree_about_packets_of_ipv4() {
    try_out(Family::V4).await;
}

#[tokio::test]
async fn the_simulator_and_the_kernel_agree_about_packets_of_ipv6() {
    try_out(Family::V6).await;
}
