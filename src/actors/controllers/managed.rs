//! Which controllers run in this process, under upstream's name: of those of its controller manager upstream tells of one.

use troupe_api::metrics::{Collect, Family, Gauge};

const MANAGER: &str = "kube-controller-manager";

static RUNNING: Family<Gauge> =
    Family::new("running_managed_controllers", "Indicates where instances of a controller are currently running", &["manager", "name"]);

/// See the module.
pub static COLLECTORS: [&dyn Collect; 1] = [&RUNNING];

/// For as long as it lives its controller counts as running.
#[derive(Debug)]
pub struct Managed(&'static str);

impl Managed {
    /// From now on.
    pub fn begin(name: &'static str) -> Self {
        RUNNING.with(&[MANAGER, name]).add(1.0);
        Managed(name)
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        RUNNING.with(&[MANAGER, self.0]).add(-1.0);
    }
}

#[cfg(test)]
mod tests {
    use troupe_api::metrics::{parse::Samples, render};

    use super::*;

    #[test]
    fn a_controller_counts_as_running_until_it_ends() {
        let told = || {
            let page = render(&COLLECTORS);
            let samples = Samples::parse(std::str::from_utf8(&page).expect("text")).expect("parses");
            samples.value("running_managed_controllers", &[("name", "of-this-test"), ("manager", MANAGER)])
        };
        let managed = Managed::begin("of-this-test");
        assert_eq!(told(), Some(1.0));
        drop(managed);
        assert_eq!(told(), Some(0.0));
    }
}
