//! How long plugins and whole steps of admission take, under upstream's names.

use std::{sync::OnceLock, time::Duration};

use troupe_api::metrics::{Collect, Family, Histogram};

use super::Operation;

const SECONDS: [f64; 6] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5];

static PLUGINS: Family<Histogram> = Family::histogram(
    "apiserver_admission_controller_admission_duration_seconds",
    "Admission controller latency histogram in seconds, identified by name and broken out for each operation and API resource and type (validate or admit).",
    &["name", "type", "operation", "rejected"],
    &SECONDS,
);
static STEPS: Family<Histogram> = Family::histogram(
    "apiserver_admission_step_admission_duration_seconds",
    "Admission sub-step latency histogram in seconds, broken out for each operation and API resource and step type (validate or admit).",
    &["type", "operation", "rejected"],
    &SECONDS,
);

/// What is told of the time that admission takes.
pub static COLLECTORS: [&dyn Collect; 2] = [&PLUGINS, &STEPS];

/// All plugins that mutate, and all that validate.
pub(super) static ADMIT: Durations = Durations::of_step(Step::Admit);
pub(super) static VALIDATE: Durations = Durations::of_step(Step::Validate);

/// What plugins are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Admit,
    Validate,
}

impl Step {
    const fn name(self) -> &'static str {
        match self {
            Step::Admit => "admit",
            Step::Validate => "validate",
        }
    }
}

/// The series of one plugin, or of all of them, in one step. Every write observes dozens of these, so each is looked up once.
#[derive(Debug)]
pub(super) struct Durations {
    plugin: Option<&'static str>,
    step: Step,
    /// By operation, and whether it was rejected.
    series: [OnceLock<&'static Histogram>; 8],
}

impl Durations {
    pub const fn of_plugin(name: &'static str, step: Step) -> Self {
        Durations { plugin: Some(name), step, series: [const { OnceLock::new() }; 8] }
    }

    pub const fn of_step(step: Step) -> Self {
        Durations { plugin: None, step, series: [const { OnceLock::new() }; 8] }
    }

    /// It took so long to admit or to reject a request.
    pub fn observe(&self, operation: Operation, rejected: bool, took: Duration) {
        let at = operation as usize * 2 + usize::from(rejected);
        self.series[at].get_or_init(|| self.find(operation, rejected)).observe_time(took);
    }

    fn find(&self, operation: Operation, rejected: bool) -> &'static Histogram {
        let (step, operation, rejected) = (self.step.name(), operation.upper(), if rejected { "true" } else { "false" });
        match self.plugin {
            Some(name) => PLUGINS.find(&[name, step, operation, rejected]),
            None => STEPS.find(&[step, operation, rejected]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_api::metrics::{parse::Samples, render};

    #[test]
    fn each_operation_and_outcome_has_its_own_series() {
        let durations = Durations::of_plugin("Counted", Step::Validate);
        for operation in [Operation::Create, Operation::Update, Operation::Delete, Operation::Connect] {
            durations.observe(operation, false, Duration::from_millis(10));
        }
        durations.observe(Operation::Connect, true, Duration::from_secs(3));
        durations.observe(Operation::Connect, true, Duration::from_secs(1));
        let page = render(&COLLECTORS);
        let text = std::str::from_utf8(&page).expect("text");
        let samples = Samples::parse(text).expect("parses");
        let count = |operation, rejected| {
            let labels = [("name", "Counted"), ("type", "validate"), ("operation", operation), ("rejected", rejected)];
            samples.value("apiserver_admission_controller_admission_duration_seconds_count", &labels)
        };
        assert_eq!(["CREATE", "UPDATE", "DELETE", "CONNECT"].map(|operation| count(operation, "false")), [Some(1.0); 4]);
        assert_eq!((count("CREATE", "true"), count("CONNECT", "true")), (None, Some(2.0)));
        let series = "apiserver_admission_controller_admission_duration_seconds_bucket{name=\"Counted\",type=\"validate\",operation=\"CONNECT\",rejected=\"true\",le=";
        assert!(text.contains(&format!("{series}\"0.5\"}} 0\n")) && text.contains(&format!("{series}\"2.5\"}} 1\n")), "{text}");
    }

    #[test]
    fn whole_steps_have_a_family_of_their_own() {
        ADMIT.observe(Operation::Connect, true, Duration::from_millis(1));
        let page = render(&COLLECTORS);
        let text = std::str::from_utf8(&page).expect("text");
        let count = "apiserver_admission_step_admission_duration_seconds_count{type=\"admit\",operation=\"CONNECT\",rejected=\"true\"} ";
        assert!(text.contains(count) && text.contains("# TYPE apiserver_admission_step_admission_duration_seconds histogram\n"), "{text}");
    }
}
