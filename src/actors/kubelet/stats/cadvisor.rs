//! `/metrics/cadvisor`: the names and labels that cAdvisor gives its figures.

use bytes::Bytes;
use troupe_api::metrics::{Text, render};

use super::{
    cgroup::{self, CgroupUsage, DiskUsage, NO_LIMIT},
    detail::Detail,
    exposition::{float, seconds},
    interfaces::Traffic,
    sample::Sample,
};
use crate::kubelet::node::facts::MachineFacts;

/// A family with one sample of each cgroup.
struct Family {
    name: &'static str,
    help: &'static str,
    kind: &'static str,
    figure: fn(&CgroupUsage) -> Option<f64>,
}

/// A family of many samples of one cgroup: its name, what it means, and the figure.
type Wide<T> = (&'static str, &'static str, fn(&T) -> u64);

const COUNTER: &str = "counter";
const GAUGE: &str = "gauge";

const fn family(name: &'static str, help: &'static str, kind: &'static str, figure: fn(&CgroupUsage) -> Option<f64>) -> Family {
    Family { name, help, kind, figure }
}

const FAMILIES: &[Family] = &[
    family("container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", COUNTER, |usage| with_quota(usage, usage.periods)),
    family("container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", COUNTER, |usage| {
        with_quota(usage, usage.throttled_periods)
    }),
    family("container_cpu_cfs_throttled_seconds_total", "Total time duration the container has been throttled.", COUNTER, |usage| {
        usage.quota.and(usage.throttled).map(seconds)
    }),
    family("container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.", COUNTER, |usage| usage.system.map(seconds)),
    family("container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.", COUNTER, |usage| usage.user.map(seconds)),
    family("container_memory_cache", "Number of bytes of page cache memory.", GAUGE, |usage| usage.cache.map(float)),
    family("container_memory_failcnt", "Number of memory usage hits limits", COUNTER, |usage| usage.failures.map(float)),
    family("container_memory_mapped_file", "Size of memory mapped files in bytes.", GAUGE, |usage| usage.mapped_file.map(float)),
    family("container_memory_max_usage_bytes", "Maximum memory usage recorded in bytes", GAUGE, |usage| usage.max_memory.map(float)),
    family("container_memory_rss", "Size of RSS in bytes.", GAUGE, |usage| usage.rss.map(float)),
    family("container_memory_swap", "Container swap usage in bytes.", GAUGE, |usage| usage.swap.map(float)),
    family(
        "container_memory_usage_bytes",
        "Current memory usage in bytes, including all memory regardless of when it was accessed",
        GAUGE,
        |usage| usage.memory.map(float),
    ),
    family("container_memory_working_set_bytes", "Current working set in bytes.", GAUGE, |usage| usage.working_set().map(float)),
    family("container_oom_events_total", "Count of out of memory events observed for the container", COUNTER, |usage| usage.oom_kills.map(float)),
    family("container_processes", "Number of processes running inside the container.", GAUGE, |usage| Some(float(usage.processes))),
    family("container_spec_cpu_period", "CPU period of the container.", GAUGE, |usage| usage.period.map(float)),
    family("container_spec_cpu_quota", "CPU quota of the container.", GAUGE, |usage| usage.quota.map(float)),
    family("container_spec_cpu_shares", "CPU share of the container.", GAUGE, |usage| usage.shares.map(float)),
    family("container_spec_memory_limit_bytes", "Memory limit for the container.", GAUGE, |usage| usage.memory_limit.map(float)),
    family("container_spec_memory_reservation_limit_bytes", "Memory reservation limit for the container.", GAUGE, |usage| {
        usage.reservation.map(float)
    }),
    family("container_spec_memory_swap_limit_bytes", "Memory swap limit for the container.", GAUGE, |usage| {
        usage.swap_limit.map(|limit| if limit < NO_LIMIT { float(limit) } else { 0.0 })
    }),
    family("container_threads", "Number of threads running inside the container", GAUGE, |usage| usage.threads.map(float)),
    family("container_threads_max", "Maximum number of threads allowed inside the container, infinity if value is zero", GAUGE, |usage| {
        usage.threads_limit.map(float)
    }),
    family("container_file_descriptors", "Number of open file descriptors for the container.", GAUGE, |usage| {
        usage.open_files.map(|files| float(files.descriptors))
    }),
    family("container_sockets", "Number of open sockets for the container.", GAUGE, |usage| usage.open_files.map(|files| float(files.sockets))),
    family(
        "container_pressure_cpu_stalled_seconds_total",
        "Total time duration no tasks in the container could make progress due to CPU congestion.",
        COUNTER,
        |usage| usage.pressures.cpu.map(|pressure| micros(pressure.full.total)),
    ),
    family(
        "container_pressure_cpu_waiting_seconds_total",
        "Total time duration tasks in the container have waited due to CPU congestion.",
        COUNTER,
        |usage| usage.pressures.cpu.map(|pressure| micros(pressure.some.total)),
    ),
    family(
        "container_pressure_memory_stalled_seconds_total",
        "Total time duration no tasks in the container could make progress due to memory congestion.",
        COUNTER,
        |usage| usage.pressures.memory.map(|pressure| micros(pressure.full.total)),
    ),
    family(
        "container_pressure_memory_waiting_seconds_total",
        "Total time duration tasks in the container have waited due to memory congestion.",
        COUNTER,
        |usage| usage.pressures.memory.map(|pressure| micros(pressure.some.total)),
    ),
    family(
        "container_pressure_io_stalled_seconds_total",
        "Total time duration no tasks in the container could make progress due to IO congestion.",
        COUNTER,
        |usage| usage.pressures.io.map(|pressure| micros(pressure.full.total)),
    ),
    family(
        "container_pressure_io_waiting_seconds_total",
        "Total time duration tasks in the container have waited due to IO congestion.",
        COUNTER,
        |usage| usage.pressures.io.map(|pressure| micros(pressure.some.total)),
    ),
];

