//! Elections step by step, and among candidates over an API server in paused time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::{
        v1::{Lease, LeaseSpec},
        v1beta1::{LeaseCandidate, LeaseCandidateSpec},
    },
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use troupe_api::{
    ApiCall, ApiReply, ApiService, Status,
    features::FeatureGates,
    meta::Cause,
    resources::{Registry, builtin, optional},
    service::{Operation, Target, UserInfo, WatchOptions, WatchStream},
    version::VersionInfo,
};
use troupe_api_client::Client;
use troupe_api_server::store::memory::MemoryStore;

use super::{
    LeaderElectionController, as_seen,
    plan::{Step, plan},
};
use crate::{
    apiserver::{
        ApiServerOptions,
        testing::{TestApi, boot_with},
    },
    runtime::{
        cache::Caches,
        controller,
        host::UnitAddr,
        leader::{self, Candidacy, Candidate, OLDEST_EMULATION_VERSION, Release, Start, Stop, Terms},
        system::{System, SystemOptions},
    },
    simulation::simulate,
};

const NAMESPACE: &str = "kube-system";
const SCHEDULER: &str = "kube-scheduler";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).expect("a time")
}

/// A candidate with its emulated version, when it was asked last and when it told last.
fn candidate(name: &str, emulated: &str, asked: Option<i64>, told: i64) -> Arc<LeaseCandidate> {
    let metadata = ObjectMeta { name: Some(name.into()), namespace: Some(NAMESPACE.into()), ..ObjectMeta::default() };
    let spec = LeaseCandidateSpec {
        lease_name: SCHEDULER.into(),
        binary_version: "1.36.0".into(),
        emulation_version: Some(emulated.into()),
        strategy: OLDEST_EMULATION_VERSION.into(),
        ping_time: asked.map(|second| MicroTime(at(second))),
        renew_time: Some(MicroTime(at(told))),
    };
    Arc::new(LeaseCandidate { metadata, spec })
}

/// One that has another strategy.
fn choosing_by(strategy: &str, candidate: &LeaseCandidate) -> Arc<LeaseCandidate> {
    let spec = LeaseCandidateSpec { strategy: strategy.into(), ..candidate.spec.clone() };
    Arc::new(LeaseCandidate { spec, ..candidate.clone() })
}

fn held(by: &str, renewed: i64) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(by.into()),
        lease_duration_seconds: Some(15),
        renew_time: Some(MicroTime(at(renewed))),
        strategy: Some(OLDEST_EMULATION_VERSION.into()),
        ..LeaseSpec::default()
    }
}

fn step(lease: Option<&LeaseSpec>, candidates: &[Arc<LeaseCandidate>], now: i64) -> Step {
    plan(lease, candidates, at(now)).step
}

/// Holder and preferred holder of the lease that is to be written.
fn written(step: Step) -> (Option<String>, Option<String>) {
    match step {
        Step::Write(lease) => (lease.holder_identity, lease.preferred_holder),
        other => panic!("nothing is written: {other:?}"),
    }
}

#[test]
fn the_candidate_of_the_oldest_version_gets_a_lease_that_nobody_holds() {
    let both = [candidate("a", "1.36.0", None, 0), candidate("b", "1.35.0", None, 0)];
    let Step::Write(lease) = step(None, &both, 1) else { panic!("nobody is chosen") };
    let expected = LeaseSpec { lease_duration_seconds: Some(5), ..held("b", 1) };
    assert_eq!(*lease, expected);
    let given_up = LeaseSpec { preferred_holder: Some("b".into()), ..held("", 0) };
    assert_eq!(written(step(Some(&given_up), &both, 1)), (Some("b".into()), None));
    let gone = held("gone", -60);
    assert_eq!(written(step(Some(&gone), &both, 1)), (Some("b".into()), None));
}

#[test]
fn a_leader_that_is_the_best_stays_and_another_one_is_asked_to_go() {
    let both = [candidate("a", "1.36.0", None, 0), candidate("b", "1.35.0", None, 0)];
    assert_eq!(step(Some(&held("b", 0)), &both, 1), Step::Rest);
    assert_eq!(written(step(Some(&held("a", 0)), &both, 1)), (Some("a".into()), Some("b".into())));
    let told = LeaseSpec { preferred_holder: Some("b".into()), ..held("a", 0) };
    assert_eq!(step(Some(&told), &both, 1), Step::Rest, "it knows");
}

#[test]
fn candidates_are_asked_before_one_of_them_is_chosen() {
    let (fresh, old) = (candidate("b", "1.35.0", None, 10), candidate("a", "1.36.0", None, 0));
    assert_eq!(step(None, &[old.clone(), fresh.clone()], 11), Step::Ask(vec![old.clone()]));
    let asked = candidate("a", "1.36.0", Some(11), 0);
    assert_eq!(step(None, &[asked.clone(), fresh], 12), Step::Rest, "it may answer yet");
    let later = candidate("b", "1.37.0", Some(11), 16);
    assert_eq!(written(step(None, &[asked.clone(), later], 17)).0.as_deref(), Some("b"), "who does not answer takes no part");
    assert_eq!(step(None, &[asked], 17), Step::Refuse("no available candidates".into()));
    let quiet = candidate("a", "1.36.0", None, -1_000);
    assert_eq!(step(Some(&held("a", 0)), std::slice::from_ref(&quiet), 1), Step::Ask(vec![quiet.clone()]), "now and then the leader, too");
}

