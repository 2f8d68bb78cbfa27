//! The fake's images: present ones, and those a registry would offer.

use std::collections::BTreeMap;

use crate::{
    proto,
    runtime::{CriError, CriResult},
};

#[derive(Default)]
pub(super) struct Images {
    present: BTreeMap<String, proto::Image>,
    /// With the passwords that they ask for.
    offered: BTreeMap<String, Option<String>>,
}

impl Images {
    pub fn add(&mut self, name: &str) {
        let id = format!("sha256:{:0>64}", self.present.len() + 1);
        let image =
            proto::Image { id, repo_tags: vec![name.to_owned()], size: 1 << 20, uid: Some(proto::Int64Value { value: 0 }), ..Default::default() };
        self.present.insert(name.to_owned(), image);
    }

    pub fn offer(&mut self, name: &str, password: Option<&str>) {
        self.offered.insert(name.to_owned(), password.map(str::to_owned));
    }

    pub fn present(&self) -> Vec<proto::Image> {
        self.present.values().cloned().collect()
    }

    pub fn find(&self, name: &str) -> Option<proto::Image> {
        self.present.get(name).or_else(|| self.present.values().find(|image| image.id == name)).cloned()
    }

    /// What is here already stays what it is.
    pub fn pull(&mut self, name: &str, auth: Option<&proto::AuthConfig>) -> CriResult<String> {
        let Some(password) = self.offered.get(name) else {
            return Err(CriError::NotFound(format!("failed to resolve reference \"{name}\": not found")));
        };
        if password.as_deref().is_some_and(|password| auth.is_none_or(|auth| auth.password != password)) {
            let message = format!("failed to authorize \"{name}\": 401 Unauthorized");
            return Err(CriError::Failed { code: "Unknown", message });
        }
        if !self.present.contains_key(name) {
            self.add(name);
        }
        Ok(self.present[name].id.clone())
    }

    pub fn remove(&mut self, name: &str) {
        self.present.retain(|key, image| key != name && image.id != name);
    }
}
