//! What is done with every object that decodes: defaults, preparation, validation, printing, admission.

use std::sync::LazyLock;

use troupe_api::{
    meta::{Object, SystemClock},
    resources::{self, Resource, WriteContext},
    schema::{Format, Schemas},
    service::UserInfo,
};
use troupe_api_server::admission::pod_security::{LevelVersion, verdict};

use crate::budget;

static RESOURCES: LazyLock<Vec<std::sync::Arc<Resource>>> = LazyLock::new(resources::builtin);

/// The first byte chooses the resource, the rest is JSON.
fn object(data: &[u8]) -> Option<(&'static Resource, Object)> {
    let (first, body) = data.split_first()?;
    let resource = &RESOURCES[usize::from(*first) % RESOURCES.len()];
    let schema = Schemas::builtin().get(&resource.storage_gvk())?;
    let mut object = schema.decode(body, Format::Json).ok()?.object;
    schema.apply_defaults(&mut object);
    Some((resource, object))
}

pub fn validation(data: &[u8]) {
    let Some((resource, mut object)) = object(data) else { return };
    let user = UserInfo::default();
    let length = serde_json::to_vec(object.root()).expect("a tree encodes").len();
    budget::hold(length, || {
        resource.strategy.default_object(&mut object);
        let context = WriteContext { user: &user, clock: &SystemClock, subresource: "" };
        let old = object.clone();
        resource.strategy.prepare_create(&mut object, &context);
        drop(resource.validate_create(&resource.storage, &object));
        drop(resource.validate_update(&resource.storage, &object, &old, ""));
        drop(resource.validate_update(&resource.storage, &object, &old, "status"));
        drop(resource.warnings(&object, None, ""));
        resource.strategy.prepare_update(&mut object, &old, &context);
        let cells = resource.strategy.cells(&old, &SystemClock);
        assert_eq!(cells.len(), resource.strategy.columns().len(), "a cell for each column");
        for path in resource.strategy.selectable_paths() {
            drop(resource.strategy.selectable_field(&old, path));
        }
    });
}

/// Whoever breaks baseline breaks restricted as well.
pub fn pod_security(data: &[u8]) {
    let Some((schema, body)) = super::documents::chosen(&[&[0], data].concat()).map(|(schema, _)| (schema, data)) else { return };
    let Ok(decoded) = schema.decode(body, Format::Json) else { return };
    let pod = decoded.object;
    let length = serde_json::to_vec(pod.root()).expect("a tree encodes").len();
    let of = |policy: &str| verdict(LevelVersion::parse(policy).expect("a policy"), &pod);
    let (baseline, restricted) = budget::hold(length, || (of("baseline:latest"), of("restricted:latest")));
    assert!(of("privileged:latest").is_none());
    assert!(baseline.is_none() || restricted.is_some(), "{baseline:?}");
    for minor in 0..40 {
        drop(of(&format!("restricted:v1.{minor}")));
    }
}