#[test]
fn who_has_not_told_for_half_an_hour_is_gone() {
    let (gone, there) = (candidate("a", "1.30.0", None, -1_800), candidate("b", "1.36.0", None, 0));
    let plan = plan(Some(&held("b", 0)), &[gone.clone(), there], at(1));
    assert_eq!((plan.expired, plan.step), (vec![gone.clone()], Step::Rest));
    assert_eq!(step(None, &[gone], 1), Step::Rest);
}

#[test]
fn candidates_that_disagree_have_no_leader_and_other_strategies_are_others_business() {
    let both = [candidate("a", "1.36.0", None, 0), choosing_by("example.com/mine", &candidate("b", "1.36.0", None, 0))];
    let why = "candidates \"a\", \"b\" at same binary version but received differing strategies OldestEmulationVersion, example.com/mine";
    assert_eq!(step(None, &both, 1), Step::Refuse(why.into()));
    let theirs = [both[1].clone()];
    let Step::Write(lease) = step(None, &theirs, 1) else { panic!("there is a lease") };
    assert_eq!((lease.holder_identity.clone(), lease.strategy.as_deref()), (None, Some("example.com/mine")));
    assert_eq!(step(Some(&*lease), &theirs, 1), Step::Rest);
}

/// A process that stands for the lease of the scheduler.
struct Contender {
    unit: UnitAddr<Candidate>,
    leads: Arc<AtomicBool>,
    _system: System,
}

/// An API service that deletes nothing.
struct Keeping(Arc<dyn ApiService>);

impl ApiService for Keeping {
    fn call(&self, call: ApiCall) -> BoxFuture<'static, Result<ApiReply, Status>> {
        if matches!(call.operation, Operation::Delete(_)) {
            return std::future::ready(Err(Status::unavailable("not now"))).boxed();
        }
        self.0.call(call)
    }

    fn watch(&self, user: Arc<UserInfo>, target: Target, options: WatchOptions, cause: Cause) -> BoxFuture<'static, Result<WatchStream, Status>> {
        self.0.watch(user, target, options, cause)
    }

    fn registry(&self) -> Arc<Registry> {
        self.0.registry()
    }
}

/// An API service that counts what is asked about candidates.
struct Counting(Arc<dyn ApiService>, Arc<AtomicUsize>);

impl Counting {
    fn count(&self, target: &Target) {
        if &*target.resource.plural == "leasecandidates" {
            self.1.fetch_add(1, SeqCst);
        }
    }
}

impl ApiService for Counting {
    fn call(&self, call: ApiCall) -> BoxFuture<'static, Result<ApiReply, Status>> {
        self.count(&call.target);
        self.0.call(call)
    }

    fn watch(&self, user: Arc<UserInfo>, target: Target, options: WatchOptions, cause: Cause) -> BoxFuture<'static, Result<WatchStream, Status>> {
        self.count(&target);
        self.0.watch(user, target, options, cause)
    }

    fn registry(&self) -> Arc<Registry> {
        self.0.registry()
    }
}

/// A contender that reaches its lease and its candidate by `link`.
fn contender_by(link: Arc<dyn ApiService>, api: &TestApi, system: &System, name: &'static str, emulated: &str) -> Contender {
    let own = System::new(SystemOptions::local(7, system.clock().clone())).expect("no threads are started");
    let leads = Arc::new(AtomicBool::new(false));
    let seen = leads.clone();
    let start: Start = Arc::new(move |_| {
        seen.store(true, SeqCst);
        let ended = seen.clone();
        let stop: Stop = Box::new(move || ended.store(false, SeqCst));
        stop
    });
    let said = leader::of_version(SCHEDULER, &VersionInfo::of_build("0.1.0", "", ""));
    let candidacy = Candidacy {
        lease: SCHEDULER,
        event_source: "default-scheduler",
        identity: name.into(),
        terms: Terms::default(),
        coordinated: Some(LeaseCandidateSpec { emulation_version: Some(emulated.into()), ..said }),
        client: Client::new(link, api.user.clone(), name),
        service: api.server.clone(),
        start,
    };
    Contender { unit: leader::run(&own, candidacy), leads, _system: own }
}

fn contender(api: &TestApi, system: &System, name: &'static str, emulated: &str) -> Contender {
    contender_by(api.server.clone(), api, system, name, emulated)
}

/// An API server that has candidates.
async fn server(system: &System) -> TestApi {
    let features = FeatureGates::parse(&["CoordinatedLeaderElection=true".into()]).expect("there is such a feature");
    let resources = builtin().into_iter().chain(optional(|feature| features.is_on(feature))).collect();
    let (store, clock) = (Arc::new(MemoryStore::new()), system.clock().clone());
    boot_with(ApiServerOptions { system: system.clone(), clock, resources, features, ..ApiServerOptions::new(store) }).await
}

