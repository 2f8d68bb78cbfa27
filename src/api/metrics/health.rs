//! `/metrics/slis`: what health checks said, when somebody asked them.

use bytes::Bytes;

use super::{Collect, Counter, Family, Gauge, Process, render};

static NOW: Family<Gauge> = Family::new("kubernetes_healthcheck", "This metric records the result of a single healthcheck.", &["name", "type"]);
static TOTAL: Family<Counter> =
    Family::new("kubernetes_healthchecks_total", "This metric records the results of all healthcheck.", &["name", "type", "status"]);

/// A check (`ping`) of a kind (`livez`) went well or not.
pub fn checked(name: &str, kind: &str, well: bool) {
    NOW.with(&[name, kind]).set(f64::from(u8::from(well)));
    TOTAL.with(&[name, kind, if well { "success" } else { "error" }]).increment();
}

/// The whole page.
pub fn slis() -> Bytes {
    let started = |text: &mut super::Text| Process.start_time(text);
    render(&[&NOW as &dyn Collect, &TOTAL, &started])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::parse::Samples;

    #[test]
    fn the_last_result_and_how_many_there_were_are_told() {
        checked("test-check", "livez", true);
        checked("test-check", "livez", false);
        let page = slis();
        let samples = Samples::parse(std::str::from_utf8(&page).expect("text")).expect("parses");
        assert_eq!(samples.value("kubernetes_healthcheck", &[("name", "test-check"), ("type", "livez")]), Some(0.0));
        assert_eq!(samples.value("kubernetes_healthchecks_total", &[("name", "test-check"), ("status", "success")]), Some(1.0));
        assert!(samples.value("process_start_time_seconds", &[]).is_some());
    }
}
