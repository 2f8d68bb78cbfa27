//! Pressure stall information (PSI, KEP-4205): how long tasks of a cgroup waited for processors, memory and disks. Cgroups of version 2 tell
//! it, where the kernel counts it.

use serde_json::{Value, json};

/// For how long tasks waited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stall {
    /// Microseconds, all in all.
    pub total: u64,
    /// Hundredths of a percent of the last 10, 60 and 300 seconds.
    averages: [u32; 3],
}

/// Waiting for one resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    /// Some tasks waited.
    pub some: Stall,
    /// All tasks did, so that nothing got on.
    pub full: Stall,
}

/// What one cgroup's tasks waited for; `None` where that is not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressures {
    pub cpu: Option<Pressure>,
    pub memory: Option<Pressure>,
    pub io: Option<Pressure>,
}

impl Pressures {
    /// What a cgroup's files tell.
    pub fn of(file: impl Fn(&str) -> Option<String>) -> Self {
        let read = |name: &str| file(name).and_then(|text| Pressure::parse(&text));
        Pressures { cpu: read("cpu.pressure"), memory: read("memory.pressure"), io: read("io.pressure") }
    }
}

impl Pressure {
    /// Reads lines such as `some avg10=0.12 avg60=0.00 avg300=0.00 total=7`; of processors a kernel may tell no `full`.
    fn parse(text: &str) -> Option<Self> {
        let stall = |kind: &str| text.lines().find_map(|line| Stall::parse(line.strip_prefix(kind)?.strip_prefix(' ')?));
        Some(Pressure { some: stall("some")?, full: stall("full").unwrap_or_default() })
    }

    /// As upstream's summary tells it: the total in microseconds, averages in percent.
    pub fn shown(self) -> Value {
        json!({"full": self.full.shown(), "some": self.some.shown()})
    }
}

impl Stall {
    fn parse(line: &str) -> Option<Self> {
        let value = |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let hundredths = |name: &str| {
            let (whole, rest) = value(name)?.split_once('.')?;
            Some(u32::from(whole.parse::<u8>().ok()?) * 100 + rest.parse::<u32>().ok().filter(|rest| *rest < 100)?)
        };
        Some(Stall { total: value("total")?.parse().ok()?, averages: [hundredths("avg10")?, hundredths("avg60")?, hundredths("avg300")?] })
    }

    fn shown(self) -> Value {
        let [avg10, avg60, avg300] = self.averages.map(|average| f64::from(average) / 100.0);
        json!({"total": self.total, "avg10": avg10, "avg60": avg60, "avg300": avg300})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiting_is_read_as_the_kernel_writes_it() {
        let text = "some avg10=1.05 avg60=0.20 avg300=100.00 total=123456\nfull avg10=0.00 avg60=0.00 avg300=0.01 total=78\n";
        let pressure = Pressure::parse(text).expect("reads");
        assert_eq!((pressure.some.total, pressure.full.total), (123_456, 78));
        let shown = json!({
            "some": {"total": 123_456, "avg10": 1.05, "avg60": 0.2, "avg300": 100.0},
            "full": {"total": 78, "avg10": 0.0, "avg60": 0.0, "avg300": 0.01},
        });
        assert_eq!(pressure.shown(), shown);
        let of_older = Pressure::parse("some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n").expect("reads");
        assert_eq!((of_older.some.total, of_older.full), (5, Stall::default()));
        for odd in ["", "some", "some avg10=x avg60=0.00 avg300=0.00 total=1", "full avg10=0.00 avg60=0.00 avg300=0.00 total=5"] {
            assert_eq!(Pressure::parse(odd), None, "{odd}");
        }
    }

    #[test]
    fn a_cgroup_that_counts_nothing_tells_nothing() {
        assert_eq!(Pressures::of(|_| None), Pressures::default());
        let told = Pressures::of(|file| (file == "io.pressure").then(|| "some avg10=0.00 avg60=0.00 avg300=0.00 total=5".to_owned()));
        assert_eq!((told.cpu, told.memory, told.io.map(|io| io.some.total)), (None, None, Some(5)));
    }
}
