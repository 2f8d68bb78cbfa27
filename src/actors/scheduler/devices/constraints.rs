//! What the devices of a claim must have in common, or must not (`matchAttribute`, `distinctAttribute`).

use k8s_openapi::api::resource::v1::{Device, DeviceAttribute, DeviceConstraint};

/// A constraint of a claim.
#[derive(Clone, Debug)]
pub struct Constraint {
    /// The requests, or alternatives, that it is about; all if there is none.
    requests: Vec<String>,
    attribute: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Match,
    Distinct,
}

/// The devices that count for a constraint so far.
#[derive(Debug, Default)]
pub struct Counted<'a>(Vec<&'a DeviceAttribute>);

impl Constraint {
    /// `None` if it is of a kind that is not known.
    pub fn of(constraint: &DeviceConstraint) -> Option<Self> {
        let (attribute, kind) = match constraint {
            DeviceConstraint { match_attribute: Some(name), .. } => (name.clone(), Kind::Match),
            DeviceConstraint { distinct_attribute: Some(name), .. } => (name.clone(), Kind::Distinct),
            _ => return None,
        };
        Some(Constraint { requests: constraint.requests.clone().unwrap_or_default(), attribute, kind })
    }

    /// Whether it is about what a request gets.
    fn is_about(&self, request: &str, alternative: Option<&str>) -> bool {
        let is_named = |name: &String| match (name.split_once('/'), alternative) {
            (Some((of, sub)), Some(alternative)) => of == request && sub == alternative,
            (Some(_), None) => false,
            (None, _) => name == request,
        };
        self.requests.is_empty() || self.requests.iter().any(is_named)
    }

    /// Counts a device; `None` if it must not be taken, else whether it counts.
    pub fn add<'a>(&self, counted: &mut Counted<'a>, of: (&str, Option<&str>), driver: &str, device: &'a Device) -> Option<bool> {
        if !self.is_about(of.0, of.1) {
            return Some(false);
        }
        let attribute = lookup(&self.attribute, driver, device)?;
        let fits = match self.kind {
            Kind::Match => counted.0.first().is_none_or(|first| is_same(first, attribute)),
            Kind::Distinct => !counted.0.iter().any(|other| is_same(other, attribute)),
        };
        fits.then(|| {
            counted.0.push(attribute);
            true
        })
    }
}

impl Counted<'_> {
    /// The device that was counted last is not taken after all.
    pub fn remove_last(&mut self) {
        self.0.pop();
    }
}

/// An attribute by its full name; the driver may publish its own without a domain.
fn lookup<'a>(name: &str, driver: &str, device: &'a Device) -> Option<&'a DeviceAttribute> {
    let attributes = device.attributes.as_ref()?;
    attributes.get(name).or_else(|| {
        let (domain, rest) = name.split_once('/')?;
        attributes.get(rest).filter(|_| domain == driver)
    })
}

fn is_same(one: &DeviceAttribute, other: &DeviceAttribute) -> bool {
    match one {
        DeviceAttribute { string: Some(value), .. } => other.string.as_ref() == Some(value),
        DeviceAttribute { int: Some(value), .. } => other.int == Some(*value),
        DeviceAttribute { bool: Some(value), .. } => other.bool == Some(*value),
        DeviceAttribute { version: Some(value), .. } => other.version.as_ref() == Some(value),
        _ => false,
    }
}
