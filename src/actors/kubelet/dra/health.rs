//! How devices of claims are, as their drivers tell, and as statuses of containers do (KEP-4680).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use k8s_openapi::api::core::v1::{Pod, ResourceHealth, ResourceStatus};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tonic::{Code, Status};
use troupe_unix_grpc::{Service, words};

use super::{
    Dra,
    claim_info::{ClaimInfo, Device},
    proto::{HealthResponse, WatchHealthRequest},
};
use crate::devices::{claim_name, claims_of};

/// How long a driver's word counts where it says nothing else.
const COUNTS: Duration = Duration::from_secs(30);
const RETRY: Duration = Duration::from_secs(5);

/// Bytes of what a driver says to people, as the API takes them; the rest is left out.
const LONGEST_MESSAGE: usize = 1024;

const HEALTHY: &str = "Healthy";
const UNHEALTHY: &str = "Unhealthy";
const UNKNOWN: &str = "Unknown";

/// What a driver said of a device.
#[derive(Clone, Debug)]
struct Told {
    health: &'static str,
    message: String,
    until: Instant,
}

/// What a driver said of its devices, by pool and device.
type DevicesOfDriver = BTreeMap<(String, String), Told>;

/// What drivers say. One that is updated runs twice for a while: each instance speaks for itself, and when one ends it takes back no word of another.
#[derive(Default)]
pub struct Health {
    /// By driver, and by its instances, the newest last.
    devices: Mutex<BTreeMap<String, BTreeMap<u64, DevicesOfDriver>>>,
    /// Of so many instances.
    instances: AtomicU64,
    changed: Notify,
}

impl Health {
    /// An instance of a driver may speak from now on, until it is forgotten; gives its number.
    fn begin(&self, driver: &str) -> u64 {
        let instance = self.instances.fetch_add(1, Ordering::Relaxed);
        self.devices.lock().entry(driver.to_owned()).or_default().insert(instance, DevicesOfDriver::new());
        instance
    }

    /// Takes in what a driver says. What it does not speak of any more counts until its time is over. Who listens to an instance that is forgotten
    /// may still be at work: its word counts no more.
    fn take(&self, (driver, instance): (&str, u64), response: &HealthResponse, now: Instant) {
        let mut devices = self.devices.lock();
        let Some(known) = devices.get_mut(driver).and_then(|instances| instances.get_mut(&instance)) else { return };
        known.retain(|_, told| told.until > now);
        for told in &response.devices {
            let Some(device) = &told.device else { continue };
            let health = match told.health {
                1 => HEALTHY,
                2 => UNHEALTHY,
                _ => UNKNOWN,
            };
            let counts = u64::try_from(told.timeout_seconds).ok().filter(|seconds| *seconds > 0).map_or(COUNTS, Duration::from_secs);
            let until = now.checked_add(counts).unwrap_or(now + COUNTS);
            let message = shortened(&told.message);
            known.insert((device.pool_name.clone(), device.device_name.clone()), Told { health, message, until });
        }
        self.changed.notify_one();
    }

    /// What an instance said counts no more until it speaks again.
    fn silence(&self, driver: &str, instance: u64) {
        let mut devices = self.devices.lock();
        let Some(known) = devices.get_mut(driver).and_then(|instances| instances.get_mut(&instance)) else { return };
        if !std::mem::take(known).is_empty() {
            self.changed.notify_one();
        }
    }

    /// Nor does what it may say from now on.
    fn forget_instance(&self, driver: &str, instance: u64) {
        let mut devices = self.devices.lock();
        let Some(instances) = devices.get_mut(driver) else { return };
        if instances.remove(&instance).is_some_and(|known| !known.is_empty()) {
            self.changed.notify_one();
        }
        if instances.is_empty() {
            devices.remove(driver);
        }
    }

    /// Whatever a driver said counts no more, nor what instances of it that spoke may say yet.
    pub(super) fn forget(&self, driver: &str) {
        if self.devices.lock().remove(driver).is_some() {
            self.changed.notify_one();
        }
    }

    /// How a device is, and what its driver says to that.
    fn of(&self, driver: &str, device: &Device, now: Instant) -> (&'static str, Option<String>) {
        let (devices, name) = (self.devices.lock(), (device.pool_name.clone(), device.device_name.clone()));
        let newest_first = devices.get(driver).into_iter().flat_map(|instances| instances.values().rev());
        let mut told = newest_first.filter_map(|known| known.get(&name)).filter(|told| told.until > now);
        told.next().map_or((UNKNOWN, None), |told| (told.health, Some(told.message.clone()).filter(|message| !message.is_empty())))
    }
}

fn shortened(message: &str) -> String {
    const MARK: &str = "...";
    if message.len() <= LONGEST_MESSAGE {
        return message.to_owned();
    }
    let end = message.floor_char_boundary(LONGEST_MESSAGE - MARK.len());
    format!("{}{MARK}", &message[..end])
}

