//! Reviews and service-account tokens, answered by `auth`.

use std::sync::{Arc, LazyLock};

use futures::{FutureExt, future::BoxFuture};
use tokio::runtime::Handle;
use troupe_api::{
    aside::{self, places::Places},
    auth::{Attributes, Authenticator, Authorizer, Decision, groups::holder, reviews, tokens},
    meta::{Clock, Object},
    service::{UserInfo, Verb},
    status::Status,
};
use troupe_api_server::authorization::{BlockingAuthenticator, BlockingAuthorizer};

use super::{VirtualRequest, VirtualResources};

/// Reviews that wait for others at one time, each on a thread that long work of everybody needs as well; users have turns.
const MOST_WAITING: u32 = 16;
static WAITING: LazyLock<Places> = LazyLock::new(|| Places::new(MOST_WAITING));

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
        let VirtualRequest { target, body, listers, notices, .. } = request;
        let (issuer, now) = (self.issuer.clone(), self.clock.now());
        let work = tokens::work(&*listers, &target.key(), &body);
        if let Some(signer) = issuer.signer().cloned() {
            let unsigned = aside::compute(work, move || tokens::unsigned_token(&issuer, &*listers, &target.key(), &body, now, &notices));
            return signed_elsewhere(unsigned, signer).boxed();
        }
        aside::compute(work, move || tokens::token_request(&issuer, &*listers, &target.key(), &body, now, &notices)).boxed()
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

/// The answer to a request for a token that another process signs.
async fn signed_elsewhere(
    unsigned: impl Future<Output = Result<tokens::UnsignedToken, Status>>,
    signer: Arc<dyn tokens::TokenSigner>,
) -> Result<Object, Status> {
    let unsigned = unsigned.await?;
    let token = signer.sign(unsigned.claims.clone()).await;
    let token = token.map_err(|why| Status::internal(format!("failed to generate token: {why}")))?;
    Ok(unsigned.answer(&token))
}

/// The same where others are asked: whoever evaluates waits for them, on a thread where that is no harm.
async fn asked(
    kind: Arc<str>,
    user: Arc<UserInfo>,
    body: Object,
    authorizer: Arc<dyn Authorizer>,
    authenticator: Arc<dyn Authenticator>,
) -> Result<Object, Status> {
    let behalf: Arc<str> = holder(&user).into();
    let place = WAITING.take(&behalf, 1).await;
    let home = Handle::current();
    let (authorizer, authenticator) = (BlockingAuthorizer::new(authorizer, home.clone()), BlockingAuthenticator::new(authenticator, home));
    let evaluating = tokio::task::spawn_blocking(move || {
        let _place = place;
        reviews::evaluate(&kind, body, &user, &authorizer, &authenticator)
    });
    evaluating.await.map_err(|error| Status::internal(format!("the review broke: {error}")))?
}

impl VirtualResources for AuthResources {
    fn warnings(&self, request: &VirtualRequest) -> Option<String> {
        let is_token = AuthResources::serves(request) && &*request.target.subresource == "token";
        is_token.then(|| tokens::shortened(&self.issuer, &request.body)).flatten()
    }

    fn create(&self, request: VirtualRequest) -> Option<BoxFuture<'static, Result<Object, Status>>> {
        if !AuthResources::serves(&request) {
            return None;
        }
        let is_token = &*request.target.subresource == "token";
        Some(if is_token { self.token(request) } else { self.review(request) })
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU32, Ordering},
        time::Duration,
    };

    use serde_json::json;
    use tokio::sync::Semaphore;

    use super::*;

    /// An authorizer that asks somebody who does not answer yet.
    struct Hangs {
        begun: AtomicU32,
        answers: Semaphore,
    }

    impl Authorizer for Hangs {
        fn authorize(&self, _user: &UserInfo, _attributes: &Attributes<'_>) -> Decision {
            Decision::NoOpinion(String::new())
        }

        fn decide<'a>(&'a self, _user: &'a UserInfo, _attributes: &'a Attributes<'a>) -> Option<BoxFuture<'a, Decision>> {
            self.begun.fetch_add(1, Ordering::SeqCst);
            Some(Box::pin(async { if self.answers.acquire().await.is_ok() { Decision::Allow } else { Decision::Deny(String::new()) } }))
        }

        fn asks(&self) -> bool {
            true
        }
    }

    struct Nobody;

    impl Authenticator for Nobody {
        fn authenticate(&self, _credentials: &troupe_api::auth::Credentials<'_>) -> Result<Option<UserInfo>, Status> {
            Ok(None)
        }
    }

    #[tokio::test]
    async fn reviews_that_wait_leave_threads_to_others() {
        let hangs = Arc::new(Hangs { begun: AtomicU32::new(0), answers: Semaphore::new(0) });
        let user = Arc::new(UserInfo { name: "ann".into(), ..UserInfo::default() });
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": {"verb": "get", "resource": "pods", "namespace": "default"}}});
        let review = Object::from_value(review).expect("an object");
        let kind: Arc<str> = "SelfSubjectAccessReview".into();
        let asked = || tokio::spawn(asked(kind.clone(), user.clone(), review.clone(), hangs.clone(), Arc::new(Nobody)));
        let reviews: Vec<_> = (0..100).map(|_| asked()).collect();
        while hangs.begun.load(Ordering::SeqCst) < MOST_WAITING {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(hangs.begun.load(Ordering::SeqCst), MOST_WAITING, "the others have no thread");
        hangs.answers.add_permits(1);
        for review in reviews {
            let answered = review.await.expect("ends").expect("is answered");
            assert_eq!(answered.get(&["status", "allowed"]), Some(&json!(true)));
        }
    }
}
