//! What persistent volume claims cost, in all and by storage class.

use super::scopes::volume_attributes_classes;
use crate::meta::{
    Object, Quantity,
    amounts::{Amounts, quantity},
};

const CLASS_SUFFIX: &str = ".storageclass.storage.k8s.io/";
const OBJECTS: &str = "count/persistentvolumeclaims";
const CLAIMS: &str = "persistentvolumeclaims";
const STORAGE: &str = "requests.storage";

/// Whether a quota's resource name is about claims.
pub fn tracks(name: &str) -> bool {
    let by_class = name.split_once(CLASS_SUFFIX).map(|(_, resource)| resource);
    name == OBJECTS || [CLAIMS, STORAGE].contains(&by_class.unwrap_or(name))
}

/// What a claim costs.
pub fn cost(claim: &Object) -> Amounts {
    let class = storage_class(claim);
    let mut cost = Amounts::default();
    cost.count(OBJECTS, 1);
    cost.count(CLAIMS, 1);
    if !class.is_empty() {
        cost.count(format!("{class}{CLASS_SUFFIX}{CLAIMS}"), 1);
    }
    if let Some(storage) = storage(claim) {
        cost.set(STORAGE, storage);
        if !class.is_empty() {
            cost.set(format!("{class}{CLASS_SUFFIX}{STORAGE}"), storage);
        }
    }
    cost
}

fn storage_class(claim: &Object) -> &str {
    claim.annotation("volume.beta.kubernetes.io/storage-class").unwrap_or_else(|| claim.str(&["spec", "storageClassName"]))
}

fn allocated(claim: &Object) -> Option<Quantity> {
    claim.get(&["status", "allocatedResources", "storage"]).and_then(quantity)
}

/// The bytes asked for, or allocated if that is more, in whole bytes.
fn storage(claim: &Object) -> Option<Quantity> {
    let asked = claim.get(&["spec", "resources", "requests", "storage"]).and_then(quantity)?;
    let most = allocated(claim).filter(|allocated| *allocated > asked).unwrap_or(asked);
    let whole = Quantity::from_value(most.value());
    Some(if whole == most { most } else { whole })
}

/// Whether a status update changes what a claim costs or which scopes it is in.
pub fn is_of_interest(new: &Object, old: &Object) -> bool {
    allocated(new) != allocated(old) || volume_attributes_classes(new) != volume_attributes_classes(old)
}
