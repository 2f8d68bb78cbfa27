//! What claims ask for, with classes looked up.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::api::resource::v1::{
    DeviceClass, DeviceRequest, DeviceSelector, DeviceSubRequest, DeviceToleration, ExactDeviceRequest, ResourceClaim,
};

use super::{Amounts, MOST_DEVICES, capacity::amount, constraints::Constraint, selectors::Selector};
use crate::devices::key_of;

/// A claim to be allocated.
pub struct WantedClaim {
    pub claim: Arc<ResourceClaim>,
    pub requests: Vec<WantedRequest>,
    pub constraints: Vec<Constraint>,
}

/// A request: what is wanted, or several alternatives of which the first that can be had is taken.
pub struct WantedRequest {
    pub alternatives: Vec<Wanted>,
    pub is_prioritized: bool,
}

/// How many devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Count(usize),
    All,
}

/// One kind of devices that is wanted.
pub struct Wanted {
    /// Counted over all claims.
    pub id: usize,
    pub request: String,
    pub alternative: Option<String>,
    pub class: Arc<DeviceClass>,
    /// Of class and request, with what errors call them: a device is selected by all of them.
    pub selectors: Vec<(String, Selector)>,
    pub mode: Mode,
    pub admin_access: Option<bool>,
    pub tolerations: Vec<DeviceToleration>,
    /// What is asked of the capacities of a device that is shared.
    pub capacity: Amounts,
}

impl WantedClaim {
    /// # Errors
    /// A class is not there, or something is not understood.
    pub fn of(claim: &Arc<ResourceClaim>, class: &dyn Fn(&str) -> Option<Arc<DeviceClass>>, requests_before: &mut usize) -> Result<Self, String> {
        let devices = claim.spec.devices.as_ref();
        let mut requests = Vec::new();
        for request in devices.and_then(|devices| devices.requests.as_ref()).into_iter().flatten() {
            requests.push(WantedRequest::of(claim, request, class, requests_before)?);
        }
        let constraints = devices.and_then(|devices| devices.constraints.as_ref()).into_iter().flatten().enumerate().map(|(at, constraint)| {
            let unknown = || format!("claim {}, constraint #{at}: empty constraint (unsupported constraint type?)", key_of(&claim.metadata));
            Constraint::of(constraint).ok_or_else(unknown)
        });
        Ok(WantedClaim { claim: claim.clone(), requests, constraints: constraints.collect::<Result<_, _>>()? })
    }
}

impl WantedRequest {
    fn of(
        claim: &ResourceClaim,
        request: &DeviceRequest,
        class: &dyn Fn(&str) -> Option<Arc<DeviceClass>>,
        requests_before: &mut usize,
    ) -> Result<Self, String> {
        let is_prioritized = request.first_available.as_ref().is_some_and(|alternatives| !alternatives.is_empty());
        let mut alternatives = Vec::new();
        for asked in asked(request) {
            let name = if is_prioritized { format!("{}/{}", request.name, asked.name.unwrap_or_default()) } else { request.name.clone() };
            let of_request = |why: String| format!("claim {}, request {name}: {why}", key_of(&claim.metadata));
            let missing = || of_request(format!("could not retrieve device class {}: not found", asked.class));
            let class = class(asked.class).ok_or_else(missing)?;
            let mut selectors = named(class.spec.selectors.as_deref(), &format!("class {}", asked.class)).map_err(of_request)?;
            selectors.extend(named(asked.selectors, &format!("claim {}", key_of(&claim.metadata))).map_err(of_request)?);
            let mode = match asked.mode {
                None | Some("" | "ExactCount") => Mode::Count(usize::try_from(asked.count.unwrap_or(1)).unwrap_or(usize::MAX)),
                Some("All") => Mode::All,
                Some(other) => return Err(of_request(format!("unsupported count mode {other}"))),
            };
            if let Mode::Count(count) = mode
                && count > MOST_DEVICES
                && !is_prioritized
            {
                let key = key_of(&claim.metadata);
                return Err(format!("claim {key}: number of requested devices {count} exceeds the claim limit of {MOST_DEVICES}"));
            }
            alternatives.push(Wanted {
                id: *requests_before,
                request: request.name.clone(),
                alternative: asked.name.map(str::to_owned),
                class,
                selectors,
                mode,
                admin_access: asked.admin_access,
                tolerations: asked.tolerations.to_vec(),
                capacity: asked.capacity.map(|requests| requests.iter().map(|(name, of)| (name.clone(), amount(of))).collect()).unwrap_or_default(),
            });
            *requests_before += 1;
        }
        if alternatives.is_empty() {
            return Err(format!("resource claim {}, request {}: unknown request type", key_of(&claim.metadata), request.name));
        }
        Ok(WantedRequest { alternatives, is_prioritized })
    }
}

impl Wanted {
    /// As results and configurations name it.
    pub fn full_name(&self) -> String {
        match &self.alternative {
            Some(alternative) => format!("{}/{alternative}", self.request),
            None => self.request.clone(),
        }
    }

    pub fn is_administration(&self) -> bool {
        self.admin_access == Some(true)
    }
}

/// What both kinds of requests say.
struct Asked<'a> {
    name: Option<&'a str>,
    class: &'a str,
    selectors: Option<&'a [DeviceSelector]>,
    mode: Option<&'a str>,
    count: Option<i64>,
    admin_access: Option<bool>,
    tolerations: &'a [DeviceToleration],
    capacity: Option<&'a BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>>,
}

fn asked(request: &DeviceRequest) -> Vec<Asked<'_>> {
    match (&request.exactly, &request.first_available) {
        (_, Some(alternatives)) if !alternatives.is_empty() => alternatives.iter().map(alternative).collect(),
        (Some(exact), _) => vec![exactly(exact)],
        _ => Vec::new(),
    }
}

fn exactly(exact: &ExactDeviceRequest) -> Asked<'_> {
    Asked {
        name: None,
        class: &exact.device_class_name,
        selectors: exact.selectors.as_deref(),
        mode: exact.allocation_mode.as_deref(),
        count: exact.count,
        admin_access: exact.admin_access,
        tolerations: exact.tolerations.as_deref().unwrap_or_default(),
        capacity: exact.capacity.as_ref().and_then(|capacity| capacity.requests.as_ref()),
    }
}

fn alternative(sub: &DeviceSubRequest) -> Asked<'_> {
    Asked {
        name: Some(&sub.name),
        class: &sub.device_class_name,
        selectors: sub.selectors.as_deref(),
        mode: sub.allocation_mode.as_deref(),
        count: sub.count,
        admin_access: None,
        tolerations: sub.tolerations.as_deref().unwrap_or_default(),
        capacity: sub.capacity.as_ref().and_then(|capacity| capacity.requests.as_ref()),
    }
}

/// The selectors of a class or a request, with what errors call them.
fn named(asked: Option<&[DeviceSelector]>, of: &str) -> Result<Vec<(String, Selector)>, String> {
    let one = |(at, selector): (usize, &DeviceSelector)| match &selector.cel {
        Some(cel) => Ok((format!("{of}: selector #{at}"), Selector::new(&cel.expression))),
        None => Err(format!("selector #{at}: CEL expression empty (unsupported selector type?)")),
    };
    asked.into_iter().flatten().enumerate().map(one).collect()
}