/// Listens to an instance of a driver for as long as this lives; then what it said counts no more.
pub struct Watch {
    health: Arc<Health>,
    driver: String,
    instance: u64,
    task: tokio::task::AbortHandle,
}

impl Watch {
    pub fn start(health: &Arc<Health>, driver: &str, service: &Service) -> Self {
        let instance = health.begin(driver);
        let (told, name, service) = (health.clone(), driver.to_owned(), service.clone());
        let task = tokio::spawn(async move { listen(&told, (&name, instance), &service).await }).abort_handle();
        Watch { health: health.clone(), driver: driver.to_owned(), instance, task }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
        self.health.forget_instance(&self.driver, self.instance);
    }
}

async fn listen(health: &Health, (driver, instance): (&str, u64), service: &Service) {
    loop {
        let ended = follow(health, (driver, instance), service).await;
        health.silence(driver, instance);
        match ended {
            Err(status) if status.code() == Code::Unimplemented => return,
            Err(status) => tracing::debug!(driver, error = words(&status), "a driver does not tell how its devices are, will retry"),
            Ok(()) => tracing::debug!(driver, "a driver has ended to tell how its devices are"),
        }
        sleep(RETRY).await;
    }
}

async fn follow(health: &Health, instance: (&str, u64), service: &Service) -> Result<(), Status> {
    let mut answers: tonic::Streaming<HealthResponse> =
        service.watch("/v1alpha1.DRAResourceHealth/NodeWatchResources", WatchHealthRequest {}).await?;
    while let Some(answer) = answers.message().await? {
        health.take(instance, &answer, Instant::now());
    }
    Ok(())
}

impl Dra {
    /// How the devices of a pod's claims are, by container.
    pub fn health(&self, pod: &Pod) -> BTreeMap<String, Vec<ResourceStatus>> {
        let mut all: BTreeMap<String, Vec<ResourceStatus>> = BTreeMap::new();
        if claims_of(pod).is_empty() {
            return all;
        }
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let (known, now) = (self.claims.lock(), Instant::now());
        for container in pod.spec.iter().flat_map(|spec| &spec.containers) {
            for wanted in container.resources.iter().flat_map(|resources| resources.claims.iter().flatten()) {
                let asked = claims_of(pod).iter().find(|claim| claim.name == wanted.name);
                // One that has no name yet has no devices.
                let name = asked.and_then(|asked| claim_name(pod, asked).ok().flatten()).map(|(name, _)| name);
                let Some(claim) = name.and_then(|name| known.get(namespace, name)) else { continue };
                let request = wanted.request.as_deref().unwrap_or_default();
                let devices = self.health_of(claim, request, now);
                if devices.is_empty() {
                    continue;
                }
                let name = if request.is_empty() { format!("claim:{}", wanted.name) } else { format!("claim:{}/{request}", wanted.name) };
                all.entry(container.name.clone()).or_default().push(ResourceStatus { name, resources: Some(devices) });
            }
        }
        all
    }

    /// The devices of a claim for one of its requests, or for all; each once.
    fn health_of(&self, claim: &ClaimInfo, request: &str, now: Instant) -> Vec<ResourceHealth> {
        let main = request.split('/').next().unwrap_or_default();
        let mut all: Vec<ResourceHealth> = Vec::new();
        for (driver, state) in &claim.driver_state {
            for device in state.devices.iter().flatten() {
                let requests = device.request_names.as_deref().unwrap_or_default();
                if !main.is_empty() && !requests.is_empty() && !requests.iter().any(|name| name == main) {
                    continue;
                }
                let named = device.cdi_device_ids.iter().flatten().next().cloned();
                let resource_id = named.unwrap_or_else(|| format!("{driver}/{}/{}", device.pool_name, device.device_name));
                if !all.iter().any(|known| known.resource_id == resource_id) {
                    let (health, message) = self.health.of(driver, device, now);
                    all.push(ResourceHealth { resource_id, health: Some(health.to_owned()), message });
                }
            }
        }
        all
    }

