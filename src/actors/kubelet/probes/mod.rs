//! Probes: when each is due and what its results add up to (pure), and how one is run.

mod grpc;
pub mod http;
pub mod run;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodStatus, Probe};

use troupe_api::meta::time::{not_beyond, shifted};

use super::worker::{
    backoff,
    observed::ContainerView,
    plan::{StopReason, Verdict, find_container},
};

/// The three kinds of probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

impl ProbeKind {
    /// As events name it.
    pub fn name(self) -> &'static str {
        match self {
            ProbeKind::Startup => "Startup",
            ProbeKind::Liveness => "Liveness",
            ProbeKind::Readiness => "Readiness",
        }
    }

    fn of(self, container: &Container) -> Option<&Probe> {
        match self {
            ProbeKind::Startup => container.startup_probe.as_ref(),
            ProbeKind::Liveness => container.liveness_probe.as_ref(),
            ProbeKind::Readiness => container.readiness_probe.as_ref(),
        }
    }
}

const KINDS: [ProbeKind; 3] = [ProbeKind::Startup, ProbeKind::Liveness, ProbeKind::Readiness];

/// What one run of a probe gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeOutcome {
    Success,
    /// A success that somebody should know more of.
    Warning(String),
    /// With what the probe printed.
    Failure(String),
    /// The probe itself could not be run; this counts for nothing.
    Unknown(String),
}

/// A probe's limit as Go prints it.
fn go_duration(limit: Duration) -> String {
    backoff::go_duration(SignedDuration::from_secs(i64::try_from(limit.as_secs()).unwrap_or(i64::MAX)))
}

/// A probe to be run now.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeTask {
    pub container_id: String,
    pub container: String,
    pub kind: ProbeKind,
    pub probe: Probe,
}

/// One probe of one running container.
#[derive(Clone, Debug)]
struct ProbeState {
    container: String,
    probe: Probe,
    due: Timestamp,
    running: bool,
    /// The settled result; `None` before the first.
    holds: Option<bool>,
    last: Option<bool>,
    streak: i32,
}

impl ProbeState {
    fn period(&self) -> SignedDuration {
        seconds(self.probe.period_seconds, 10).max(SignedDuration::from_secs(1))
    }

    /// How far ahead the next run can have been set.
    fn longest(&self) -> Duration {
        self.period().max(seconds(self.probe.initial_delay_seconds, 0)).unsigned_abs()
    }
}

/// All probes of a pod.
#[derive(Clone, Debug, Default)]
pub struct Probes {
    states: BTreeMap<(String, ProbeKind), ProbeState>,
    /// The running containers we know, and whether they have probes of each kind.
    containers: BTreeMap<String, String>,
    /// The pod stops.
    stopping: bool,
}

fn seconds(value: Option<i32>, default: i32) -> SignedDuration {
    SignedDuration::from_secs(value.unwrap_or(default).max(0).into())
}

impl Probes {
    /// Follows the runtime: new `begun` containers get their probes, ended ones lose them. One has begun when it runs and its
    /// postStart hook is done. `was_ready` tells what the API knows of a container that ran before this daemon did.
    pub fn follow(&mut self, spec: &PodSpec, begun: &[&ContainerView], was_ready: impl Fn(&str) -> Option<(bool, bool)>, now: Timestamp) {
        let running: BTreeMap<String, String> = begun.iter().map(|seen| (seen.id.clone(), seen.name.clone())).collect();
        self.states.retain(|(id, _), _| running.contains_key(id));
        for seen in begun.iter().filter(|seen| !self.containers.contains_key(&seen.id)) {
            let Some(container) = find_container(spec, &seen.name) else { continue };
            let known = was_ready(&seen.id);
            for kind in KINDS {
                let Some(probe) = kind.of(container) else { continue };
                let holds = match kind {
                    ProbeKind::Liveness => Some(true),
                    ProbeKind::Startup => known.map(|(started, _)| started).filter(|started| *started),
                    ProbeKind::Readiness => known.map(|(_, ready)| ready),
                };
                let delay = seconds(probe.initial_delay_seconds, 0);
                let first = not_beyond(shifted(seen.started(), delay), now, delay.unsigned_abs());
                let state = ProbeState {
                    container: seen.name.clone(),
                    probe: probe.clone(),
                    due: first.max(now),
                    running: false,
                    holds,
                    last: None,
                    streak: 0,
                };
                self.states.insert((seen.id.clone(), kind), state);
            }
        }
        self.containers = running;
    }

