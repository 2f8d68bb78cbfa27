//! Reviews and service-account tokens, answered by `auth`.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use troupe_api::{
    auth::{Attributes, Authenticator, Authorizer, Decision, reviews, tokens},
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
    fn answer(&self, request: VirtualRequest) -> Result<Object, Status> {
        let target = &request.target;
        if &*target.subresource == "token" {
            return tokens::token_request(&self.issuer, &*request.listers, &target.key(), &request.body, self.clock.now());
        }
        let allow_all: Arc<dyn Authorizer> = Arc::new(AllowAll);
        let authorizer = request.authorizer.unwrap_or(allow_all);
        reviews::evaluate(&target.resource.kind, request.body, &request.user, &*authorizer, &*self.authenticator)
    }

    fn serves(request: &VirtualRequest) -> bool {
        let target = &request.target;
        let token = &*target.resource.plural == "serviceaccounts" && &*target.subresource == "token";
        let group = &*target.resource.group;
        let review = matches!(group, "authentication.k8s.io" | "authorization.k8s.io") && !target.resource.verbs.contains(&Verb::Get);
        token || review
    }
}

impl VirtualResources for AuthResources {
    fn create(&self, request: VirtualRequest) -> Option<BoxFuture<'static, Result<Object, Status>>> {
        AuthResources::serves(&request).then(|| std::future::ready(self.answer(request)).boxed())
    }
}
