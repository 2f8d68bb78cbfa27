//! Pressure stall information (KEP-4205): how long tasks waited for a resource, as the kernel tells it of cgroups of the second version and of
//! the whole machine. Pure.

use serde_json::{Value, json};
use troupe_api::node_pressure::NodePressure;

/// What processes waited for, those of a cgroup or all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressures {
    pub cpu: Option<Pressure>,
    pub memory: Option<Pressure>,
    pub io: Option<Pressure>,
}

/// How long some tasks waited, and how long all of them did at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pressure {
    pub some: Share,
    pub full: Share,
}

/// Parts of the last 10, 60 and 300 seconds in hundredths of a percent, and all microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    pub averages: [u32; 3],
    pub total: u64,
}

impl Pressures {
    /// From what the kernel tells of each resource.
    pub fn parse(text: impl Fn(&str) -> Option<String>) -> Self {
        let of = |resource: &str| Pressure::parse(&text(resource)?);
        Pressures { cpu: of("cpu"), memory: of("memory"), io: of("io") }
    }

    /// What the scheduler is told of a node.
    pub fn of_node(self) -> NodePressure {
        let last_minute = |share: Share| share.averages[1];
        NodePressure {
            cpu: self.cpu.map(|pressure| last_minute(pressure.some)),
            memory: self.memory.map(|pressure| last_minute(pressure.some)),
            io: self.io.map(|pressure| last_minute(pressure.full)),
        }
    }
}

impl Share {
    /// From a line such as `some avg10=0.12 avg60=0.00 avg300=0.00 total=4567`, without its first word.
    fn parse(words: &str) -> Option<Self> {
        let word = |name: &str| words.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let average = |name: &str| {
            let (whole, part) = word(name)?.split_once('.')?;
            Some(whole.parse::<u32>().ok()?.saturating_mul(100).saturating_add(part.parse().ok()?))
        };
        Some(Share { averages: [average("avg10")?, average("avg60")?, average("avg300")?], total: word("total")?.parse().ok()? })
    }

    fn told(self) -> Value {
        let [short, middle, long] = self.averages.map(|hundredths| f64::from(hundredths) / 100.0);
        json!({"total": self.total, "avg10": short, "avg60": middle, "avg300": long})
    }
}

impl Pressure {
    /// From a file such as `cpu.pressure`. Older kernels tell of CPUs only what some waited for.
    pub fn parse(text: &str) -> Option<Self> {
        let line = |name: &str| text.lines().find_map(|line| Share::parse(line.strip_prefix(name)?));
        Some(Pressure { some: line("some")?, full: line("full").unwrap_or_default() })
    }

    /// As upstream's summary tells it.
    pub fn told(self) -> Value {
        json!({"full": self.full.told(), "some": self.some.told()})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_tells_is_read() {
        let text = "some avg10=1.25 avg60=0.05 avg300=0.00 total=4567\nfull avg10=0.00 avg60=0.00 avg300=10.10 total=89\n";
        let pressure = Pressure::parse(text).expect("pressure");
        assert_eq!((pressure.some, pressure.full.averages), (Share { averages: [125, 5, 0], total: 4567 }, [0, 0, 1010]));
        assert_eq!(pressure.told()["some"], json!({"total": 4567, "avg10": 1.25, "avg60": 0.05, "avg300": 0.0}));
        assert_eq!(Pressure::parse("some avg10=0.00 avg60=0.00 avg300=0.00 total=1\n").map(|pressure| pressure.full), Some(Share::default()));
        assert_eq!(Pressure::parse("nothing\n"), None);
    }

    #[test]
    fn of_a_node_the_last_minute_is_told() {
        let both = "some avg10=0.00 avg60=7.50 avg300=0.00 total=9\nfull avg10=0.00 avg60=2.05 avg300=0.00 total=8\n";
        let machine = Pressures::parse(|resource| (resource != "memory").then(|| both.to_owned()));
        assert_eq!(machine.of_node(), NodePressure { cpu: Some(750), memory: None, io: Some(205) });
        assert_eq!(Pressures::parse(|_| None).of_node(), NodePressure::default());
    }
}