fn micros(microseconds: u64) -> f64 {
    float(microseconds) / 1e6
}

/// Periods say nothing where there is no quota.
fn with_quota(usage: &CgroupUsage, count: Option<u64>) -> Option<f64> {
    usage.quota.and(count).map(float)
}

/// The figures of all cgroups, and of the machine.
pub fn cadvisor(sample: &Sample, details: &[Detail]) -> Bytes {
    let write = |text: &mut Text| {
        text.family("container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", COUNTER);
        for (detail, cpu) in details.iter().filter_map(|detail| Some((detail, detail.usage.cpu?))) {
            text.sample("container_cpu_usage_seconds_total", &labels(detail, &[("cpu", "total")]), seconds(cpu));
        }
        for Family { name, help, kind, figure } in FAMILIES {
            text.family(name, help, kind);
            for (detail, value) in details.iter().filter_map(|detail| Some((detail, figure(&detail.usage)?))) {
                text.sample(name, &labels(detail, &[]), value);
            }
        }
        page_faults(text, details);
        limits(text, details);
        times(text, sample, details);
        disks(text, details);
        devices(text, details);
        network(text, details);
        machine(text, sample);
    };
    render(&[&write])
}

fn labels<'a>(detail: &'a Detail, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    let mut all = more.to_vec();
    all.extend([
        ("container", detail.container.as_str()),
        ("id", &detail.id),
        ("image", &detail.image),
        ("name", &detail.name),
        ("namespace", &detail.namespace),
        ("pod", &detail.pod),
    ]);
    all
}

fn page_faults(text: &mut Text, details: &[Detail]) {
    let name = "container_memory_failures_total";
    text.family(name, "Cumulative count of memory allocation failures.", COUNTER);
    for detail in details {
        for (kind, count) in [("pgfault", detail.usage.page_faults), ("pgmajfault", detail.usage.major_page_faults)] {
            if let Some(count) = count {
                text.sample(name, &labels(detail, &[("failure_type", kind), ("scope", "hierarchy")]), float(count));
            }
        }
    }
}

fn limits(text: &mut Text, details: &[Detail]) {
    let name = "container_ulimits_soft";
    text.family(name, "Soft ulimit values for the container root process. Unlimited if -1, except priority and nice", GAUGE);
    for (detail, limit) in details.iter().filter_map(|detail| Some((detail, detail.usage.open_files?.limit?))) {
        text.sample(name, &labels(detail, &[("ulimit", "max_open_files")]), float(limit));
    }
}

