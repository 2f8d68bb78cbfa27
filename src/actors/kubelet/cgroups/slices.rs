//! Cgroups that systemd makes (`cgroupDriver: systemd`). Each is a transient slice: started over the message bus before anything is put into it, told
//! its limits, so that systemd does not take them back when it reads its units anew, and stopped when nobody needs it. What systemd counts more
//! coarsely than the kernel, such as CPU time, is written into the cgroup after it ([`super::limit`]).

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::timeout;
use troupe_cri::names::{pod_cgroup, slice, slice_unit};

use super::{
    CLASSES, hierarchies,
    limit::{Limits, is_unified, weight},
};
use crate::kubelet::dbus::{Arg, BusError, Call, Connection, Message, Property, SOCKET, Variant};

/// Is there where systemd is the init of this machine.
const INIT: &str = "/run/systemd/system";
const SERVICE: &str = "org.freedesktop.systemd1";
const OBJECT: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const ABSENT: &str = "org.freedesktop.systemd1.NoSuchUnit";
/// How long a job of systemd's may take.
const JOB: Duration = Duration::from_secs(30);
/// CPU time is whole hundredths of a CPU for systemd, here in µs a second.
const HUNDREDTH: u64 = 10_000;

/// Why a slice is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum SliceError {
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error("systemd does not end its job for {unit} within {} s", JOB.as_secs())]
    Late { unit: String },
    #[error("systemd's job for {unit} ended as {result:?}")]
    Job { unit: String, result: String },
    #[error("the cgroups of this machine are not readable: {0}")]
    Cgroups(#[from] io::Error),
}

/// Whether systemd is the init of this machine.
pub fn is_init() -> bool {
    Path::new(INIT).is_dir()
}

/// Where the cgroup that holds a node's pods may lie: as it is named, and where systemd makes cgroups as a slice.
pub fn parents(parent: &str) -> Vec<String> {
    std::iter::once(parent.to_owned()).chain(is_init().then(|| slice(parent))).collect()
}

/// Leads to systemd.
#[derive(Clone, Debug)]
pub struct Slices {
    /// [default: the system's bus]
    pub socket: PathBuf,
}

impl Default for Slices {
    fn default() -> Self {
        Slices { socket: SOCKET.into() }
    }
}

impl Slices {
    /// Starts the slice that a cgroup is, if it is one, and tells systemd its limits. One that is there already stays.
    ///
    /// # Errors
    /// When systemd does not do it.
    pub async fn set(&self, group: &str, limits: &Limits) -> Result<(), SliceError> {
        let Some(unit) = slice_unit(group) else { return Ok(()) };
        let is_unified = matches!(hierarchies()?.as_slice(), [whole] if is_unified(whole));
        let limits = limit_properties(limits, is_unified);
        let mut connection = self.connect().await?;
        let started = of_unit(unit, group, is_unified);
        let args = [Arg::Text(unit), Arg::Text("replace"), Arg::Properties(&started), Arg::NoUnits];
        match connection.call(&manager("StartTransientUnit", &args)).await {
            Ok((answer, _)) => ended(&mut connection, &answer, unit).await?,
            Err(BusError::Failed { name, .. }) if name == EXISTS => {}
            Err(error) => return Err(error.into()),
        }
        if !limits.is_empty() {
            let args = [Arg::Text(unit), Arg::Flag(true), Arg::Properties(&limits)];
            connection.call(&manager("SetUnitProperties", &args)).await?;
        }
        Ok(())
    }

    /// Stops the slice that a cgroup is, if it is one, with all that is in it.
    ///
    /// # Errors
    /// When systemd does not do it.
    pub async fn stop(&self, group: &str) -> Result<(), SliceError> {
        let Some(unit) = slice_unit(group) else { return Ok(()) };
        let mut connection = self.connect().await?;
        match connection.call(&manager("StopUnit", &[Arg::Text(unit), Arg::Text("replace")])).await {
            Ok((answer, _)) => ended(&mut connection, &answer, unit).await,
            Err(BusError::Failed { name, .. }) if name == ABSENT => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Stops those of a pod.
    ///
    /// # Errors
    /// When systemd does not do it.
    pub async fn stop_pod(&self, parent: &str, uid: &str) -> Result<(), SliceError> {
        if slice_unit(parent).is_none() {
            return Ok(());
        }
        let hierarchies = hierarchies()?;
        for group in CLASSES.map(|class| pod_cgroup(parent, class, uid)) {
            if hierarchies.iter().any(|hierarchy| hierarchy.join(group.trim_start_matches('/')).exists()) {
                self.stop(&group).await?;
            }
        }
        Ok(())
    }

    /// A connection that hears of jobs that end.
    async fn connect(&self) -> Result<Connection, BusError> {
        let mut connection = Connection::open(&self.socket).await?;
        connection.hear(OBJECT, MANAGER, "JobRemoved").await?;
        connection.call(&manager("Subscribe", &[])).await?;
        Ok(connection)
    }
}

fn manager<'a>(member: &'a str, args: &'a [Arg<'a>]) -> Call<'a> {
    Call { destination: SERVICE, path: OBJECT, interface: MANAGER, member, args }
}

