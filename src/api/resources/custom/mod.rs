//! Custom resources: what a custom resource definition makes of itself.
//!
//! [`super::definitions`] makes a [`super::Resource`] of a definition, with a [`super::Served`] for each version. The schema and
//! the rules of a version are made when first asked for ([`CustomSchema`]): most definitions of a cluster are never used.

mod lists;
pub mod path;
pub mod paths;
pub mod rules;
pub mod validations;
mod versions;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::RwLock;
use serde_json::Value;

use self::{rules::Rules, validations::Validations};
use crate::{
    aside,
    meta::GroupVersionKind,
    schema::{Schema, structural},
};

pub use path::Path;
pub use versions::{ConversionWebhook, Versions};

/// The schema of one version of a custom resource, as its definition states it.
#[derive(Debug)]
pub struct CustomSchema {
    gvk: GroupVersionKind,
    /// `openAPIV3Schema` as JSON; empty where there is none. A part of the bytes of a definition, all of which it keeps in memory.
    source: RwLock<Bytes>,
    /// Fields that the schema does not know stay.
    preserve_unknown: bool,
    /// The status is no subresource but a field like others.
    plain_status: bool,
    made: OnceLock<Made>,
}

#[derive(Debug)]
struct Made {
    schema: Arc<Schema>,
    rules: Rules,
    validations: Validations,
}

impl CustomSchema {
    pub fn new(gvk: GroupVersionKind, source: Bytes, preserve_unknown: bool) -> Self {
        CustomSchema { gvk, source: RwLock::new(source), preserve_unknown, plain_status: false, made: OnceLock::new() }
    }

    /// The same where the status is no subresource, if `plain`.
    pub fn with_plain_status(self, plain: bool) -> Self {
        CustomSchema { plain_status: plain, ..self }
    }

    /// The schema as it was written.
    pub fn source(&self) -> Value {
        serde_json::from_slice(&self.text()).unwrap_or_default()
    }

    /// The same as text; empty where there is none.
    pub fn text(&self) -> Bytes {
        self.source.read().clone()
    }

    /// Holds `text` in place of what it was made of, where both are the same: whoever has a newer version of the definition need not keep
    /// the older one in memory.
    pub fn hold(&self, text: Bytes) {
        let mut source = self.source.write();
        if *source == text {
            *source = text;
        }
    }

    /// About the memory that a document of it takes, in bytes of its text: each keyword is a value of its own.
    pub fn weight(&self) -> usize {
        let source = self.text();
        source.len() + 64 * source.iter().filter(|byte| **byte == b':').count()
    }

    /// What is kept, defaulted, merged and owned.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.made().schema
    }

    /// What values must be like.
    pub fn rules(&self) -> &Rules {
        &self.made().rules
    }

    /// What expressions say of values.
    pub fn validations(&self) -> &Validations {
        &self.made().validations
    }

    /// How much work a document of so many bytes is, in bytes of a built-in object: the schema may have to be made, and may compare every
    /// value with many others or try patterns of many states on it.
    pub fn work(&self, document: usize) -> usize {
        match self.made.get() {
            None => usize::MAX,
            Some(made) => {
                let work = document.saturating_mul(1 + made.rules.alternatives() / 8 + made.rules.heaviest_pattern() / 8);
                if made.validations.is_slow { work.max(aside::SMALL + 1) } else { work }
            }
        }
    }

    fn made(&self) -> &Made {
        self.made.get_or_init(|| {
            let source = self.source();
            let mut schema = structural::schema(self.gvk.clone(), &source, self.preserve_unknown);
            schema.plain_status = self.plain_status;
            Made { schema: Arc::new(schema), rules: Rules::new(&source), validations: Validations::new(&source) }
        })
    }
}
