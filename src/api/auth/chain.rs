//! Chains: authenticators asked one after another, authorizers likewise, and who a request without credentials is.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::{
    Attributes, Authenticator, Authorizer, Credentials, Decision, TokenOwner, UserRules, decide,
    groups::{ALL_AUTHENTICATED, ALL_UNAUTHENTICATED, ANONYMOUS, MASTERS, anonymous},
    identify,
    rbac::Resolver,
};
use crate::{
    service::UserInfo,
    status::{Status, aggregate},
};

/// Authenticators in order; the first that knows the caller wins, else the caller is anonymous.
pub struct AuthenticatorChain {
    links: Vec<Arc<dyn Authenticator>>,
    anonymous: bool,
    asks: bool,
}

impl AuthenticatorChain {
    /// `anonymous` says whether requests without credentials are let in as [`ANONYMOUS`].
    pub fn new(links: Vec<Arc<dyn Authenticator>>, anonymous: bool) -> Self {
        AuthenticatorChain { asks: links.iter().any(|link| link.asks()), links, anonymous }
    }

    /// Nobody knows the caller.
    fn unknown(&self, credentials: &Credentials<'_>, refusal: Option<Status>) -> Result<Option<UserInfo>, Status> {
        match refusal {
            Some(status) => Err(status),
            None if self.anonymous && credentials.bearer.is_none() => Ok(Some(anonymous())),
            None => Err(Status::unauthorized()),
        }
    }
}

impl Authenticator for AuthenticatorChain {
    /// Never `Ok(None)`: the answer is a user or 401. A credential that nobody accepts is not taken for none.
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<UserInfo>, Status> {
        let mut refusal = None;
        for link in &self.links {
            match link.authenticate(credentials) {
                Ok(Some(user)) => return Ok(Some(in_authenticated(user))),
                Ok(None) => {}
                Err(status) => refusal = Some(status),
            }
        }
        self.unknown(credentials, refusal)
    }

    fn ask<'a>(&'a self, credentials: &'a Credentials<'a>) -> Option<BoxFuture<'a, Result<Option<UserInfo>, Status>>> {
        if !self.asks {
            return None;
        }
        Some(Box::pin(async move {
            let mut refusal = None;
            for link in &self.links {
                match identify(&**link, credentials).await {
                    Ok(Some(user)) => return Ok(Some(in_authenticated(user))),
                    Ok(None) => {}
                    Err(status) => refusal = Some(status),
                }
            }
            self.unknown(credentials, refusal)
        }))
    }

    fn ask_review<'a>(&'a self, token: &'a str, audiences: &'a [String]) -> Option<BoxFuture<'a, Result<Option<TokenOwner>, String>>> {
        if !self.asks {
            return None;
        }
        Some(Box::pin(async move {
            let mut refusals = Vec::new();
            for link in &self.links {
                let reviewed = match link.ask_review(token, audiences) {
                    Some(asking) => asking.await,
                    None => link.review_token(token, audiences),
                };
                match reviewed {
                    Ok(Some(owner)) => return Ok(Some(TokenOwner { user: in_authenticated(owner.user), audiences: owner.audiences })),
                    Ok(None) => {}
                    Err(refusal) => refusals.push(refusal),
                }
            }
            if refusals.is_empty() { Ok(None) } else { Err(aggregate(&refusals)) }
        }))
    }

    fn asks(&self) -> bool {
        self.asks
    }

    fn review_token(&self, token: &str, audiences: &[String]) -> Result<Option<TokenOwner>, String> {
        let mut refusals = Vec::new();
        for link in &self.links {
            match link.review_token(token, audiences) {
                Ok(Some(owner)) => return Ok(Some(TokenOwner { user: in_authenticated(owner.user), audiences: owner.audiences })),
                Ok(None) => {}
                Err(refusal) => refusals.push(refusal),
            }
        }
        if refusals.is_empty() { Ok(None) } else { Err(aggregate(&refusals)) }
    }
}

/// Adds the group of all authenticated users, unless the user is in it or anonymous.
fn in_authenticated(mut user: UserInfo) -> UserInfo {
    let placed = user.groups.iter().any(|group| group == ALL_AUTHENTICATED || group == ALL_UNAUTHENTICATED);
    if !placed && user.name != ANONYMOUS {
        user.groups.push(ALL_AUTHENTICATED.into());
    }
    user
}

/// Allows members of [`MASTERS`] everything, without looking at any policy.
#[derive(Clone, Copy, Debug, Default)]
pub struct PrivilegedGroups;

impl Authorizer for PrivilegedGroups {
    fn authorize(&self, user: &UserInfo, _attributes: &Attributes<'_>) -> Decision {
        if user.groups.iter().any(|group| group == MASTERS) { Decision::Allow } else { Decision::NoOpinion(String::new()) }
    }

    fn rules_for(&self, _user: &UserInfo, _namespace: &str) -> UserRules {
        UserRules::default()
    }
}

