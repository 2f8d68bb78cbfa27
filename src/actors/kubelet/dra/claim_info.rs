//! What is known of claims on this node. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::resource::v1::ResourceClaim;
use serde::{Deserialize, Serialize};

use super::proto;
use crate::devices::results;

/// A claim that drivers were asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct ClaimInfo {
    #[serde(rename = "ClaimUID")]
    pub uid: String,
    #[serde(rename = "ClaimName")]
    pub name: String,
    pub namespace: String,
    /// Sets are maps without values in the file, as upstream writes them.
    #[serde(rename = "PodUIDs", with = "set", default)]
    pub pods: BTreeSet<String>,
    #[serde(default)]
    pub driver_state: BTreeMap<String, DriverState>,
    /// Whether all drivers have it ready. Drivers are asked again after a restart: that is idempotent.
    #[serde(skip)]
    pub is_prepared: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct DriverState {
    #[serde(default)]
    pub devices: Option<Vec<Device>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Device {
    pub pool_name: String,
    pub device_name: String,
    #[serde(rename = "ShareID")]
    pub share_id: Option<String>,
    pub request_names: Option<Vec<String>>,
    #[serde(rename = "CDIDeviceIDs")]
    pub cdi_device_ids: Option<Vec<String>>,
}

mod set {
    use std::collections::{BTreeMap, BTreeSet};

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Nothing {}

    pub fn serialize<S: Serializer>(set: &BTreeSet<String>, serializer: S) -> Result<S::Ok, S::Error> {
        set.iter().map(|entry| (entry, Nothing {})).collect::<BTreeMap<_, _>>().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
        let map = Option::<BTreeMap<String, Nothing>>::deserialize(deserializer)?;
        Ok(map.unwrap_or_default().into_keys().collect())
    }
}

impl ClaimInfo {
    /// A claim that got devices.
    ///
    /// # Errors
    /// It has none.
    pub fn of(claim: &ResourceClaim) -> Result<Self, String> {
        let name = claim.metadata.name.clone().unwrap_or_default();
        if crate::devices::allocation(claim).is_none() {
            return Err(format!("ResourceClaim {name}: not allocated"));
        }
        let drivers = results(claim).map(|result| (result.driver.clone(), DriverState::default()));
        Ok(ClaimInfo {
            uid: claim.metadata.uid.clone().unwrap_or_default(),
            name,
            namespace: claim.metadata.namespace.clone().unwrap_or_default(),
            driver_state: drivers.collect(),
            ..ClaimInfo::default()
        })
    }

    /// As drivers are asked for it.
    pub fn asked(&self) -> proto::Claim {
        proto::Claim { namespace: self.namespace.clone(), uid: self.uid.clone(), name: self.name.clone() }
    }

    /// What the runtime is told of a request of it; of all requests without a name.
    pub fn cdi_devices(&self, request: &str) -> Vec<String> {
        let devices = self.driver_state.values().flat_map(|driver| driver.devices.iter().flatten());
        let is_about = |device: &&Device| {
            let names = device.request_names.as_deref().unwrap_or_default();
            request.is_empty() || names.is_empty() || names.iter().any(|name| name == request)
        };
        devices.filter(is_about).flat_map(|device| device.cdi_device_ids.iter().flatten().cloned()).collect()
    }
}

impl From<proto::Device> for Device {
    fn from(device: proto::Device) -> Self {
        Device {
            pool_name: device.pool_name,
            device_name: device.device_name,
            share_id: device.share_id,
            request_names: Some(device.request_names),
            cdi_device_ids: Some(device.cdi_device_ids),
        }
    }
}

/// Claims by namespace and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimInfos(pub BTreeMap<(String, String), ClaimInfo>);

impl ClaimInfos {
    pub fn get(&self, namespace: &str, name: &str) -> Option<&ClaimInfo> {
        self.0.get(&(namespace.to_owned(), name.to_owned()))
    }

    /// Notes that a pod uses a claim.
    ///
    /// # Errors
    /// Another claim of its name is still here.
    pub fn enter(&mut self, claim: &ClaimInfo, pod: &str) -> Result<(), String> {
        let known = self.0.entry((claim.namespace.clone(), claim.name.clone())).or_insert_with(|| claim.clone());
        if known.uid != claim.uid {
            let (name, uid) = (&claim.name, &known.uid);
            return Err(format!("old ResourceClaim with same name {name} and different UID {uid} still exists (previous pod force-deleted?!)"));
        }
        known.pods.insert(pod.to_owned());
        Ok(())
    }

    /// Takes a pod from the claims that others use, too, and tells those that only it uses.
    pub fn leave(&mut self, pod: &str) -> Vec<ClaimInfo> {
        let mut only = Vec::new();
        for claim in self.0.values_mut().filter(|claim| claim.pods.contains(pod)) {
            if claim.pods.len() > 1 {
                claim.pods.remove(pod);
            } else {
                only.push(claim.clone());
            }
        }
        only
    }

    pub fn users(&self) -> Vec<String> {
        let all: BTreeSet<&String> = self.0.values().flat_map(|claim| &claim.pods).collect();
        all.into_iter().cloned().collect()
    }
}

/// Claims as they are kept.
#[derive(Serialize, Deserialize)]
pub struct Kept {
    #[serde(default)]
    kind: String,
    #[serde(default, rename = "apiVersion")]
    api_version: String,
    #[serde(rename = "ClaimInfoStateList")]
    claims: Option<Vec<ClaimInfo>>,
}

impl From<&ClaimInfos> for Kept {
    fn from(claims: &ClaimInfos) -> Self {
        let all = claims.0.values().cloned().collect();
        Kept { kind: "DRACheckpoint".into(), api_version: "checkpoint.dra.kubelet.k8s.io/v1".into(), claims: Some(all) }
    }
}

impl From<Kept> for ClaimInfos {
    fn from(kept: Kept) -> Self {
        let claims = kept.claims.unwrap_or_default().into_iter();
        ClaimInfos(claims.map(|claim| ((claim.namespace.clone(), claim.name.clone()), claim)).collect())
    }
}
