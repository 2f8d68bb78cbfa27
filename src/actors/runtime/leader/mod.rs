//! Leader election by Lease, as client-go does it: of several processes one at a time runs a subtree of units.
//!
//! The [`Candidate`] unit tries for the lease every few seconds. While it holds it, the subtree runs with a service that
//! works only until the renew deadline after the last renewal that is known to have succeeded ([`mandate`]): past that
//! moment nothing leaves this process, whatever its units still do, and others take over only later. Then the subtree is
//! stopped, and the candidate tries again.
//!
//! Where the feature `CoordinatedLeaderElection` is on, candidates tell of themselves (`lease_candidate`) and take no lease by themselves: an
//! API server chooses who holds it (`controllers/leader_election`), and asks the leader to give it up where another one would do better.
//!
//! Candidates, and what their requests wait for in an API server of the same process, have an arbiter of their own
//! ([`ArbiterGroup::Leases`]): the lead is not lost because there is much to do.

#[cfg(test)]
mod apart_tests;
mod election;
mod lease_candidate;
pub mod mandate;
mod metrics;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use actix::Message;
use k8s_openapi::{
    api::{
        coordination::{
            v1::{Lease, LeaseSpec},
            v1beta1::{LeaseCandidate, LeaseCandidateSpec},
        },
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use rand::Rng;
use serde_json::{Value, json};
use tokio::time::Instant;
use troupe_api::{ApiService, Status};
use troupe_api_client::{Api, Client};

pub use self::{election::Terms, lease_candidate::of_version, metrics::COLLECTORS};
use self::{
    election::{Observed, Standing, claim, standing, waive},
    mandate::Mandate,
};
use super::{
    envelope::Reply,
    events::EventRecorder,
    host::{On, Unit, UnitAddr, UnitContext},
    placement::ArbiterGroup,
    system::System,
    unit::Policy,
};

/// client-go's `JitterFactor`: a candidate waits up to this much longer than the retry period.
const JITTER: f64 = 1.2;
/// Where leases of components are.
const NAMESPACE: &str = "kube-system";

/// Of several candidates the one that behaves as the oldest version is to lead: the strategy of the control plane's own.
pub const OLDEST_EMULATION_VERSION: &str = "OldestEmulationVersion";

/// Stops a subtree.
pub type Stop = Box<dyn FnOnce() + Send>;
/// Starts a subtree that acts through the given service, and says how it is stopped.
pub type Start = Arc<dyn Fn(Arc<dyn ApiService>) -> Stop + Send + Sync>;

/// What a candidate stands for.
#[derive(Clone)]
pub struct Candidacy {
    /// The lease, such as `kube-scheduler`.
    pub lease: &'static str,
    /// What events about the lead name as their source.
    pub event_source: &'static str,
    /// Distinguishes this process from all others, and from none of its own restarts where the same name is kept.
    pub identity: Arc<str>,
    pub terms: Terms,
    /// What this process says of itself to who chooses the leader; `None` where whoever comes first leads. The identity is the candidate's name.
    pub coordinated: Option<LeaseCandidateSpec>,
    /// Reads and writes the lease, and tells of transitions in events.
    pub client: Client,
    /// What the subtree's service passes calls on to.
    pub service: Arc<dyn ApiService>,
    pub start: Start,
}

/// Runs a candidate at `leader/LEASE`.
pub fn run(system: &System, candidacy: Candidacy) -> UnitAddr<Candidate> {
    let policy = Policy { group: ArbiterGroup::Leases, ..Policy::default() };
    system.spawn(format!("leader/{}", candidacy.lease), policy, move |cx| {
        let events = EventRecorder::new(cx.system(), &candidacy.client, candidacy.event_source);
        Candidate { candidacy: candidacy.clone(), events, observed: Observed::default(), reported: String::new(), leadership: None, released: false }
    })
}

/// A subtree at work. Ends with this.
struct Leadership {
    lease: &'static str,
    mandate: Mandate,
    stop: Option<Stop>,
}

impl Drop for Leadership {
    fn drop(&mut self) {
        metrics::leads(self.lease, false);
        self.mandate.revoke();
        if let Some(stop) = self.stop.take() {
            stop();
        }
    }
}

/// See the module.
pub struct Candidate {
    candidacy: Candidacy,
    events: EventRecorder,
    observed: Observed,
    /// The leader that was last told of.
    reported: String,
    leadership: Option<Leadership>,
    released: bool,
}

/// Gives the lead up, if it is held here, and stands no more. Answers when the lease says so.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Release;

/// A lease that was written, and when the request that wrote it began.
struct Written {
    lease: Arc<Lease>,
    begun: Instant,
}

impl Unit for Candidate {
    fn started(&mut self, cx: &mut UnitContext<'_, Self>) {
        metrics::leads(self.candidacy.lease, false);
        self.stand(cx);
        self.try_now(cx);
    }

    fn observe(&self) -> Value {
        json!({"identity": &*self.candidacy.identity, "leader": self.observed.holder(), "leads": self.leadership.is_some()})
    }
}

impl On<Release> for Candidate {
    fn on(&mut self, _: Release, cx: &mut UnitContext<'_, Self>) -> Reply<()> {
        self.released = true;
        // Its units end with it.
        let led = self.leadership.take().is_some();
        if led {
            self.report("stopped leading");
        }
        let stands = self.candidacy.coordinated.is_some();
        if !led && !stands {
            return ().into();
        }
        let (api, name, identity, clock) = (self.api(), self.candidacy.lease, self.candidacy.identity.clone(), cx.system().clock().clone());
        let (limit, candidates) = (self.candidacy.terms.renew, self.candidates());
        let release = async move {
            // First, so that nobody chooses this process again; one that stays does not answer and runs out.
            if stands && let Err(status) = lease_candidate::withdraw(&candidates, &identity).await {
                tracing::warn!(lease = name, error = %status, "the candidate is not withdrawn and runs out by itself");
            }
            if !led {
                return Ok(());
            }
            let mut lease = (*api.get(name).await?).clone();
            let spec = lease.spec.take().unwrap_or_default();
            if spec.holder_identity.as_deref() == Some(&*identity) {
                lease.spec = Some(waive(&spec, clock.now()));
                api.update(&lease).await?;
            }
            Ok::<_, Status>(())
        };
        Reply::later(async move {
            match tokio::time::timeout(limit, release).await {
                Ok(Ok(())) => {}
                Ok(Err(status)) => tracing::warn!(lease = name, error = %status, "the lease is not released and runs out by itself"),
                Err(_) => tracing::warn!(lease = name, "the lease is not released in time and runs out by itself"),
            }
        })
    }
}

impl Candidate {
    fn api(&self) -> Api<Lease> {
        self.candidacy.client.namespaced(NAMESPACE)
    }

    fn candidates(&self) -> Api<LeaseCandidate> {
        self.candidacy.client.namespaced(NAMESPACE)
    }

    /// Tells that this process is there, where somebody chooses among those that are, and again when it is asked or time has passed.
    fn stand(&mut self, cx: &mut UnitContext<'_, Self>) {
        let Some(wanted) = self.candidacy.coordinated.clone().filter(|_| !self.released) else { return };
        let (api, name, limit, clock) = (self.candidates(), self.candidacy.identity.clone(), self.candidacy.terms.renew, cx.system().clock().clone());
        let keep = async move {
            let kept = tokio::time::timeout(limit, lease_candidate::keep(&api, &name, &wanted, clock.now())).await;
            let kept = kept.unwrap_or_else(|_| Err(Status::timeout("the candidate was not written in time")))?;
            lease_candidate::is_asked(&api, &kept, &wanted, &*clock).await
        };
        cx.spawn_then(keep, |unit, asked, cx| {
            match asked {
                Ok(true) => return unit.stand(cx),
                Ok(false) => {}
                Err(status) => tracing::debug!(lease = unit.candidacy.lease, error = %status, "the candidate was not written, will retry"),
            }
            // Whoever else writes it does so once a second at most.
            cx.after(lease_candidate::LOOK, Self::stand);
        });
    }

    /// Reads the lease and goes on with what it says; then comes the next try.
    fn try_now(&mut self, cx: &mut UnitContext<'_, Self>) {
        if self.released {
            return;
        }
        let (api, name) = (self.api(), self.candidacy.lease);
        let limit = self.candidacy.terms.renew;
        let read = async move {
            tokio::time::timeout(limit, api.get_opt(name)).await.unwrap_or_else(|_| Err(Status::timeout("the lease was not read in time")))
        };
        cx.spawn_then(read, |unit, read, cx| match read {
            Ok(lease) => unit.on_read(lease, cx),
            Err(status) => unit.on_failure(&status, cx),
        });
    }

    fn on_read(&mut self, lease: Option<Arc<Lease>>, cx: &mut UnitContext<'_, Self>) {
        if self.released {
            return;
        }
        let spec = lease.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        if let Some(spec) = &spec {
            self.observed.see(spec, cx.system().instant());
        }
        let Candidacy { identity, terms, coordinated, .. } = &self.candidacy;
        let standing = match coordinated {
            Some(_) => standing(spec.as_ref(), identity),
            None if self.observed.is_taken(identity, terms, cx.system().instant()) => Standing::Wait,
            None => Standing::Lead,
        };
        match standing {
            Standing::Lead => {}
            Standing::GiveUp => return self.give_up(lease, cx),
            Standing::Wait => {
                // Somebody else took it: then it had run out for us too.
                self.end();
                self.announce_leader();
                return self.try_later(cx);
            }
        }
        let Candidacy { identity, terms, .. } = &self.candidacy;
        let wanted = claim(spec.as_ref(), identity, terms, cx.system().clock().now());
        self.write(lease, wanted, cx);
    }

    /// Another one would do better: the units end, and then the lease says so.
    fn give_up(&mut self, lease: Option<Arc<Lease>>, cx: &mut UnitContext<'_, Self>) {
        self.end();
        let Some(lease) = lease else { return self.try_later(cx) };
        let waived = waive(&lease.spec.clone().unwrap_or_default(), cx.system().clock().now());
        let (api, limit) = (self.api(), self.candidacy.terms.renew);
        let write = async move {
            let lease = Lease { spec: Some(waived), ..(*lease).clone() };
            tokio::time::timeout(limit, api.update(&lease)).await.unwrap_or_else(|_| Err(Status::timeout("the lease was not given up in time")))
        };
        cx.spawn_then(write, |unit, written, cx| match written {
            Ok(_) => unit.try_later(cx),
            Err(status) => unit.on_failure(&status, cx),
        });
    }

    fn write(&mut self, old: Option<Arc<Lease>>, spec: LeaseSpec, cx: &mut UnitContext<'_, Self>) {
        let (api, name, limit) = (self.api(), self.candidacy.lease, self.candidacy.terms.renew);
        let begun = Instant::now();
        let write = async move {
            match old {
                Some(old) => api.update(&Lease { spec: Some(spec), ..(*old).clone() }).await,
                None => api.create(&Lease { metadata: lease_name(name), spec: Some(spec) }).await,
            }
        };
        let write =
            async move { tokio::time::timeout(limit, write).await.unwrap_or_else(|_| Err(Status::timeout("the lease was not written in time"))) };
        cx.spawn_then(write, move |unit, written, cx| match written {
            Ok(lease) => unit.on_written(&Written { lease, begun }, cx),
            Err(status) => unit.on_failure(&status, cx),
        });
    }

    /// The lease is ours, counted from when we asked for it.
    fn on_written(&mut self, written: &Written, cx: &mut UnitContext<'_, Self>) {
        if self.released {
            return;
        }
        self.observed.see(&written.lease.spec.clone().unwrap_or_default(), cx.system().instant());
        let until = written.begun + self.candidacy.terms.renew;
        if until <= Instant::now() {
            self.end();
        } else if let Some(leadership) = &self.leadership {
            if !leadership.mandate.extend(until) {
                self.end();
            }
        } else {
            let mandate = Mandate::new(until);
            let stop = (self.candidacy.start)(mandate.service(self.candidacy.service.clone()));
            self.leadership = Some(Leadership { lease: self.candidacy.lease, mandate, stop: Some(stop) });
            metrics::leads(self.candidacy.lease, true);
            self.report("became leader");
            self.watch_end(until, cx);
        }
        self.announce_leader();
        self.try_later(cx);
    }

    fn on_failure(&mut self, status: &Status, cx: &mut UnitContext<'_, Self>) {
        tracing::debug!(lease = self.candidacy.lease, error = %status, "the lease was not renewed, will retry");
        self.try_later(cx);
    }

    fn try_later(&mut self, cx: &mut UnitContext<'_, Self>) {
        let retry = self.candidacy.terms.retry;
        let pause = if self.leadership.is_some() { retry } else { retry.mul_f64(1.0 + JITTER * cx.system().rng().random_range(0.0..1.0)) };
        cx.after(pause, Self::try_now);
    }

    /// Stops the subtree when the mandate runs out; by itself it has refused since.
    fn watch_end(&mut self, until: Instant, cx: &mut UnitContext<'_, Self>) {
        cx.after(until.saturating_duration_since(Instant::now()), |unit, cx| {
            match unit.leadership.as_ref().map(|leadership| leadership.mandate.until()) {
                Some(Some(until)) if until > Instant::now() => unit.watch_end(until, cx),
                Some(_) => unit.end(),
                None => {}
            }
        });
    }

    fn end(&mut self) {
        if let Some(leadership) = self.leadership.take() {
            drop(leadership);
            tracing::warn!(lease = self.candidacy.lease, "lost the lead: its units are stopped");
            self.report("stopped leading");
        }
    }

    /// Tells of one's own rise and fall in an event on the lease.
    fn report(&self, what: &str) {
        let lease = ObjectReference {
            api_version: Some("coordination.k8s.io/v1".into()),
            kind: Some("Lease".into()),
            namespace: Some(NAMESPACE.into()),
            name: Some(self.candidacy.lease.into()),
            ..ObjectReference::default()
        };
        self.events.normal(&lease, "LeaderElection", format!("{} {what}", self.candidacy.identity));
    }

    fn announce_leader(&mut self) {
        if self.reported != self.observed.holder() {
            self.reported = self.observed.holder().to_owned();
            tracing::info!(lease = self.candidacy.lease, leader = self.reported, "new leader");
        }
    }
}

fn lease_name(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), namespace: Some(NAMESPACE.into()), ..ObjectMeta::default() }
}
