//! Who makes cgroups: the kubelet and its runtime by themselves, or systemd for them (KEP-4033). The runtime's word counts, since both have to agree.

use std::time::Duration;

use tokio::time::sleep;
use troupe_cri::{CriError, Runtime, names, proto};

/// How often a runtime is asked that may still be starting.
const ATTEMPTS: u32 = 3;
const PAUSE: Duration = Duration::from_secs(2);

/// Who makes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CgroupDriver {
    /// Whoever needs one.
    #[default]
    Cgroupfs,
    Systemd,
}

impl CgroupDriver {
    /// By its name in a kubelet's configuration.
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "cgroupfs" => Some(CgroupDriver::Cgroupfs),
            "systemd" => Some(CgroupDriver::Systemd),
            _ => None,
        }
    }

    /// The one that the cgroup which holds a node's pods tells of.
    pub fn of(parent: &str) -> Self {
        if names::slice_unit(parent).is_some() { CgroupDriver::Systemd } else { CgroupDriver::Cgroupfs }
    }

    pub fn name(self) -> &'static str {
        match self {
            CgroupDriver::Cgroupfs => "cgroupfs",
            CgroupDriver::Systemd => "systemd",
        }
    }

    /// The cgroup that holds a node's pods, as this driver names it.
    ///
    /// # Errors
    /// Where there is no such driver, in upstream's words and more.
    pub fn parent(self, parent: &str, has_systemd: bool) -> Result<String, String> {
        match self {
            CgroupDriver::Cgroupfs => Ok(parent.to_owned()),
            CgroupDriver::Systemd if has_systemd => Ok(names::slice(parent)),
            CgroupDriver::Systemd => {
                Err("systemd not running on this host, cannot use systemd cgroups manager: set cgroupDriver to cgroupfs, here and at the runtime"
                    .into())
            }
        }
    }
}

/// The driver that the runtime uses, or `configured` where it does not tell.
///
/// # Errors
/// When the runtime fails to answer, time and again.
pub async fn agreed(runtime: &dyn Runtime, configured: CgroupDriver) -> Result<CgroupDriver, CriError> {
    let mut attempt = 1;
    loop {
        match runtime.runtime_config().await {
            Ok(told) => return Ok(told_driver(&told).unwrap_or(configured)),
            Err(CriError::Unimplemented(_)) => return Ok(configured),
            Err(error) if attempt == ATTEMPTS => return Err(error),
            Err(_) => {}
        }
        attempt += 1;
        sleep(PAUSE).await;
    }
}

/// What an answer says; `None` for one that says nothing of it.
fn told_driver(told: &proto::RuntimeConfigResponse) -> Option<CgroupDriver> {
    let driver = match told.linux.as_ref()?.cgroup_driver() {
        proto::CgroupDriver::Systemd => CgroupDriver::Systemd,
        proto::CgroupDriver::Cgroupfs => CgroupDriver::Cgroupfs,
    };
    Some(driver)
}

#[cfg(test)]
mod tests {
    use troupe_cri::FakeRuntime;

    use super::*;

    #[tokio::test]
    async fn the_runtimes_driver_counts_where_it_tells() {
        let fake = FakeRuntime::default();
        for configured in [CgroupDriver::Cgroupfs, CgroupDriver::Systemd] {
            assert_eq!(agreed(&fake, configured).await.expect("answers"), configured);
        }
        fake.offer_cgroup_driver(proto::CgroupDriver::Systemd);
        assert_eq!(agreed(&fake, CgroupDriver::Cgroupfs).await.expect("answers"), CgroupDriver::Systemd);
        fake.offer_cgroup_driver(proto::CgroupDriver::Cgroupfs);
        assert_eq!(agreed(&fake, CgroupDriver::Systemd).await.expect("answers"), CgroupDriver::Cgroupfs);
        assert_eq!(told_driver(&proto::RuntimeConfigResponse::default()), None, "an answer without words says nothing of systemd");
    }

    #[test]
    fn systemds_driver_needs_systemd() {
        assert_eq!(CgroupDriver::Systemd.parent("kubepods", true), Ok("kubepods.slice".into()));
        assert_eq!(CgroupDriver::Cgroupfs.parent("kubepods", false), Ok("kubepods".into()));
        let why = CgroupDriver::Systemd.parent("kubepods", false).expect_err("there is none");
        assert!(why.starts_with("systemd not running on this host, cannot use systemd cgroups manager"), "{why}");
        for driver in [CgroupDriver::Cgroupfs, CgroupDriver::Systemd] {
            assert_eq!(CgroupDriver::parse(driver.name()), Some(driver));
            assert_eq!(CgroupDriver::of(&driver.parent("a/b", true).expect("there is systemd")), driver);
        }
        assert_eq!(CgroupDriver::parse("docker"), None);
    }
}
