//! Asking drivers to get claims ready, and to take them back.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use k8s_openapi::api::{core::v1::Pod, resource::v1::ResourceClaim};

use super::{
    Dra,
    claim_info::{ClaimInfo, ClaimInfos, Kept},
    drivers::Driver,
    proto::{PrepareRequest, UnprepareRequest},
};
use crate::{
    devices::{claim_name, claims_of, extended_claim, is_for_pod, is_reserved_for},
    files::blocking,
    kubelet::device_metrics as metrics,
};

fn uid_of(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

impl Dra {
    /// Gets all claims of a pod ready.
    ///
    /// # Errors
    /// Why it must not start yet.
    pub async fn prepare(self: &Arc<Self>, pod: &Pod) -> Result<(), String> {
        if claims_of(pod).is_empty() && extended_claim(pod).is_none() {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        let begun = Instant::now();
        let prepared = self.prepare_all(pod).await;
        metrics::handled("PrepareResources", prepared.is_err(), begun.elapsed());
        prepared.map_err(|why| format!("prepare dynamic resources: {why}"))
    }

    async fn prepare_all(self: &Arc<Self>, pod: &Pod) -> Result<(), String> {
        // Nothing is noted before all is there: a pod whose driver never was on this node is not held up when it goes.
        let (claims, drivers) = self.look_up(pod).await?;
        let mut noted = self.claims.lock().clone();
        for claim in &claims {
            noted.enter(claim, uid_of(pod))?;
        }
        self.keep(noted).await?;
        let lacking: Vec<ClaimInfo> = {
            let known = self.claims.lock();
            claims.iter().filter_map(|claim| known.get(&claim.namespace, &claim.name)).filter(|claim| !claim.is_prepared).cloned().collect()
        };
        let mut prepared = lacking.clone();
        for (name, driver) in &drivers {
            let asked: Vec<&ClaimInfo> = lacking.iter().filter(|claim| claim.driver_state.contains_key(name)).collect();
            if asked.is_empty() {
                continue;
            }
            let request = PrepareRequest { claims: asked.iter().map(|claim| claim.asked()).collect() };
            let mut response = driver.prepare(request).await?;
            for claim in &asked {
                let Some(answer) = response.claims.remove(&claim.uid) else { continue };
                if !answer.error.is_empty() {
                    return Err(format!("NodePrepareResources failed for ResourceClaim {}: {}", claim.name, answer.error));
                }
                let devices = answer.devices.into_iter().map(Into::into).collect();
                let ready = prepared.iter_mut().find(|ready| ready.uid == claim.uid).and_then(|ready| ready.driver_state.get_mut(name));
                if let Some(state) = ready {
                    state.devices = Some(devices);
                }
            }
            let known = |uid: &&String| asked.iter().any(|claim| claim.uid == **uid);
            if let Some(odd) = response.claims.keys().find(|uid| !known(uid)) {
                return Err(format!("NodePrepareResources returned result for unknown claim UID {odd}"));
            }
            let skipped = asked.iter().filter(|claim| !has_answer(&prepared, claim, name)).count();
            if skipped > 0 {
                return Err(format!("NodePrepareResources skipped {skipped} ResourceClaims"));
            }
        }
        let mut ready = self.claims.lock().clone();
        for claim in prepared {
            if let Some(known) = ready.0.get_mut(&(claim.namespace.clone(), claim.name.clone())) {
                (known.driver_state, known.is_prepared) = (claim.driver_state, true);
            }
        }
        self.keep(ready).await
    }

    /// The claims of a pod, with their drivers.
    async fn look_up(&self, pod: &Pod) -> Result<(Vec<ClaimInfo>, BTreeMap<String, Driver>), String> {
        let client = self.client.as_ref().ok_or("claims need an API server")?;
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let (mut claims, mut drivers) = (Vec::<ClaimInfo>::new(), BTreeMap::new());
        let mut names = Vec::new();
        for asked in claims_of(pod) {
            names.extend(claim_name(pod, asked).map_err(|why| why.to_string())?);
        }
        names.extend(extended_claim(pod).map(|extended| (extended.resource_claim_name.as_str(), true)));
        for (name, own) in names {
            let fetched = client.namespaced::<ResourceClaim>(namespace).get(name).await;
            let claim = fetched.map_err(|status| format!("fetch ResourceClaim {name}: {}", status.message))?;
            if own {
                is_for_pod(pod, &claim)?;
            }
            if !is_reserved_for(pod, &claim) {
                let (of, uid) = (pod.metadata.name.as_deref().unwrap_or_default(), claim.metadata.uid.as_deref().unwrap_or_default());
                return Err(format!("pod {of} ({}) is not allowed to use ResourceClaim {name} ({uid})", uid_of(pod)));
            }
            let claim = ClaimInfo::of(&claim)?;
            for driver in claim.driver_state.keys() {
                drivers.insert(driver.clone(), self.drivers.get(driver)?);
            }
            if !claims.iter().any(|known| known.uid == claim.uid) {
                claims.push(claim);
            }
        }
        Ok((claims, drivers))
    }

    /// Takes back what a pod had. Doing it again is fine.
    ///
    /// # Errors
    /// A driver does not do it: the pod is not gone yet.
    pub async fn unprepare(self: &Arc<Self>, pod: &str) -> Result<(), String> {
        if !self.claims.lock().users().iter().any(|user| user == pod) {
            return Ok(());
        }
        let _turn = self.turn.lock().await;
        let begun = Instant::now();
        let unprepared = self.unprepare_all(pod).await;
        metrics::handled("UnprepareResources", unprepared.is_err(), begun.elapsed());
        unprepared.map_err(|why| format!("unprepare dynamic resources: {why}"))
    }

    async fn unprepare_all(self: &Arc<Self>, pod: &str) -> Result<(), String> {
        let mut left = self.claims.lock().clone();
        let only = left.leave(pod);
        let mut batches: BTreeMap<&String, Vec<&ClaimInfo>> = BTreeMap::new();
        for claim in &only {
            claim.driver_state.keys().for_each(|driver| batches.entry(driver).or_default().push(claim));
        }
        for (name, claims) in batches {
            let request = UnprepareRequest { claims: claims.iter().map(|claim| claim.asked()).collect() };
            let response = self.drivers.get(name)?.unprepare(request).await?;
            for claim in &claims {
                if let Some(answer) = response.claims.get(&claim.uid).filter(|answer| !answer.error.is_empty()) {
                    return Err(format!("NodeUnprepareResources failed for ResourceClaim {}: {}", claim.name, answer.error));
                }
            }
            let skipped = claims.iter().filter(|claim| !response.claims.contains_key(&claim.uid)).count();
            if skipped > 0 {
                return Err(format!("NodeUnprepareResources skipped {skipped} ResourceClaims"));
            }
        }
        only.iter().for_each(|claim| drop(left.0.remove(&(claim.namespace.clone(), claim.name.clone()))));
        self.keep(left).await
    }

    /// Writes what is known, then knows it.
    async fn keep(self: &Arc<Self>, claims: ClaimInfos) -> Result<(), String> {
        let (dra, written) = (self.clone(), claims.clone());
        let kept = blocking(move || dra.checkpoint.write(&Kept::from(&written))).await;
        kept.map_err(|error| format!("checkpoint ResourceClaim state: {error}"))?;
        *self.claims.lock() = claims;
        Ok(())
    }
}

fn has_answer(prepared: &[ClaimInfo], claim: &ClaimInfo, driver: &str) -> bool {
    let state = prepared.iter().find(|ready| ready.uid == claim.uid).and_then(|ready| ready.driver_state.get(driver));
    state.is_some_and(|state| state.devices.is_some())
}