/// The same where it chooses leaders, and what it reads by.
async fn choosing(system: &System) -> (TestApi, Caches) {
    let api = server(system).await;
    let caches = Caches::new(system.clone(), api.client.clone());
    controller::start_below("apiserver", system, &caches, api.client.clone(), LeaderElectionController::new(&caches));
    (api, caches)
}

async fn holder(api: &TestApi) -> String {
    let lease = api.client.namespaced::<Lease>(NAMESPACE).get_opt(SCHEDULER).await.expect("the server answers");
    lease.and_then(|lease| lease.spec.clone()?.holder_identity).unwrap_or_default()
}

/// Waits until `one` leads, while `other` never does at the same time.
async fn wait_for(api: &TestApi, name: &str, one: &Contender, other: Option<&Contender>) {
    let waiting = async {
        while !one.leads.load(SeqCst) || holder(api).await != name {
            let both = one.leads.load(SeqCst) && other.is_some_and(|other| other.leads.load(SeqCst));
            assert!(!both, "one leads at a time");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.unwrap_or_else(|_| panic!("{name} does not lead"));
}

#[test]
fn the_lead_goes_to_the_oldest_version_and_back_when_it_ends() {
    simulate(5, |system| async move {
        let (api, _caches) = choosing(&system).await;
        let new = contender(&api, &system, "new", "1.36.0");
        wait_for(&api, "new", &new, None).await;
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(new.leads.load(SeqCst), "it goes on");
        let old = contender(&api, &system, "old", "1.35.0");
        wait_for(&api, "old", &old, Some(&new)).await;
        assert!(!new.leads.load(SeqCst));
        old.unit.ask(Release, Cause::default()).await.expect("answers");
        let left = api.client.namespaced::<LeaseCandidate>(NAMESPACE).get_opt("old").await.expect("the server answers");
        assert_eq!((left, old.leads.load(SeqCst)), (None, false));
        wait_for(&api, "new", &new, Some(&old)).await;
    });
}

#[test]
fn a_lease_is_given_up_although_the_candidate_cannot_be_taken_away() {
    simulate(6, |system| async move {
        let (api, _caches) = choosing(&system).await;
        let one = contender_by(Arc::new(Keeping(api.server.clone())), &api, &system, "one", "1.36.0");
        wait_for(&api, "one", &one, None).await;
        // Its answer is too old by now for it to be chosen again at once.
        tokio::time::sleep(Duration::from_secs(60)).await;
        one.unit.ask(Release, Cause::default()).await.expect("answers");
        assert_eq!((holder(&api).await.as_str(), one.leads.load(SeqCst)), ("", false));
    });
}

#[test]
fn who_has_told_since_it_was_judged_is_not_taken_away() {
    simulate(7, |system| async move {
        let api = server(&system).await;
        let candidates = api.client.namespaced::<LeaseCandidate>(NAMESPACE);
        let judged = candidates.create(&candidate("a", "1.36.0", None, 0)).await.expect("made");
        let spec = LeaseCandidateSpec { renew_time: Some(MicroTime(at(1))), ..judged.spec.clone() };
        let told = candidates.update(&LeaseCandidate { spec, ..(*judged).clone() }).await.expect("renewed");
        let refused = candidates.delete("a", as_seen(&judged.metadata)).await.expect_err("it is another one by now");
        assert!(refused.is_conflict(), "{refused:?}");
        candidates.delete("a", as_seen(&told.metadata)).await.expect("as it is");
    });
}

#[test]
fn a_candidate_hears_that_it_is_asked_and_asks_nobody_by_itself() {
    simulate(8, |system| async move {
        let (api, calls) = (server(&system).await, Arc::new(AtomicUsize::new(0)));
        let _one = contender_by(Arc::new(Counting(api.server.clone(), calls.clone())), &api, &system, "one", "1.36.0");
        let candidates = api.client.namespaced::<LeaseCandidate>(NAMESPACE);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!((3..10).contains(&calls.swap(0, SeqCst)), "it reads, writes and watches its candidate");
        let told = candidates.get("one").await.expect("it stands");
        let spec = LeaseCandidateSpec { ping_time: Some(MicroTime(system.clock().now())), ..told.spec.clone() };
        candidates.update(&LeaseCandidate { spec, ..(*told).clone() }).await.expect("it is asked");
        tokio::time::sleep(Duration::from_millis(500)).await;
        let spec = candidates.get("one").await.expect("it stands").spec.clone();
        assert!(spec.renew_time >= spec.ping_time && spec.ping_time.is_some(), "{spec:?}");
        assert_eq!(calls.swap(0, SeqCst), 3, "the same again");
        candidates.delete("one", as_seen(&candidates.get("one").await.expect("there").metadata)).await.expect("is taken away");
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert!(candidates.get_opt("one").await.expect("the server answers").is_some(), "it stands again");
        assert_eq!(calls.load(SeqCst), 3);
    });
}