    /// Of a pod that stops nothing is asked any more but whether it is ready: it may drain, and says so (upstream's
    /// `StopLivenessAndStartup`).
    pub fn stop(&mut self) {
        self.stopping = true;
    }

    fn started(&self, id: &str) -> bool {
        self.states.get(&(id.to_owned(), ProbeKind::Startup)).is_none_or(|state| state.holds == Some(true))
    }

    /// Startup probes run until they succeed; the others from then on. A failed container waits for its end.
    fn active(&self, id: &str, kind: ProbeKind, state: &ProbeState) -> bool {
        match kind {
            ProbeKind::Startup => !self.stopping && state.holds.is_none(),
            ProbeKind::Liveness => !self.stopping && self.started(id) && state.holds != Some(false),
            ProbeKind::Readiness => self.started(id),
        }
    }

    /// The probes that are due; each runs once at a time.
    pub fn take_due(&mut self, now: Timestamp) -> Vec<ProbeTask> {
        for state in self.states.values_mut() {
            state.due = not_beyond(state.due, now, state.longest());
        }
        let due = |(key, state): (&(String, ProbeKind), &ProbeState)| {
            (!state.running && state.due <= now && self.active(&key.0, key.1, state)).then(|| key.clone())
        };
        let keys: Vec<_> = self.states.iter().filter_map(due).collect();
        keys.into_iter()
            .map(|key| {
                let state = self.states.get_mut(&key).expect("its key was just read");
                state.running = true;
                state.due = shifted(now, state.period());
                ProbeTask { container: state.container.clone(), probe: state.probe.clone(), container_id: key.0, kind: key.1 }
            })
            .collect()
    }

    /// When the next probe is due.
    pub fn next_due(&self) -> Option<Timestamp> {
        let waiting = self.states.iter().filter(|(key, state)| !state.running && self.active(&key.0, key.1, state));
        waiting.map(|(_, state)| state.due).min()
    }

    /// Takes a result in. Gives whether the settled result changed.
    pub fn record(&mut self, id: &str, kind: ProbeKind, outcome: &ProbeOutcome, now: Timestamp) -> bool {
        let Some(state) = self.states.get_mut(&(id.to_owned(), kind)) else { return false };
        state.running = false;
        let success = match outcome {
            ProbeOutcome::Success | ProbeOutcome::Warning(_) => true,
            ProbeOutcome::Failure(_) => false,
            ProbeOutcome::Unknown(_) => return false,
        };
        state.streak = if state.last == Some(success) { state.streak + 1 } else { 1 };
        state.last = Some(success);
        let threshold = if success { state.probe.success_threshold.unwrap_or(1) } else { state.probe.failure_threshold.unwrap_or(3) };
        if state.streak < threshold || state.holds == Some(success) {
            return false;
        }
        state.holds = Some(success);
        if kind == ProbeKind::Startup && success {
            // What waited for the startup begins at once.
            self.states.iter_mut().filter(|((of, _), _)| of == id).for_each(|(_, state)| state.due = now);
        }
        true
    }

    /// What the probes say, by container id, for all containers that have begun.
    pub fn verdicts(&self) -> BTreeMap<String, Verdict> {
        self.containers.keys().map(|id| (id.clone(), self.verdict(id))).collect()
    }

    fn verdict(&self, id: &str) -> Verdict {
        let state = |kind| self.states.get(&(id.to_owned(), kind));
        let failed = |kind| state(kind).filter(|state| state.holds == Some(false));
        let started = self.started(id);
        let ready = state(ProbeKind::Readiness).is_none_or(|state| state.holds == Some(true));
        let unhealthy = failed(ProbeKind::Startup)
            .map(|state| (StopReason::Startup, state))
            .or_else(|| failed(ProbeKind::Liveness).map(|state| (StopReason::Liveness, state)));
        Verdict {
            started,
            ready: started && ready,
            unhealthy: unhealthy.map(|(reason, _)| reason),
            grace: unhealthy.and_then(|(_, state)| state.probe.termination_grace_period_seconds),
        }
    }
}

/// What the API knows of a container that ran before this daemon did: started and ready.
pub fn was_ready(status: Option<&PodStatus>, id: &str) -> Option<(bool, bool)> {
    let status = status?;
    let mut all = status.init_container_statuses.iter().flatten().chain(status.container_statuses.iter().flatten());
    let known = all.find(|status| status.container_id.as_deref().is_some_and(|known| known.ends_with(id)))?;
    Some((known.started == Some(true), known.ready))
}
