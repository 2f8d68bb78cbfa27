//! Services with very many ports.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::{core::v1::Service, discovery::v1::EndpointSlice};
use nix::time::{ClockId, clock_gettime};
use proptest::prelude::*;
use serde_json::{Value, json};
use troupe_api::meta::ObjectKey;
use troupe_net::iptables::{FakeIptables, Family, Iptables, Observed, Patch, RuleSet, Table};

use super::{
    base,
    layout::{Ledger, Queue},
    plan::{ServicePlan, plan},
    tests::{node, observe, service, slice},
};
use crate::rules::{Packed, queue::MOST_STEPS};

/// A Service of so many ports with two endpoints.
pub fn wide(name: &str, ip: &str, ports: usize, ready: bool) -> (Service, Vec<Arc<EndpointSlice>>) {
    let named =
        |number: usize| json!({"name": format!("p{number}"), "port": number, "protocol": if number.is_multiple_of(50) { "UDP" } else { "TCP" }});
    let ports: Vec<Value> = (1..=ports).map(named).collect();
    let endpoints = ["10.244.0.5", "10.244.1.6"].map(|ip| json!({"addresses": [ip], "nodeName": "n1", "conditions": {"ready": ready}}));
    let spec = json!({"clusterIP": ip, "externalIPs": ["198.51.100.7"], "ports": ports});
    (service(name, spec), vec![slice(name, &format!("{name}-1"), json!(ports), json!(endpoints))])
}

fn planned(name: &str, ip: &str, ports: usize, ready: bool) -> ServicePlan {
    let (service, slices) = wide(name, ip, ports, ready);
    plan(&service, &slices, &node())
}

fn packed(name: &str, ip: &str, ports: usize, ready: bool) -> Arc<Packed> {
    Arc::new(planned(name, ip, ports, ready).into())
}

/// What this thread worked, not what it waited for others; the shortest of three.
fn time_of(work: impl Fn()) -> Duration {
    let worked = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("threads have clocks"));
    let once = || {
        let begun = worked();
        work();
        worked() - begun
    };
    (0..3).map(|_| once()).min().expect("three")
}

/// Eight times the ports take about eight times as long, not 64 times.
fn is_linear(what: &str, work: impl Fn(usize) -> Box<dyn Fn()>) {
    let (few, many) = (time_of(work(1000)), time_of(work(8000)));
    assert!(many < few * 24 + Duration::from_millis(20), "{what}: {few:?} for 1,000 ports and {many:?} for 8,000");
}

#[test]
fn the_work_for_a_service_grows_with_its_ports_and_no_faster() {
    is_linear("planning", |ports| {
        let (service, slices) = wide("wide", "10.96.0.20", ports, true);
        Box::new(move || assert!(!plan(&service, &slices, &node()).rules.is_empty()))
    });
    for ready in [true, false] {
        is_linear("comparing", move |ports| {
            let mut ledger = Ledger::new(base::rules(false, Family::V4), Family::V4);
            ledger.commit(&[(ObjectKey::new("ns", "wide"), Some(planned("wide", "10.96.0.20", ports, ready).rules.clone()))].into());
            let text = printed(&ledger.wanted());
            Box::new(move || {
                let mut observed = Observed::default();
                observed.read(&text);
                assert!(ledger.reconcile(&observed).is_empty());
            })
        });
    }
    is_linear("cutting into pieces", |ports| {
        let rules = planned("wide", "10.96.0.20", ports, true).rules.clone();
        Box::new(move || assert!(RuleSet::default().diff(&rules).pieces(MOST_STEPS).len() > 2))
    });
}

/// As `iptables-save` prints a set of rules.
fn printed(rules: &RuleSet) -> String {
    let mut text = String::new();
    for table in Table::ALL {
        text += &format!("*{}\n", table.name());
        for (id, rules) in rules.chains.iter().filter(|(id, _)| id.table == table) {
            text += &format!(":{} - [0:0]\n", id.name);
            rules.iter().for_each(|rule| text += &format!("-A {} {rule}\n", id.name));
        }
        rules.shared.iter().filter(|id| id.table == table).for_each(|id| text += &format!(":{} - [0:0]\n", id.name));
        rules.lines.iter().filter(|line| line.chain.table == table).for_each(|line| text += &format!("-A {} {}\n", line.chain.name, line.rule));
        text += "COMMIT\n";
    }
    text
}

