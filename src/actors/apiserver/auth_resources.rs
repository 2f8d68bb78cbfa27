//! Reviews and service-account tokens, answered by `auth`.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use tokio::runtime::Handle;
use troupe_api::{
    aside,
    auth::{Attributes, Authenticator, Authorizer, Decision, reviews, tokens},
    authorization::{BlockingAuthenticator, BlockingAuthorizer},
    meta::{Clock, Object},
    service::{UserInfo, Verb},
    status::Status,
};

use super::{VirtualRequest, VirtualResources};

/// Answers `authentication.k8s.io` and `authorization.k8s.io` reviews and `serviceaccounts/token`.
pub struct AuthResources {
    pub issuer: Arc<tokens::Issuer>,
    pub authenticator: Arc<dyn Authenticator>,
    pub clock: Arc<dyn Clock>,
}

/// Stands in where no authorizer is configured: everything is allowed.
struct AllowAll;

impl Authorizer for AllowAll {
    fn authorize(&self, _user: &UserInfo, _attributes: &Attributes<'_>) -> Decision {
        Decision::Allow
    }
}

impl AuthResources {
    fn token(&self, request: VirtualRequest) -> BoxFuture<'static, Result<Object, Status>> {
        let VirtualRequest { target, body, listers, .. } = request;
        let (issuer, now) = (self.issuer.clone(), self.clock.now());
        let work = tokens::work(&*listers, &target.key(), &body);
        aside::compute(work, move || tokens::token_request(&issuer, &*listers, &target.key(), &body, now)).boxed()
    }

    fn review(&self, request: VirtualRequest) -> BoxFuture<'static, Result<Object, Status>> {
        let VirtualRequest { user, target, body, authorizer, .. } = request;
        let authorizer = authorizer.unwrap_or_else(|| Arc::new(AllowAll));
        let authenticator = self.authenticator.clone();
        let kind = target.resource.kind.clone();
        // The answer to this one is as long as all rules of its user.
        let work = if &*kind == "SelfSubjectRulesReview" { reviews::LONGEST_RULES } else { 0 };
        if authorizer.asks() || authenticator.asks() {
            return asked(kind, user, body, authorizer, authenticator).boxed();
        }
        aside::compute(work, move || reviews::evaluate(&kind, body, &user, &*authorizer, &*authenticator)).boxed()
    }

    fn serves(request: &VirtualRequest) -> bool {
        let target = &request.target;
        let token = &*target.resource.plural == "serviceaccounts" && &*target.subresource == "token";
        let group = &*target.resource.group;
        let review = matches!(group, "authentication.k8s.io" | "authorization.k8s.io") && !target.resource.verbs.contains(&Verb::Get);
        token || review
    }
}

/// The same where others are asked: whoever evaluates waits for them, on a thread where that is no harm.
async fn asked(
    kind: Arc<str>,
    user: Arc<UserInfo>,
    body: Object,
    authorizer: Arc<dyn Authorizer>,
    authenticator: Arc<dyn Authenticator>,
) -> Result<Object, Status> {
    let home = Handle::current();
    let (authorizer, authenticator) = (BlockingAuthorizer::new(authorizer, home.clone()), BlockingAuthenticator::new(authenticator, home));
    let evaluated = tokio::task::spawn_blocking(move || reviews::evaluate(&kind, body, &user, &authorizer, &authenticator)).await;
    evaluated.map_err(|error| Status::internal(format!("the review broke: {error}")))?
}

impl VirtualResources for AuthResources {
    fn create(&self, request: VirtualRequest) -> Option<BoxFuture<'static, Result<Object, Status>>> {
        if !AuthResources::serves(&request) {
            return None;
        }
        let is_token = &*request.target.subresource == "token";
        Some(if is_token { self.token(request) } else { self.review(request) })
    }
}
