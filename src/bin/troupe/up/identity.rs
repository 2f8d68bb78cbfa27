//! Who calls and may they: puts the authenticators and authorizers together.

use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::json;
use troupe_actors::apiserver::{ApiServerOptions, AuthResources, VirtualResources};
use troupe_api::{
    auth::{
        Authenticator, Authorizer, bootstrap,
        chain::{AuthenticatorChain, AuthorizerChain, Masters},
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

/// Upstream's RBAC objects, and the bindings that let nodes do their work: they run kubelet and service proxy as one.
pub fn objects() -> Vec<Object> {
    let mut objects = bootstrap::objects();
    for (name, role) in [("troupe:nodes", "system:node"), ("troupe:node-proxier", "system:node-proxier")] {
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:nodes"}],
        });
        objects.extend(Object::from_value(binding));
    }
    objects
}

/// Client certificates, then service-account tokens; requests with neither are anonymous.
pub fn authenticator(issuer: &Issuer, listers: Arc<dyn Listers>) -> Arc<dyn Authenticator> {
    let keys = vec![issuer.public_key().clone()];
    let legacy = LegacyVerifier::new(keys.clone(), issuer.audiences().to_vec(), listers.clone());
    let verifier = Verifier::new(keys, vec![issuer.name().to_owned()], issuer.audiences().to_vec(), listers, Arc::new(SystemClock));
    Arc::new(AuthenticatorChain::new(vec![Arc::new(X509Authenticator), Arc::new(legacy), Arc::new(verifier)], true))
}

/// `system:masters` may do everything; RBAC says what others may.
pub fn authorizer(listers: Arc<dyn Listers>) -> Arc<dyn Authorizer> {
    Arc::new(AuthorizerChain::new(vec![Arc::new(Masters), Arc::new(Rbac::new(listers))]))
}

/// A component's own user, such as `system:kube-scheduler`, with further groups.
pub fn component(name: &str, groups: &[&str]) -> Arc<UserInfo> {
    let groups = groups.iter().chain(&["system:authenticated"]).map(|group| (*group).to_owned()).collect();
    Arc::new(UserInfo { name: name.to_owned(), groups, ..UserInfo::default() })
}