#[test]
fn three_services_of_nine_thousand_ports_keep_no_other_waiting() {
    let mut ledger = Ledger::new(base::rules(false, Family::V4), Family::V4);
    let mut queue = Queue::default();
    for (at, name) in ["a", "b", "c"].into_iter().enumerate() {
        queue.insert(ObjectKey::new("ns", name), Some(packed(name, &format!("10.96.0.{}", at + 1), 9000, true)));
    }
    let small = |round: usize| packed("small", "10.96.7.7", 1, round.is_multiple_of(2));
    let (mut round, mut waited) = (0, 0);
    while !queue.is_empty() {
        queue.insert(ObjectKey::new("ns", "small"), Some(small(round)));
        let taken = queue.next(&mut ledger);
        // It waits for a transaction where a wide one that needs the same dispatch chain begins.
        waited = if taken.plans.contains_key(&ObjectKey::new("ns", "small")) { 0 } else { waited + 1 };
        assert!(waited <= 1, "the small one waits in round {round}");
        assert!(taken.patch.size() <= MOST_STEPS + 300, "{} steps at once", taken.patch.size());
        round += 1;
        assert!(round < 1000);
    }
    assert!(round > 50, "{round} transactions");
    let others = planned("other", "10.96.0.9", 1, true);
    let lines = others.rules.lines.iter().filter(|line| line.chain.name == "KUBE-NET-10.96.0.0").count();
    let shard = ledger.wanted().lines.into_iter().filter(|line| line.chain.name == "KUBE-NET-10.96.0.0").count();
    assert!(shard < 400 && lines == 1, "packets to others walk past {shard} rules");
}

#[tokio::test]
async fn very_many_services_go_in_in_pieces_and_translation_comes_before_refusals() {
    let mut ledger = Ledger::new(base::rules(true, Family::V4), Family::V4);
    for at in 0..400 {
        let (name, ip) = (format!("s{at}"), format!("10.96.{}.{}", at / 200, 1 + at % 200));
        ledger.commit(&[(ObjectKey::new("ns", name.as_str()), Some(planned(&name, &ip, 1, at % 2 == 0).rules))].into());
    }
    let fake = FakeIptables::default();
    let pieces = ledger.reconcile_in_pieces(&observe(&fake).await, 500);
    assert!(pieces.len() > 4, "{} pieces", pieces.len());
    let adds_to = |piece: &Patch, table: Table| piece.add.iter().any(|line| line.chain.table == table);
    let translated = pieces.iter().rposition(|piece| adds_to(piece, Table::Nat));
    let refused = pieces.iter().position(|piece| adds_to(piece, Table::Filter));
    assert!(translated.is_some() && translated <= refused, "{translated:?} {refused:?}");
    for piece in pieces {
        assert!(piece.size() <= 500 + piece.create.len(), "{} steps at once", piece.size());
        fake.restore(piece.to_restore()).await.unwrap_or_else(|error| panic!("{error}"));
    }
    assert!(ledger.reconcile(&observe(&fake).await).is_empty());
}

/// What happens to a Service: it gets so many ports, with endpoints that are ready or not, or it goes.
type Step = (u8, Option<(usize, bool)>);

fn step() -> impl Strategy<Value = Step> {
    let ports = prop::sample::select(vec![1_usize, 70, 400]);
    (0_u8..4, prop::option::weighted(0.8, (ports, any::<bool>())))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// However changes of wide and narrow Services come between each other's pieces, every transaction is taken and all is there in the end.
    #[test]
    fn pieces_and_other_changes_lead_to_what_is_wanted(steps in prop::collection::vec(step(), 1..12), pause in 1_usize..4) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let fake = FakeIptables::default();
            let (mut ledger, mut queue) = (Ledger::new(base::rules(true, Family::V4), Family::V4), Queue::default());
            fake.restore(ledger.reconcile(&observe(&fake).await).to_restore()).await.expect("applies");
            for (at, (index, wanted)) in steps.iter().enumerate() {
                let name = format!("s{index}");
                let plan = wanted.map(|(ports, ready)| packed(&name, &format!("10.96.{}.{}", index % 2, index + 1), ports, ready));
                queue.insert(ObjectKey::new("ns", name), plan);
                let last = at + 1 == steps.len();
                let mut taken = 0;
                while !queue.is_empty() && (last || taken < pause) {
                    let next = queue.next(&mut ledger);
                    fake.restore(next.patch.to_restore()).await.unwrap_or_else(|error| panic!("{error}"));
                    taken += 1;
                }
            }
            let left = ledger.reconcile(&observe(&fake).await);
            assert!(left.is_empty(), "{}", left.to_restore());
            // Somebody takes all away.
            fake.flush();
            for piece in ledger.reconcile_in_pieces(&observe(&fake).await, 500) {
                fake.restore(piece.to_restore()).await.unwrap_or_else(|error| panic!("{error}"));
            }
            assert!(ledger.reconcile(&observe(&fake).await).is_empty());
        });
    }
}
