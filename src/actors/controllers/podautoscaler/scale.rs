//! The target of an autoscaler: its `scale` subresource, whatever kind it is of.

use k8s_openapi::api::autoscaling::v2::CrossVersionObjectReference;
use troupe_api::{
    meta::{GroupVersion, Object},
    service::{Operation, Target},
    status::Status,
};
use troupe_api_client::Client;

/// Writes that lose a race are tried this often.
const TRIES: usize = 5;

/// A target's scale as it was read.
pub struct Scale {
    target: Target,
    object: Object,
}

impl Scale {
    /// Reads the scale of what an autoscaler in `namespace` names.
    ///
    /// # Errors
    /// The kind is not known or cannot be scaled, or there is no such object.
    pub async fn of(client: &Client, namespace: &str, reference: &CrossVersionObjectReference) -> Result<Self, String> {
        let GroupVersion { group, version } = parse(reference.api_version.as_deref().unwrap_or_default())?;
        let row = client.service().registry().by_kind(&group, &reference.kind);
        let resource = row.ok_or_else(|| format!("no matches for kind {:?} in group {group:?}", reference.kind))?;
        let version = match resource.served.first() {
            Some(first) if !resource.serves(&version) => first.version.clone(),
            _ => version,
        };
        let target = Target { resource, version, namespace: namespace.into(), name: reference.name.as_str().into(), subresource: "scale".into() };
        // Of those that are known by discovery alone their server says it.
        if !target.resource.is_elsewhere && target.served().subresource("scale").is_none() {
            return Err("the server could not find the requested resource".into());
        }
        let object = read(client, &target).await.map_err(|status| status.message)?;
        Ok(Scale { target, object })
    }

    /// Replicas that are asked for.
    pub fn current(&self) -> i32 {
        self.number(&["spec", "replicas"])
    }

    /// Replicas that are there.
    pub fn replicas(&self) -> i32 {
        self.number(&["status", "replicas"])
    }

    /// The selector of its pods; empty where it has none.
    pub fn selector(&self) -> &str {
        self.object.str(&["status", "selector"])
    }

    fn number(&self, path: &[&str]) -> i32 {
        self.object.int(path).and_then(|number| i32::try_from(number).ok()).unwrap_or(0)
    }

    /// Asks for another number of replicas.
    ///
    /// # Errors
    /// What the API server says, at last that others write all the time.
    pub async fn set(mut self, client: &Client, replicas: i32) -> Result<(), String> {
        let mut tries = 1;
        loop {
            let mut wanted = self.object.clone();
            wanted.set(&["spec", "replicas"], replicas);
            match client.update(self.target.clone(), wanted).await {
                Ok(_) => return Ok(()),
                Err(status) if status.is_conflict() && tries < TRIES => tries += 1,
                Err(status) => return Err(status.message),
            }
            self.object = read(client, &self.target).await.map_err(|status| status.message)?;
        }
    }
}

async fn read(client: &Client, target: &Target) -> Result<Object, Status> {
    client.call(target.clone(), Operation::Get { resource_version: None }).await?.into_tree()
}

fn parse(api_version: &str) -> Result<GroupVersion, String> {
    if api_version.matches('/').count() > 1 {
        return Err(format!("unexpected GroupVersion string: {api_version}"));
    }
    Ok(GroupVersion::parse(api_version))
}
