//! Which providers a resource has.

use std::{collections::HashMap, sync::Arc};

use super::{
    config::{EncryptionConfiguration, ProviderConfiguration},
    kms::{GrpcKms, KmsProvider},
    load::EncryptionConfigError,
    providers::{AnyProvider, Providers},
    validation::group_resource,
};

const ANY: &str = "*";

/// The rules of one configuration.
#[derive(Default)]
pub struct EncryptionRules {
    by_group: HashMap<Arc<str>, HashMap<Arc<str>, Providers>>,
    kms: Vec<Arc<KmsProvider>>,
}

impl EncryptionRules {
    /// What a configuration says. Services that keep keys are asked later, by [`EncryptionRules::prime`].
    ///
    /// # Errors
    /// When part of it would have no effect, or cannot work.
    pub fn new(configuration: &EncryptionConfiguration) -> Result<Self, EncryptionConfigError> {
        let mut rules = EncryptionRules::default();
        for entry in &configuration.resources {
            let providers: Vec<AnyProvider> = entry.providers.iter().map(|provider| rules.provider(provider)).collect::<Result<_, _>>()?;
            for name in &entry.resources {
                let named = group_resource(name);
                rules.refuse_masked(&named.group, name)?;
                rules.by_group.entry(named.group.clone()).or_default().entry(named.resource.clone()).or_default().add(&providers);
            }
        }
        Ok(rules)
    }

    fn provider(&mut self, provider: &ProviderConfiguration) -> Result<AnyProvider, EncryptionConfigError> {
        let made = match provider {
            ProviderConfiguration { aesgcm: Some(keys), .. } => AnyProvider::aesgcm(keys),
            ProviderConfiguration { aescbc: Some(keys), .. } => AnyProvider::aescbc(keys),
            ProviderConfiguration { secretbox: Some(keys), .. } => AnyProvider::secretbox(keys),
            ProviderConfiguration { kms: Some(kms), .. } if kms.api_version == "v1" => {
                Err("KMSv1 is deprecated and will only receive security updates going forward. Use KMSv2 instead.  This server does not speak KMSv1."
                    .to_owned())
            }
            ProviderConfiguration { kms: Some(kms), .. } => {
                let provider = KmsProvider::new(&kms.name, Arc::new(GrpcKms::new(kms)));
                self.kms.push(provider.clone());
                Ok(AnyProvider::kms(provider))
            }
            _ => Ok(AnyProvider::identity()),
        };
        made.map_err(EncryptionConfigError::Unusable)
    }

    fn refuse_masked(&self, group: &str, name: &str) -> Result<(), EncryptionConfigError> {
        let has = |group: &str| self.by_group.get(group).is_some_and(|resources| resources.contains_key(ANY));
        let earlier = match () {
            () if has(group) => format!("{ANY}.{group}"),
            () if has(ANY) => format!("{ANY}.{ANY}"),
            () => return Ok(()),
        };
        Err(EncryptionConfigError::Unusable(format!("resource {name:?} is masked by earlier rule {earlier:?}")))
    }

    /// The providers of a resource; nothing for those that no rule names.
    pub fn of(&self, group: &str, resource: &str) -> Option<&Providers> {
        let in_group = |group: &str, resource: &str| self.by_group.get(group)?.get(resource);
        in_group(group, resource).or_else(|| in_group(group, ANY)).or_else(|| in_group(ANY, ANY))
    }

    /// Whether a rule covers anything at all.
    pub fn is_empty(&self) -> bool {
        self.by_group.is_empty()
    }

    /// The services that keep keys.
    pub fn kms(&self) -> &[Arc<KmsProvider>] {
        &self.kms
    }

    /// Asks all services for a key to begin with, and goes on asking whether it is still the right one.
    pub async fn prime(&self) {
        for provider in &self.kms {
            if let Err(error) = provider.check().await {
                tracing::error!(provider = provider.name(), error, "a provider of keys is not healthy");
            }
            provider.watch();
        }
    }

    /// Whether all services give keys; what does not, by its place.
    ///
    /// # Errors
    /// What they say.
    pub async fn check(&self) -> Result<(), String> {
        let mut faults = Vec::new();
        for (index, provider) in self.kms.iter().enumerate() {
            if let Err(why) = provider.check().await {
                faults.push(format!("kms-provider-{index}: {why}"));
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(troupe_api::status::aggregate(&faults)) }
    }
}
