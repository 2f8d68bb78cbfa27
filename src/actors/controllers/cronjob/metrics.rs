//! What the controller of cron jobs counts, under upstream's name.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use troupe_api::metrics::{Collect, Family, Histogram, exponential};

const SECONDS: [f64; 10] = exponential(1.0, 2.0);

static SKEW: Family<Histogram> = Family::histogram(
    "cronjob_controller_job_creation_skew_duration_seconds",
    "Time between when a cronjob is scheduled to be run, and when the corresponding job is created",
    &[],
    &SECONDS,
);

/// What the controller of cron jobs counts.
pub static COLLECTORS: [&dyn Collect; 1] = [&SKEW];

/// A job that was due at `scheduled` was made at `created`.
pub(super) fn made(created: Option<&Time>, scheduled: Timestamp) {
    if let Some(created) = created {
        SKEW.with(&[]).observe(created.0.duration_since(scheduled).as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use troupe_api::metrics::{parse::Samples, render};

    use super::*;

    #[test]
    fn how_late_jobs_are_made_is_on_the_page() {
        let due = Timestamp::from_second(1_000_000).expect("a time");
        let late = Time(Timestamp::from_second(1_000_003).expect("a time"));
        made(None, due);
        made(Some(&late), due);
        let page = render(&COLLECTORS);
        let text = std::str::from_utf8(&page).expect("text");
        let samples = Samples::parse(text).expect("parses");
        let bucket = |bound| samples.value("cronjob_controller_job_creation_skew_duration_seconds_bucket", &[("le", bound)]).expect("a bucket");
        // Other tests of this process make jobs too.
        assert!(bucket("4") >= bucket("2") + 1.0 && bucket("512") >= 1.0, "{text}");
        assert!(text.contains("# TYPE cronjob_controller_job_creation_skew_duration_seconds histogram\n"), "{text}");
    }
}
