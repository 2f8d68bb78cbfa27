//! What a scheduler plugin is, and when it is asked.
//!
//! For each pod a plugin is asked once (`pre_filter`), and answers with a [`NodeFilter`] that holds what it computed for this pod;
//! that is asked for each node, and told which pods come and go while preemption is tried out. Likewise `pre_score` answers with a
//! [`NodeScorer`]. Once a node is chosen a plugin may keep something there for the pod (`reserve`), make it wait (`permit`), and write
//! before it is bound (`pre_bind`). Which plugin is asked at which [`Point`] says the [`Profile`].

mod change;
mod diagnosis;
mod filters;
mod node_filter;
mod node_scorer;
mod outcome;
mod permit;
mod plugin;
mod point;
mod profile;
mod profiles;

pub use self::{
    change::{ClusterChange, Event},
    diagnosis::{Diagnosis, listed},
    filters::{Filters, NodeNames, PluginRejection},
    node_filter::{DependsOn, NodeFilter, PreFilter, Reasons, Rejection, filter_error},
    node_scorer::{MAX_SCORE, NodeScorer, normalize_to_largest},
    outcome::{Candidate, DryRun, Nomination, Outcome, Preemption, Victim},
    permit::{Permit, PluginRefusal, Refusal, WaitingPods},
    plugin::{Failure, Plugin, Undecided, Writing},
    point::Point,
    profile::Profile,
    profiles::Profiles,
};
