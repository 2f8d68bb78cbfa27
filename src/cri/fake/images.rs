//! The fake's images: present ones, and those a registry would offer.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    proto,
    runtime::{CriError, CriResult},
};

#[derive(Default)]
pub(super) struct Images {
    present: BTreeMap<String, proto::Image>,
    offered: BTreeSet<String>,
}

impl Images {
    pub fn add(&mut self, name: &str) {
        let id = format!("sha256:{:0>64}", self.present.len() + 1);
        let image =
            proto::Image { id, repo_tags: vec![name.to_owned()], size: 1 << 20, uid: Some(proto::Int64Value { value: 0 }), ..Default::default() };
        self.present.insert(name.to_owned(), image);
    }

    pub fn offer(&mut self, name: &str) {
        self.offered.insert(name.to_owned());
    }

    pub fn present(&self) -> Vec<proto::Image> {
        self.present.values().cloned().collect()
    }

    pub fn find(&self, name: &str) -> Option<proto::Image> {
        self.present.get(name).or_else(|| self.present.values().find(|image| image.id == name)).cloned()
    }

    pub fn pull(&mut self, name: &str) -> CriResult<String> {
        if !self.offered.contains(name) {
            return Err(CriError::NotFound(format!("failed to resolve reference \"{name}\": not found")));
        }
        self.add(name);
        Ok(self.present[name].id.clone())
    }

    pub fn remove(&mut self, name: &str) {
        self.present.retain(|key, image| key != name && image.id != name);
    }
}