    /// Waits until a driver says something of its devices, and gives the uids of the pods that use claims. For one who waits.
    pub async fn changed(&self) -> BTreeSet<String> {
        self.health.changed.notified().await;
        self.users().into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kubelet::dra::{
        proto::{DeviceHealth, DeviceIdentifier},
        testing::{claim, with_claims},
    };

    fn told(device: &str, health: i32, timeout_seconds: i64) -> DeviceHealth {
        let device = Some(DeviceIdentifier { pool_name: "pool".into(), device_name: device.into() });
        let message = if health == 2 { "hot".to_owned() } else { String::new() };
        DeviceHealth { device, health, timeout_seconds, message }
    }

    #[tokio::test]
    async fn devices_of_claims_are_as_their_drivers_say_for_as_long_as_that_counts() {
        let place = tempfile::tempdir().expect("a directory");
        let known = claim("n", "gpus", "gpu.example", &[("pool", "d0", &["vendor/gpu=0"]), ("pool", "d1", &[]), ("pool", "d2", &["vendor/gpu=2"])]);
        let dra = with_claims(place.path(), vec![known]);
        let now = Instant::now();
        let long_ago = now.checked_sub(Duration::from_secs(60)).unwrap_or(now);
        let instance = dra.health.begin("gpu.example");
        dra.health.take(("gpu.example", instance), &HealthResponse { devices: vec![told("d2", 1, 10)] }, long_ago);
        dra.health.take(("gpu.example", instance), &HealthResponse { devices: vec![told("d0", 1, 0), told("d1", 2, 600)] }, now);
        assert_eq!(dra.changed().await, BTreeSet::new(), "no pod uses it");
        let spec = json!({"resourceClaims": [{"name": "gpu", "resourceClaimName": "gpus"}],
            "containers": [{"name": "c", "resources": {"claims": [{"name": "gpu"}]}}, {"name": "other"}]});
        let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec})).expect("a pod");
        let shown = |dra: &Dra| {
            let health = dra.health(&pod);
            assert_eq!((health.len(), health["c"][0].name.as_str()), (1, "claim:gpu"));
            let devices = health["c"][0].resources.clone().unwrap_or_default();
            let words = |device: ResourceHealth| [Some(device.resource_id), device.health, device.message].into_iter().flatten().collect::<Vec<_>>();
            devices.into_iter().map(|device| words(device).join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(shown(&dra), ["vendor/gpu=0 Healthy", "gpu.example/pool/d1 Unhealthy hot", "vendor/gpu=2 Unknown"]);
        dra.health.forget("gpu.example");
        assert_eq!(shown(&dra), ["vendor/gpu=0 Unknown", "gpu.example/pool/d1 Unknown", "vendor/gpu=2 Unknown"]);
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        assert_eq!(shortened(&"x".repeat(1024)).len(), 1024);
        let cut = shortened(&format!("{}°{}", "x".repeat(1020), "y".repeat(10)));
        assert_eq!(cut, format!("{}...", "x".repeat(1020)));
    }

    #[test]
    fn an_instance_that_ends_takes_back_its_own_words_alone() {
        let (health, now) = (Health::default(), Instant::now());
        let device = |name: &str| Device { pool_name: "pool".into(), device_name: name.into(), ..Device::default() };
        let say = |instance, devices| health.take(("d", instance), &HealthResponse { devices }, now);
        let shown = || ["d0", "d1"].map(|name| health.of("d", &device(name), now).0);
        assert_eq!([health.begin("d"), health.begin("d")], [0, 1]);
        say(0, vec![told("d0", 1, 60), told("d1", 1, 60)]);
        say(1, vec![told("d0", 2, 60)]);
        assert_eq!(shown(), [UNHEALTHY, HEALTHY], "the newest is asked first");
        health.forget_instance("d", 0);
        assert_eq!(shown(), [UNHEALTHY, UNKNOWN]);
        health.forget_instance("d", 1);
        assert_eq!((shown(), health.devices.lock().len()), ([UNKNOWN; 2], 0));
    }

    #[test]
    fn who_has_ended_says_nothing_any_more_beside_the_one_that_came_after_it() {
        let (health, now) = (Health::default(), Instant::now());
        let device = |name: &str| Device { pool_name: "pool".into(), device_name: name.into(), ..Device::default() };
        let say = |instance, devices| health.take(("d", instance), &HealthResponse { devices }, now);
        let shown = || ["d0", "d1"].map(|name| health.of("d", &device(name), now).0);
        let older = health.begin("d");
        say(older, vec![told("d0", 1, 60), told("d1", 1, 60)]);
        let newer = health.begin("d");
        say(newer, vec![told("d0", 2, 60)]);
        health.forget_instance("d", older);
        say(older, vec![told("d0", 1, 60), told("d1", 1, 60)]);
        assert_eq!(shown(), [UNHEALTHY, UNKNOWN]);
        health.silence("d", newer);
        assert_eq!(shown(), [UNKNOWN; 2]);
        say(newer, vec![told("d1", 1, 60)]);
        assert_eq!(shown(), [UNKNOWN, HEALTHY], "it may connect again");
        // The last one of a driver is gone, and another one comes before nobody listens to it any more.
        health.forget("d");
        let next = health.begin("d");
        say(next, vec![told("d0", 1, 60)]);
        say(newer, vec![told("d0", 2, 60), told("d1", 2, 60)]);
        health.forget_instance("d", newer);
        assert_eq!(shown(), [HEALTHY, UNKNOWN]);
    }
}