/// Authorizers in order; the first with an opinion decides, and nobody's opinion denies.
pub struct AuthorizerChain {
    links: Vec<Arc<dyn Authorizer>>,
    asks: bool,
}

impl AuthorizerChain {
    pub fn new(links: Vec<Arc<dyn Authorizer>>) -> Self {
        AuthorizerChain { asks: links.iter().any(|link| link.asks()), links }
    }
}

impl Authorizer for AuthorizerChain {
    fn authorize(&self, user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
        let mut reasons = Vec::new();
        for link in &self.links {
            match link.authorize(user, attributes) {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return decided,
            }
        }
        Decision::NoOpinion(reasons.join("\n"))
    }

    fn decide<'a>(&'a self, user: &'a UserInfo, attributes: &'a Attributes<'a>) -> Option<BoxFuture<'a, Decision>> {
        if !self.asks {
            return None;
        }
        Some(Box::pin(async move {
            let mut reasons = Vec::new();
            for link in &self.links {
                match decide(&**link, user, attributes).await {
                    Decision::NoOpinion(reason) if reason.is_empty() => {}
                    Decision::NoOpinion(reason) => reasons.push(reason),
                    decided => return decided,
                }
            }
            Decision::NoOpinion(reasons.join("\n"))
        }))
    }

    fn asks(&self) -> bool {
        self.asks
    }

    fn explain(&self, user: &UserInfo, attributes: &Attributes<'_>) -> (Decision, String) {
        let mut reasons = Vec::new();
        for link in &self.links {
            let (decision, reason) = link.explain(user, attributes);
            if !matches!(decision, Decision::NoOpinion(_)) {
                return (decision, reason);
            }
            if !reason.is_empty() {
                reasons.push(reason);
            }
        }
        let reason = reasons.join("\n");
        (Decision::NoOpinion(reason.clone()), reason)
    }

    fn rbac(&self) -> Option<&Resolver> {
        self.links.iter().find_map(|link| link.rbac())
    }

    fn rules_for(&self, user: &UserInfo, namespace: &str) -> UserRules {
        let mut all = UserRules::default();
        for link in &self.links {
            let more = link.rules_for(user, namespace);
            all.rules.extend(more.rules);
            all.errors.extend(more.errors);
            all.incomplete |= more.incomplete;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Says(Result<Option<&'static str>, ()>);

    impl Authenticator for Says {
        fn authenticate(&self, _credentials: &Credentials<'_>) -> Result<Option<UserInfo>, Status> {
            let user = |name: &str| UserInfo { name: name.into(), ..UserInfo::default() };
            self.0.map(|name| name.map(user)).map_err(|()| Status::unauthorized())
        }
    }

    struct Thinks(Decision);

    impl Authorizer for Thinks {
        fn authorize(&self, _user: &UserInfo, _attributes: &Attributes<'_>) -> Decision {
            self.0.clone()
        }
    }

    fn chain(links: Vec<Says>) -> AuthenticatorChain {
        AuthenticatorChain::new(links.into_iter().map(|link| Arc::new(link) as _).collect(), true)
    }

    #[test]
    fn the_first_that_knows_the_caller_wins_and_the_caller_counts_as_authenticated() {
        let user = chain(vec![Says(Err(())), Says(Ok(Some("a"))), Says(Ok(Some("b")))]).authenticate(&Credentials::default());
        let user = user.expect("authenticates").expect("a user");
        assert_eq!((user.name.as_str(), user.groups), ("a", vec![ALL_AUTHENTICATED.to_owned()]));
    }

    #[test]
    fn no_credentials_are_anonymous_and_bad_ones_are_not() {
        let none = Credentials::default();
        let token = Credentials { bearer: Some("t"), ..none };
        assert_eq!(chain(vec![Says(Ok(None))]).authenticate(&none), Ok(Some(anonymous())));
        assert_eq!(chain(vec![Says(Ok(None))]).authenticate(&token).expect_err("unknown token").code, 401);
        assert_eq!(chain(vec![Says(Err(()))]).authenticate(&none).expect_err("bad credential").code, 401);
    }

    #[test]
    fn the_first_opinion_decides_and_reasons_pile_up_without_one() {
        let decide = |links: Vec<Decision>| {
            let links = links.into_iter().map(|decision| Arc::new(Thinks(decision)) as _).collect();
            AuthorizerChain::new(links).authorize(&UserInfo::default(), &Attributes::default())
        };
        let unsure = |why: &str| Decision::NoOpinion(why.into());
        assert_eq!(decide(vec![unsure("a"), Decision::Allow, Decision::Deny("no".into())]), Decision::Allow);
        assert_eq!(decide(vec![Decision::Deny("no".into()), Decision::Allow]), Decision::Deny("no".into()));
        assert_eq!(decide(vec![unsure("a"), unsure(""), unsure("b")]), unsure("a\nb"));
    }
}
