//! Claims for tests.

use std::path::Path;

use super::{
    Dra,
    claim_info::{ClaimInfo, ClaimInfos, Device, DriverState},
};

/// A claim of which a driver has made devices ready, each by its pool, its name and the names that the runtime is told.
pub fn claim(namespace: &str, name: &str, driver: &str, devices: &[(&str, &str, &[&str])]) -> ClaimInfo {
    let device = |(pool, device, cdi): &(&str, &str, &[&str])| Device {
        pool_name: (*pool).into(),
        device_name: (*device).into(),
        cdi_device_ids: Some(cdi.iter().map(|id| (*id).to_owned()).collect()),
        ..Device::default()
    };
    let state = DriverState { devices: Some(devices.iter().map(device).collect()) };
    ClaimInfo { name: name.into(), namespace: namespace.into(), driver_state: [(driver.to_owned(), state)].into(), ..ClaimInfo::default() }
}

/// A node without API server that knows some claims.
pub fn with_claims(root: &Path, claims: Vec<ClaimInfo>) -> Dra {
    let dra = Dra::new(root, "n1".into(), None);
    *dra.claims.lock() = ClaimInfos(claims.into_iter().map(|claim| ((claim.namespace.clone(), claim.name.clone()), claim)).collect());
    dra
}
