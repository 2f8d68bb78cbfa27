//! Whom the API server asks what a user may do, in which order: nodes and RBAC, or what flags say, or a file, which is used anew when it changes.

use std::{path::Path, sync::Arc};

use anyhow::{Context, Error, Result};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use troupe_api::{
    auth::{
        Authorizer,
        bootstrap::Addition,
        chain::{AuthorizerChain, PrivilegedGroups},
        exchange::ExchangedAuthorizers,
        node::NodeAuthorizer,
        rbac::Rbac,
    },
    service::Listers,
};
use troupe_api_server::{
    authorization::{self, AbacAuthorizer, Always, AuthorizationConfiguration, AuthorizationFlags, Mode, WebhookAuthorizer},
    reloading::{FollowedFile, LOOK_EVERY},
};

/// An authorizer; those of the cluster are made once its caches are there.
#[derive(Clone)]
enum Link {
    Node,
    Rbac,
    Fixed(Arc<dyn Authorizer>),
}

/// Those that are configured.
pub struct Authorizers {
    links: Vec<Link>,
    /// What features that are on let nodes do.
    additions: Vec<Addition>,
    /// Taken by whoever makes the authorizer.
    file: Mutex<Option<FollowedFile>>,
    home: Option<Handle>,
}

impl Default for Authorizers {
    fn default() -> Self {
        Authorizers { links: vec![Link::Node, Link::Rbac], additions: Vec::new(), file: Mutex::default(), home: None }
    }
}

impl Authorizers {
    /// Those of a file. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When it is unusable, or says what cannot work.
    pub fn of_file(path: &Path) -> Result<Self> {
        let unusable = || format!("failed to load authorization configuration from file {}", path.display());
        let file = FollowedFile::open(path).with_context(unusable)?;
        let links = links(path, file.text()).map_err(Error::msg).with_context(unusable)?;
        Ok(Authorizers { links, file: Mutex::new(Some(file)), home: Some(Handle::current()), ..Authorizers::default() })
    }

    /// The same where features are on that let nodes do more.
    pub fn with(self, additions: Vec<Addition>) -> Self {
        Authorizers { additions, ..self }
    }

    /// Those of flags. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// When they cannot work, or a file that they name is unusable.
    pub fn of_flags(flags: AuthorizationFlags) -> Result<Self> {
        let links = flags.modes().and_then(|modes| modes.into_iter().map(link).collect()).map_err(Error::msg)?;
        Ok(Authorizers { links, ..Authorizers::default() })
    }

    /// `system:masters` may do everything; then those that are configured are asked.
    pub fn over(&self, listers: &Arc<dyn Listers>) -> Arc<dyn Authorizer> {
        let own = Own::of(&self.links, &self.additions, listers);
        let chain = own.chain(self.links.clone()).expect("they are those that it is made of");
        let (Some(file), Some(home)) = (self.file.lock().take(), &self.home) else { return Arc::new(chain) };
        let exchanged = ExchangedAuthorizers::new(chain, own.rbac.clone());
        let followed = exchanged.clone();
        home.spawn(file.follow(LOOK_EVERY, authorization::RELOADS, move |path, text| {
            followed.exchange(own.chain(links(path, text)?)?);
            Ok(())
        }));
        exchanged
    }
}

fn links(path: &Path, text: &str) -> Result<Vec<Link>, String> {
    AuthorizationConfiguration::parse(path, text).map_err(|error| error.to_string())?.into_iter().map(link).collect()
}

fn link(mode: Mode) -> Result<Link, String> {
    Ok(match mode {
        Mode::Node => Link::Node,
        Mode::Rbac => Link::Rbac,
        Mode::AlwaysAllow => Link::Fixed(Arc::new(Always::Allow)),
        Mode::AlwaysDeny => Link::Fixed(Arc::new(Always::Deny)),
        Mode::Abac(file) => Link::Fixed(Arc::new(AbacAuthorizer::open(&file).map_err(|error| error.to_string())?)),
        Mode::Webhook(webhook) => Link::Fixed(WebhookAuthorizer::new(*webhook)?),
    })
}

/// The authorizers that read the cluster's own objects. They are made once: their caches are large.
struct Own {
    node: Option<Arc<dyn Authorizer>>,
    rbac: Option<Arc<dyn Authorizer>>,
}

impl Own {
    fn of(links: &[Link], additions: &[Addition], listers: &Arc<dyn Listers>) -> Self {
        let [mut node, mut rbac]: [Option<Arc<dyn Authorizer>>; 2] = [None, None];
        for link in links {
            match link {
                Link::Node => node = Some(Arc::new(NodeAuthorizer::with(listers.clone(), additions))),
                Link::Rbac => rbac = Some(Arc::new(Rbac::new(listers.clone()))),
                Link::Fixed(_) => {}
            }
        }
        Own { node, rbac }
    }

    fn chain(&self, links: Vec<Link>) -> Result<AuthorizerChain, String> {
        let known = |kind: &str, own: &Option<Arc<dyn Authorizer>>| {
            own.clone().ok_or_else(|| format!("authorizer type {kind} is not allowed if it was not enabled at initial server startup"))
        };
        let mut all: Vec<Arc<dyn Authorizer>> = vec![Arc::new(PrivilegedGroups)];
        for link in links {
            all.push(match link {
                Link::Node => known("Node", &self.node)?,
                Link::Rbac => known("RBAC", &self.rbac)?,
                Link::Fixed(authorizer) => authorizer,
            });
        }
        Ok(AuthorizerChain::new(all))
    }
}
