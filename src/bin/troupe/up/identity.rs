//! Who calls and may they: puts the authenticators and authorizers together.

use std::sync::Arc;

use anyhow::{Context, Result};
use troupe_actors::apiserver::{ApiServer, ApiServerOptions, AuthResources, VirtualResources};
use troupe_api::{
    auth::{
        Authenticator, Authorizer, bootstrap,
        bootstrap_tokens::BootstrapTokenAuthenticator,
        chain::{AuthenticatorChain, AuthorizerChain, PrivilegedGroups},
        node::NodeAuthorizer,
        rbac::Rbac,
        tokens::{Issuer, LegacyVerifier, SigningKey, Verifier},
        x509::X509Authenticator,
    },
    meta::{Object, SystemClock},
    service::{Listers, UserInfo},
};

use super::control_plane::Certificates;

/// The issuer of service-account tokens.
pub fn issuer(certificates: &Certificates) -> Result<Arc<Issuer>> {
    let key = SigningKey::from_pem(&certificates.service_account_key).context("the key that signs tokens is unusable")?;
    Ok(Arc::new(Issuer::new(key)))
}

/// Gives the API server its authorizer and the answers to reviews and token requests.
pub fn configure(options: &mut ApiServerOptions, issuer: Arc<Issuer>) {
    options.authorizer = Some(Box::new(authorizer));
    options.virtual_resources = Some(Box::new(move |listers| {
        let authenticator = authenticator(&issuer, listers);
        let answers: Arc<dyn VirtualResources> = Arc::new(AuthResources { issuer, authenticator, clock: Arc::new(SystemClock) });
        vec![answers]
    }));
}

/// Upstream's RBAC objects, and those that let nodes join and do their work.
pub fn objects() -> Vec<Object> {
    bootstrap::objects()
}

/// Client certificates, then service-account tokens, then bootstrap tokens; requests with none are anonymous.
pub fn authenticator(issuer: &Issuer, listers: Arc<dyn Listers>) -> Arc<dyn Authenticator> {
    let keys = vec![issuer.public_key().clone()];
    let audiences = issuer.audiences().to_vec();
    let legacy = LegacyVerifier::new(keys.clone(), audiences.clone(), listers.clone());
    let verifier = Verifier::new(keys, vec![issuer.name().to_owned()], audiences.clone(), listers.clone(), Arc::new(SystemClock));
    let bootstrap = BootstrapTokenAuthenticator::new(listers, Arc::new(SystemClock), audiences);
    Arc::new(AuthenticatorChain::new(vec![Arc::new(X509Authenticator), Arc::new(legacy), Arc::new(verifier), Arc::new(bootstrap)], true))
}

/// `system:masters` may do everything, nodes what their pods need; RBAC says what others may.
fn authorizer(listers: Arc<dyn Listers>) -> Arc<dyn Authorizer> {
    Arc::new(AuthorizerChain::new(vec![Arc::new(PrivilegedGroups), Arc::new(NodeAuthorizer::new(listers.clone())), Arc::new(Rbac::new(listers))]))
}

/// The authorizer of a running API server. All doors share it: its graph of nodes and pods exists once.
pub fn authorizer_of(api: &ApiServer) -> Arc<dyn Authorizer> {
    api.authorizer().expect("the API server was configured with one")
}

/// A component's own user, such as `system:kube-scheduler`, with further groups.
pub fn component(name: &str, groups: &[&str]) -> Arc<UserInfo> {
    let groups = groups.iter().chain(&["system:authenticated"]).map(|group| (*group).to_owned()).collect();
    Arc::new(UserInfo { name: name.to_owned(), groups, ..UserInfo::default() })
}