/// Waits for the end of the job that an answer names.
async fn ended(connection: &mut Connection, answer: &Message, unit: &str) -> Result<(), SliceError> {
    let job = answer.object().ok_or(BusError::Odd)?;
    let result = timeout(JOB, result_of(connection, &job)).await.map_err(|_| SliceError::Late { unit: unit.to_owned() })??;
    if result == "done" { Ok(()) } else { Err(SliceError::Job { unit: unit.to_owned(), result }) }
}

async fn result_of(connection: &mut Connection, job: &str) -> Result<String, BusError> {
    loop {
        let signal = connection.signal().await?;
        let ended = signal.ended_job().filter(|_| signal.interface == MANAGER && signal.member == "JobRemoved");
        if let Some((_, result)) = ended.filter(|(ended, _)| ended == job) {
            return Ok(result);
        }
    }
}

/// What a slice is started with, as runc starts it.
fn of_unit<'a>(unit: &'a str, group: &'a str, is_unified: bool) -> Vec<Property<'a>> {
    let mut all = vec![("Description", Variant::Text(unit)), ("DefaultDependencies", Variant::Flag(false))];
    let outer = group.rsplit_once('/').and_then(|(outer, _)| slice_unit(outer));
    all.extend(outer.map(|outer| ("Wants", Variant::Texts(outer))));
    let counted = ["MemoryAccounting", "CPUAccounting", if is_unified { "IOAccounting" } else { "BlockIOAccounting" }, "TasksAccounting"];
    all.extend(counted.map(|what| (what, Variant::Flag(true))));
    all
}

