//! Who calls and may they: puts the authenticators and authorizers together, and answers reviews and token requests.

use std::sync::Arc;

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use troupe_actors::apiserver::{ApiServerOptions, VirtualRequest, VirtualResources};
use troupe_api::{
    auth::{
        Authenticator, Authorizer, bootstrap,
        chain::{AuthenticatorChain, AuthorizerChain, Masters},
        rbac::Rbac,
        reviews,
        tokens::{Issuer, key::SigningKey, request::token_request, verifier::Verifier},
        x509::X509Authenticator,
    },
    meta::{Clock, Object, SystemClock},
    service::Listers,
    status::Status,
};

use super::control_plane::Certificates;

/// The issuer of service-account tokens.
pub fn issuer(certificates: &Certificates) -> Result<Arc<Issuer>> {
    let key = SigningKey::from_pem(&certificates.service_account_key).context("the key that signs tokens is unusable")?;
    Ok(Arc::new(Issuer::new(key)))
}

/// Gives the API server its authorizer, its RBAC objects, and the answers to reviews and token requests.
pub fn configure(options: &mut ApiServerOptions, issuer: Arc<Issuer>) {
    options.authorizer = Some(Box::new(authorizer));
    options.bootstrap_objects = bootstrap::objects();
    options.virtual_resources = vec![Arc::new(Reviews { issuer: issuer.clone() }), Arc::new(TokenRequests { issuer })];
}

/// Client certificates, then service-account tokens; requests with neither are anonymous.
pub fn authenticator(issuer: &Issuer, listers: Arc<dyn Listers>) -> Arc<dyn Authenticator> {
    Arc::new(AuthenticatorChain::new(vec![Arc::new(X509Authenticator), Arc::new(verifier(issuer, listers))], true))
}

/// `system:masters` may do everything; RBAC says what others may.
pub fn authorizer(listers: Arc<dyn Listers>) -> Arc<dyn Authorizer> {
    Arc::new(AuthorizerChain::new(vec![Arc::new(Masters), Arc::new(Rbac::new(listers))]))
}

fn verifier(issuer: &Issuer, listers: Arc<dyn Listers>) -> Verifier {
    let keys = vec![issuer.public_key().clone()];
    Verifier::new(keys, vec![issuer.name().to_owned()], issuer.audiences().to_vec(), listers, Arc::new(SystemClock))
}

/// Answers access, subject and token reviews.
struct Reviews {
    issuer: Arc<Issuer>,
}

impl VirtualResources for Reviews {
    fn create(&self, request: VirtualRequest) -> Option<BoxFuture<'static, Result<Object, Status>>> {
        let resource = &request.target.resource;
        if !matches!(&*resource.group, "authorization.k8s.io" | "authentication.k8s.io") {
            return None;
        }
        let authenticator = verifier(&self.issuer, request.listers.clone());
        let authorizer = request.authorizer.clone().unwrap_or_else(|| authorizer(request.listers.clone()));
        let reply = reviews::evaluate(&resource.kind, request.body, &request.user, &*authorizer, &authenticator);
        Some(Box::pin(std::future::ready(reply)))
    }
}

/// Answers `serviceaccounts/token`.
struct TokenRequests {
    issuer: Arc<Issuer>,
}

impl VirtualResources for TokenRequests {
    fn create(&self, request: VirtualRequest) -> Option<BoxFuture<'static, Result<Object, Status>>> {
        let target = &request.target;
        if &*target.resource.plural != "serviceaccounts" || &*target.subresource != "token" {
            return None;
        }
        let reply = token_request(&self.issuer, &*request.listers, &target.key(), &request.body, SystemClock.now());
        Some(Box::pin(std::future::ready(reply)))
    }
}