fn times(text: &mut Text, sample: &Sample, details: &[Detail]) {
    text.family("container_last_seen", "Last time a container was seen by the exporter", GAUGE);
    let seen = sample.taken.as_second().unsigned_abs();
    details.iter().for_each(|detail| text.sample("container_last_seen", &labels(detail, &[]), float(seen)));
    text.family("container_start_time_seconds", "Start time of the container since unix epoch in seconds.", GAUGE);
    for (detail, started) in details.iter().filter_map(|detail| Some((detail, detail.created_at?))) {
        text.sample("container_start_time_seconds", &labels(detail, &[]), seconds(started));
    }
}

fn disks(text: &mut Text, details: &[Detail]) {
    text.family("container_fs_usage_bytes", "Number of bytes that are consumed by the container on this filesystem.", GAUGE);
    for (detail, bytes) in details.iter().filter_map(|detail| Some((detail, detail.layer_bytes?))) {
        text.sample("container_fs_usage_bytes", &labels(detail, &[("device", "")]), float(bytes));
    }
    let families: [Wide<DiskUsage>; 4] = [
        ("container_fs_reads_bytes_total", "Cumulative count of bytes read", |disk| disk.read_bytes),
        ("container_fs_reads_total", "Cumulative count of reads completed", |disk| disk.reads),
        ("container_fs_writes_bytes_total", "Cumulative count of bytes written", |disk| disk.written_bytes),
        ("container_fs_writes_total", "Cumulative count of writes completed", |disk| disk.writes),
    ];
    for (name, help, figure) in families {
        text.family(name, help, COUNTER);
        for detail in details {
            for (numbers, disk) in &detail.usage.disks {
                text.sample(name, &labels(detail, &[("device", &cgroup::device(numbers))]), float(figure(disk)));
            }
        }
    }
}

fn devices(text: &mut Text, details: &[Detail]) {
    let name = "container_blkio_device_usage_total";
    text.family(name, "Blkio Device bytes usage", COUNTER);
    for detail in details {
        for (numbers, disk) in &detail.usage.disks {
            let (major, minor) = numbers.split_once(':').unwrap_or((numbers.as_str(), ""));
            let device = cgroup::device(numbers);
            for (operation, bytes) in [("Read", disk.read_bytes), ("Write", disk.written_bytes)] {
                let more = [("device", device.as_str()), ("major", major), ("minor", minor), ("operation", operation)];
                text.sample(name, &labels(detail, &more), float(bytes));
            }
        }
    }
}

fn network(text: &mut Text, details: &[Detail]) {
    let families: [Wide<Traffic>; 8] = [
        ("container_network_receive_bytes_total", "Cumulative count of bytes received", |traffic| traffic.received.bytes),
        ("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving", |traffic| traffic.received.errors),
        ("container_network_receive_packets_dropped_total", "Cumulative count of packets dropped while receiving", |traffic| {
            traffic.received.dropped
        }),
        ("container_network_receive_packets_total", "Cumulative count of packets received", |traffic| traffic.received.packets),
        ("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted", |traffic| traffic.transmitted.bytes),
        ("container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting", |traffic| {
            traffic.transmitted.errors
        }),
        ("container_network_transmit_packets_dropped_total", "Cumulative count of packets dropped while transmitting", |traffic| {
            traffic.transmitted.dropped
        }),
        ("container_network_transmit_packets_total", "Cumulative count of packets transmitted", |traffic| traffic.transmitted.packets),
    ];
    for (name, help, figure) in families {
        text.family(name, help, COUNTER);
        for detail in details {
            for (interface, traffic) in &detail.interfaces {
                text.sample(name, &labels(detail, &[("interface", interface)]), float(figure(traffic)));
            }
        }
    }
}

fn machine(text: &mut Text, sample: &Sample) {
    let facts = MachineFacts::read();
    let of_machine = [("boot_id", facts.boot_id.as_str()), ("machine_id", &facts.machine_id), ("system_uuid", &facts.system_uuid)];
    for (name, help, value) in [
        ("machine_cpu_cores", "Number of logical CPU cores.", sample.node.cpus),
        ("machine_memory_bytes", "Amount of memory installed on the machine.", sample.node.memory_bytes),
    ] {
        text.family(name, help, GAUGE);
        text.sample(name, &of_machine, float(value));
    }
    text.single("container_scrape_error", "1 if there was an error while getting container metrics, 0 otherwise", GAUGE, 0.0);
    text.single("machine_scrape_error", "1 if there was an error while getting machine metrics, 0 otherwise.", GAUGE, 0.0);
}