/// Limits in systemd's terms.
fn limit_properties(limits: &Limits, is_unified: bool) -> Vec<Property<'static>> {
    let positive = |number: i64| u64::try_from(number).ok().filter(|number| *number > 0);
    let mut all: Vec<Property<'static>> = limits.processes.map(|most| ("TasksMax", Variant::Long(most.into()))).into_iter().collect();
    let memory = if is_unified { "MemoryMax" } else { "MemoryLimit" };
    all.extend(positive(limits.memory).map(|bytes| (memory, Variant::Long(bytes))));
    if let Some((quota, period)) = positive(limits.cpu_quota).zip(positive(limits.cpu_period)) {
        let a_second = (quota.saturating_mul(1_000_000) / period).next_multiple_of(HUNDREDTH);
        all.extend([("CPUQuotaPeriodUSec", Variant::Long(period)), ("CPUQuotaPerSecUSec", Variant::Long(a_second))]);
    }
    let shares = positive(limits.cpu_shares);
    all.extend(shares.map(|shares| {
        if is_unified { ("CPUWeight", Variant::Long(weight(limits.cpu_shares).into())) } else { ("CPUShares", Variant::Long(shares)) }
    }));
    all
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{UnixListener, UnixStream},
    };

    use super::*;
    use crate::kubelet::dbus::{decode, length, testing};

    const JOB_PATH: &str = "/org/freedesktop/systemd1/job/7";

    #[test]
    fn limits_are_told_in_the_words_of_each_version() {
        let limits = Limits { memory: 1 << 20, cpu_quota: 25_500, cpu_period: 100_000, cpu_shares: 512, processes: Some(9) };
        let long = |name: &'static str, number: u64| (name, Variant::Long(number));
        let common = [long("CPUQuotaPeriodUSec", 100_000), long("CPUQuotaPerSecUSec", 260_000)];
        let unified = [&[long("TasksMax", 9), long("MemoryMax", 1 << 20)][..], &common, &[long("CPUWeight", 59)]].concat();
        let legacy = [&[long("TasksMax", 9), long("MemoryLimit", 1 << 20)][..], &common, &[long("CPUShares", 512)]].concat();
        assert_eq!((limit_properties(&limits, true), limit_properties(&limits, false)), (unified, legacy));
        assert!(limit_properties(&Limits::default(), true).is_empty());
    }

    #[test]
    fn a_slice_wants_the_one_that_it_lies_in() {
        let of = |group: &'static str| of_unit(slice_unit(group).expect("a slice"), group, true);
        assert!(of("/kubepods.slice/kubepods-podu.slice").contains(&("Wants", Variant::Texts("kubepods.slice"))));
        assert!(of("kubepods.slice").iter().all(|(name, _)| *name != "Wants"));
    }

    /// A bus with a systemd behind it, which answers what is asked in this order; gives what it was asked.
    struct Systemd {
        stream: UnixStream,
        unread: Vec<u8>,
        asked: Vec<String>,
    }

    impl Systemd {
        async fn greet(listener: &UnixListener) -> Self {
            let (stream, _) = listener.accept().await.expect("a connection");
            let mut systemd = Systemd { stream, unread: Vec::new(), asked: Vec::new() };
            for answer in ["OK 1234deadbeef\r\n", "AGREE_UNIX_FD\r\n"] {
                systemd.line().await;
                systemd.stream.write_all(answer.as_bytes()).await.expect("writes");
            }
            systemd.line().await;
            let (name, nothing): (&[u8], &[u8]) = (b"\x04\0\0\0:1.7\0", &[]);
            for (signature, body) in [("s", name), ("", nothing), ("", nothing)] {
                let serial = systemd.call().await;
                systemd.send(&testing::answer(serial, signature, body, 0)).await;
            }
            systemd
        }

        async fn send(&mut self, bytes: &[u8]) {
            self.stream.write_all(bytes).await.expect("writes");
        }

        async fn fill(&mut self) {
            let mut chunk = [0_u8; 512];
            let count = self.stream.read(&mut chunk).await.expect("reads");
            assert!(count > 0, "the other side ended");
            self.unread.extend(&chunk[..count]);
        }

        async fn line(&mut self) {
            loop {
                if let Some(end) = self.unread.windows(2).position(|pair| pair == b"\r\n") {
                    self.unread.drain(..end + 2);
                    return;
                }
                self.fill().await;
            }
        }

        /// The next call's serial.
        async fn call(&mut self) -> u32 {
            loop {
                if self.unread.len() >= 16 {
                    let length = length(&self.unread).expect("a message");
                    if self.unread.len() >= length {
                        let bytes: Vec<u8> = self.unread.drain(..length).collect();
                        let call = decode(&bytes).expect("a message");
                        self.asked.push(format!("{} {}", call.member, call.text().unwrap_or_default()).trim_end().to_owned());
                        return call.serial;
                    }
                }
                self.fill().await;
            }
        }

        /// Begins a job for the next call, and ends it.
        async fn job(&mut self, unit: &str, result: &str) {
            let serial = self.call().await;
            // Another one ends first, and this one before it is told of.
            self.send(&testing::ended_job("/org/freedesktop/systemd1/job/6", "other.service", "failed")).await;
            self.send(&testing::ended_job(JOB_PATH, unit, result)).await;
            self.send(&testing::answer(serial, "o", &testing::object(JOB_PATH), 0)).await;
        }
    }

    fn bus() -> (tempfile::TempDir, UnixListener, Slices) {
        let place = tempfile::tempdir().expect("a directory");
        let socket = place.path().join("bus");
        (place, UnixListener::bind(&socket).expect("binds"), Slices { socket })
    }

    #[tokio::test]
    async fn a_slice_is_started_limited_and_stopped() {
        let (_place, listener, slices) = bus();
        let group = "/kubepods.slice/kubepods-podu.slice";
        let systemd = async {
            let mut systemd = Systemd::greet(&listener).await;
            systemd.job("kubepods-podu.slice", "done").await;
            let serial = systemd.call().await;
            systemd.send(&testing::answer(serial, "", &[], 0)).await;
            let mut again = Systemd::greet(&listener).await;
            again.job("kubepods-podu.slice", "done").await;
            (systemd.asked, again.asked)
        };
        let node = async {
            slices.set(group, &Limits { memory: 1 << 20, ..Limits::default() }).await.expect("starts");
            slices.stop(group).await.expect("stops");
        };
        let ((started, stopped), ()) = tokio::join!(systemd, node);
        let greeting = |asked: &[String]| asked[0] == "Hello" && asked[1].starts_with("AddMatch ") && asked[2] == "Subscribe";
        assert!(greeting(&started) && greeting(&stopped), "{started:?}");
        assert_eq!(started[3..], ["StartTransientUnit kubepods-podu.slice", "SetUnitProperties kubepods-podu.slice"]);
        assert_eq!(stopped[3..], ["StopUnit kubepods-podu.slice"]);
    }

    #[tokio::test]
    async fn what_is_there_stays_what_is_gone_is_stopped_and_a_failed_job_is_told() {
        let (_place, listener, slices) = bus();
        let systemd = async {
            for error in [EXISTS, ABSENT] {
                let mut systemd = Systemd::greet(&listener).await;
                let serial = systemd.call().await;
                systemd.send(&testing::error(serial, error)).await;
            }
            Systemd::greet(&listener).await.job("a.slice", "timeout").await;
        };
        let node = async {
            slices.set("a.slice", &Limits::default()).await.expect("is there");
            slices.stop("a.slice").await.expect("is gone");
            slices.stop("a.slice").await.expect_err("it did not stop").to_string()
        };
        let ((), why) = tokio::join!(systemd, node);
        assert_eq!(why, "systemd's job for a.slice ended as \"timeout\"");
    }

    #[tokio::test]
    async fn systemd_is_not_asked_about_other_cgroups() {
        let slices = Slices { socket: "/nowhere/bus".into() };
        slices.set("/kubepods/podu", &Limits::default()).await.expect("is none of systemd's");
        slices.stop("kubepods").await.expect("is none of systemd's");
        slices.stop_pod("kubepods", "u").await.expect("is none of systemd's");
        assert!(slices.stop("kubepods.slice").await.is_err(), "nobody is there");
    }
}
