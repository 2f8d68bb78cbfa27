//! Impersonation: whether a caller may act as somebody else, and who that is then.
//!
//! Constrained impersonation is tried first: the caller needs `impersonate:MODE` on the identity and
//! `impersonate-on:MODE:VERB` on what it asks for. The plain verb `impersonate` on the identity allows everything.

use std::sync::Arc;

use actix_web::HttpRequest;
use troupe_api::{
    auth::{Attributes, Authorizer, forbidden, peer},
    features::{CONSTRAINED_IMPERSONATION, FeatureGates},
    meta::names,
    service::UserInfo,
    status::Status,
};

use super::{
    authorize::authorize,
    identity::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED},
    query::percent_decode,
};

const ACCOUNT_PREFIX: &str = "system:serviceaccount:";
const NODE_PREFIX: &str = "system:node:";
const EXTRA_PREFIX: &str = "impersonate-extra-";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// Who a caller acts as.
#[derive(Clone, Debug, PartialEq)]
pub struct Impersonated {
    pub user: Arc<UserInfo>,
    /// The verb that allowed it; empty for the plain one.
    pub constraint: &'static str,
}

/// The ways to impersonate, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
    Legacy,
}

impl Mode {
    const ALL: [Mode; 5] = [Mode::AssociatedNode, Mode::ArbitraryNode, Mode::ServiceAccount, Mode::UserInfo, Mode::Legacy];

    /// The verb on the identity.
    fn verb(self) -> &'static str {
        match self {
            Mode::AssociatedNode => "impersonate:associated-node",
            Mode::ArbitraryNode => "impersonate:arbitrary-node",
            Mode::ServiceAccount => "impersonate:serviceaccount",
            Mode::UserInfo => "impersonate:user-info",
            Mode::Legacy => "impersonate",
        }
    }

    /// The verb on what is asked for.
    fn verb_on(self, verb: &str) -> Option<String> {
        let (_, mode) = self.verb().split_once(':')?;
        Some(format!("impersonate-on:{mode}:{verb}"))
    }

    fn applies(self, wanted: &UserInfo, caller: &UserInfo) -> bool {
        let only_name = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let node = wanted.name.strip_prefix(NODE_PREFIX).filter(|node| !node.is_empty());
        match self {
            Mode::AssociatedNode => only_name && node.is_some_and(|node| runs_on(caller, node)),
            Mode::ArbitraryNode => only_name && node.is_some(),
            Mode::ServiceAccount => only_name && account(&wanted.name).is_some(),
            Mode::UserInfo => node.is_none() && account(&wanted.name).is_none(),
            Mode::Legacy => true,
        }
    }
}

/// Namespace and name of a service account, where a user name is that of one that there can be.
fn account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(ACCOUNT_PREFIX)?.split_once(':')?;
    (names::label(namespace, false).is_empty() && names::subdomain(name, false).is_empty()).then_some((namespace, name))
}

/// Whether the caller is a service account whose token is bound to this node.
fn runs_on(caller: &UserInfo, node: &str) -> bool {
    account(&caller.name).is_some() && caller.extra.get(NODE_NAME).is_some_and(|nodes| matches!(nodes.as_slice(), [only] if only == node))
}

/// Applies the `Impersonate-*` headers; `None` without any. `asked` is what the request wants to do.
///
/// # Errors
/// 403 unless the caller may impersonate all it asks for; 400 for groups without a user.
pub async fn impersonate(
    request: &HttpRequest,
    caller: &UserInfo,
    asked: &Attributes<'_>,
    authorizer: &dyn Authorizer,
    features: &FeatureGates,
) -> Result<Option<Impersonated>, Status> {
    // Names that are empty are as if they were not there.
    let says =
        |name: &str, value: &[u8]| name.starts_with("impersonate-") && !(value.is_empty() && matches!(name, "impersonate-user" | "impersonate-uid"));
    let mut headers = request.headers().iter().filter(|(name, value)| says(name.as_str(), value.as_bytes())).peekable();
    if headers.peek().is_none() {
        return Ok(None);
    }
    let headers: Vec<(String, String)> =
        headers.map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())).collect();
    let modes = if features.is_on(CONSTRAINED_IMPERSONATION) { &Mode::ALL[..] } else { &[Mode::Legacy] };
    decide(modes, &wanted(&headers)?, caller, asked, authorizer).await.map(Some)
}

/// The identity that the headers spell. Header names are lower case.
fn wanted(headers: &[(String, String)]) -> Result<UserInfo, Status> {
    let values = |name: &'static str| headers.iter().filter(move |(header, _)| header == name).map(|(_, value)| value.clone());
    let mut user = UserInfo {
        name: values("impersonate-user").next().unwrap_or_default(),
        uid: values("impersonate-uid").next().unwrap_or_default(),
        groups: values("impersonate-group").collect(),
        ..UserInfo::default()
    };
    for (header, value) in headers {
        if let Some(key) = header.strip_prefix(EXTRA_PREFIX) {
            user.extra.entry(percent_decode(key).into_owned()).or_default().push(value.clone());
        }
    }
    if user.name.is_empty() {
        return Err(Status::bad_request("requested groups, extra or uid without impersonating a user name"));
    }
    Ok(user)
}

/// The first of `modes` that allows it; if none does, the first refusal.
async fn decide(
    modes: &[Mode],
    wanted: &UserInfo,
    caller: &UserInfo,
    asked: &Attributes<'_>,
    authorizer: &dyn Authorizer,
) -> Result<Impersonated, Status> {
    let mut refusal = None;
    for mode in modes.iter().copied().filter(|mode| mode.applies(wanted, caller)) {
        match (Check { mode, caller, authorizer }).check(wanted, asked).await {
            Ok(user) => {
                let constraint = if mode == Mode::Legacy { "" } else { mode.verb() };
                return Ok(Impersonated { user: Arc::new(user), constraint });
            }
            Err(status) => refusal = refusal.or(Some(status)),
        }
    }
    // The last mode applies to everybody.
    Err(refusal.unwrap_or_else(|| Status::internal("all impersonation modes failed")))
}

/// One mode's questions to the authorizer.
struct Check<'a> {
    mode: Mode,
    caller: &'a UserInfo,
    authorizer: &'a dyn Authorizer,
}

impl Check<'_> {
    async fn check(&self, wanted: &UserInfo, asked: &Attributes<'_>) -> Result<UserInfo, Status> {
        if let Some(verb) = self.mode.verb_on(asked.verb) {
            authorize(self.authorizer, self.caller, &Attributes { verb: &verb, ..asked.clone() }).await?;
        }
        let mut user = wanted.clone();
        self.name(wanted, &mut user).await?;
        if !wanted.uid.is_empty() {
            self.ask(&Attributes { group: AUTHENTICATION, resource: "uids", name: &wanted.uid, ..Attributes::default() }).await?;
        }
        self.groups(&wanted.groups).await?;
        self.extra(wanted).await?;
        // Where a connection comes from nobody says of themselves.
        peer::note(&mut user, None);
        let everybody = if user.name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
        let placed = |group: &String| group == everybody || user.name != ANONYMOUS && group == UNAUTHENTICATED;
        if !user.groups.iter().any(placed) {
            user.groups.push(everybody.to_owned());
        }
        Ok(user)
    }

    async fn ask(&self, attributes: &Attributes<'_>) -> Result<(), Status> {
        authorize(self.authorizer, self.caller, &self.about(attributes)).await
    }

    fn about<'a>(&self, attributes: &Attributes<'a>) -> Attributes<'a> {
        Attributes { verb: self.mode.verb(), version: "v1", ..attributes.clone() }
    }

    fn is_constrained(&self) -> bool {
        self.mode != Mode::Legacy
    }

    /// Users and groups are the core group's for the plain verb.
    fn group(&self) -> &'static str {
        if self.is_constrained() { AUTHENTICATION } else { "" }
    }

    async fn name(&self, wanted: &UserInfo, user: &mut UserInfo) -> Result<(), Status> {
        let mut attributes = Attributes { group: self.group(), resource: "users", name: &wanted.name, ..Attributes::default() };
        if let Some(node) = wanted.name.strip_prefix(NODE_PREFIX).filter(|_| self.is_constrained()) {
            attributes.resource = "nodes";
            // Whoever may be the node it runs on may be any such node.
            attributes.name = if self.mode == Mode::AssociatedNode { "*" } else { node };
            user.groups = vec!["system:nodes".into()];
        }
        if let Some((namespace, name)) = account(&wanted.name) {
            attributes = Attributes { resource: "serviceaccounts", namespace, name, ..attributes };
            if wanted.groups.is_empty() {
                user.groups = vec!["system:serviceaccounts".into(), format!("system:serviceaccounts:{namespace}")];
            }
        }
        self.ask(&attributes).await
    }

    async fn groups(&self, groups: &[String]) -> Result<(), Status> {
        let attributes = Attributes { group: self.group(), resource: "groups", ..Attributes::default() };
        for group in groups {
            let named = Attributes { name: group, ..attributes.clone() };
            if self.is_constrained() && group.is_empty() {
                return Err(self.refuse(&named, "impersonating the empty string group is not allowed"));
            }
            if self.is_constrained() && group == "system:masters" {
                return Err(self.refuse(&named, "impersonating the system:masters group is not allowed"));
            }
        }
        for group in groups {
            self.ask(&Attributes { name: group, ..attributes.clone() }).await?;
        }
        Ok(())
    }

    async fn extra(&self, wanted: &UserInfo) -> Result<(), Status> {
        let attributes = Attributes { group: AUTHENTICATION, resource: "userextras", ..Attributes::default() };
        for (key, values) in &wanted.extra {
            if let Some(why) = extra_error(key, values).filter(|_| self.is_constrained()) {
                return Err(self.refuse(&attributes, &why));
            }
            for value in values {
                self.ask(&Attributes { subresource: key, name: value, ..attributes.clone() }).await?;
            }
        }
        Ok(())
    }

    fn refuse(&self, attributes: &Attributes<'_>, why: &str) -> Status {
        forbidden(self.caller, &self.about(attributes), why)
    }
}

/// What is wrong with an extra field for constrained impersonation.
fn extra_error(key: &str, values: &[String]) -> Option<String> {
    if key.is_empty() {
        return Some("impersonating the empty string key in extra is not allowed".into());
    }
    let prefixed = key.split_once('/').is_some_and(|(domain, path)| names::subdomain(domain, false).is_empty() && !path.is_empty());
    if !prefixed {
        return Some(format!(
            "impersonating an invalid key in extra is not allowed: {key:?} must be a domain-prefixed path (such as \"acme.io/foo\")"
        ));
    }
    if values.iter().any(String::is_empty) {
        return Some("impersonating the empty string value in extra is not allowed".into());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use troupe_api::auth::Decision;

    /// Allows exactly these `verb group/resource/subresource name`.
    struct Only(&'static [&'static str]);

    impl Authorizer for Only {
        fn authorize(&self, _user: &UserInfo, attributes: &Attributes<'_>) -> Decision {
            let Attributes { verb, group, resource, subresource, name, .. } = attributes;
            let slash = if subresource.is_empty() { "" } else { "/" };
            let question = format!("{verb} {group}/{resource}{slash}{subresource} {name}");
            if self.0.iter().any(|rule| *rule == question.trim_end()) { Decision::Allow } else { Decision::NoOpinion(String::new()) }
        }
    }

    fn headers(pairs: &[(&str, &str)]) -> UserInfo {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        wanted(&pairs).expect("well formed")
    }

    fn asked() -> Attributes<'static> {
        Attributes { verb: "list", resource: "pods", version: "v1", ..Attributes::default() }
    }

    fn ann() -> UserInfo {
        UserInfo { name: "ann".into(), ..UserInfo::default() }
    }

    #[tokio::test]
    async fn the_plain_verb_is_asked_for_every_group_extra_and_uid() {
        let wanted =
            headers(&[("impersonate-user", "bob"), ("impersonate-group", "g"), ("impersonate-extra-acme.com%2fx", "1"), ("impersonate-uid", "u")]);
        const ALL: &[&str] = &[
            "impersonate /users bob",
            "impersonate /groups g",
            "impersonate authentication.k8s.io/userextras/acme.com/x 1",
            "impersonate authentication.k8s.io/uids u",
        ];
        let allowed = decide(&Mode::ALL, &wanted, &ann(), &asked(), &Only(ALL)).await.expect("is allowed");
        assert_eq!((allowed.user.uid.as_str(), &allowed.user.groups), ("u", &vec!["g".to_owned(), "system:authenticated".into()]));
        assert_eq!(decide(&Mode::ALL, &wanted, &ann(), &asked(), &Only(&ALL[..3])).await.expect_err("the uid is missing").code, 403);
    }

    #[tokio::test]
    async fn impersonating_a_service_account_brings_its_groups() {
        let wanted = headers(&[("impersonate-user", "system:serviceaccount:a:b")]);
        let user = decide(&Mode::ALL, &wanted, &ann(), &asked(), &Only(&["impersonate /serviceaccounts b"])).await.expect("is allowed");
        assert_eq!(user.user.groups, ["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"]);
        for name in
            ["system:serviceaccount:a:b:kube-system:c", "system:serviceaccount:a:", "system:serviceaccount:a:B/../c", "system:serviceaccount:a:b,c"]
        {
            let wanted = headers(&[("impersonate-user", name)]);
            decide(&Mode::ALL, &wanted, &ann(), &asked(), &Only(&["impersonate /serviceaccounts *"]))
                .await
                .map(drop)
                .expect_err("is no account's name");
            assert_eq!(account(name), None);
        }
        assert_eq!(user.constraint, "");
    }

    #[tokio::test]
    async fn constrained_impersonation_needs_the_identity_and_the_action() {
        const IDENTITY: &str = "impersonate:user-info authentication.k8s.io/users bob";
        const ACTION: &str = "impersonate-on:user-info:list /pods";
        let wanted = headers(&[("impersonate-user", "bob")]);
        let allowed = decide(&Mode::ALL, &wanted, &ann(), &asked(), &Only(&[IDENTITY, ACTION])).await.expect("is allowed");
        assert_eq!((allowed.constraint, allowed.user.name.as_str()), ("impersonate:user-info", "bob"));
        let plain = decide(&[Mode::Legacy], &wanted, &ann(), &asked(), &Only(&[IDENTITY, ACTION])).await.expect_err("the feature is off");
        assert!(plain.message.contains("User \"ann\" cannot impersonate resource \"users\""), "{plain}");
        let refused = decide(&Mode::ALL, &wanted, &ann(), &asked(), &Only(&[IDENTITY])).await.expect_err("is refused");
        assert!(refused.message.contains("User \"ann\" cannot impersonate-on:user-info:list resource \"pods\""), "{refused}");
        let masters = headers(&[("impersonate-user", "bob"), ("impersonate-group", "system:masters")]);
        let refused = decide(&Mode::ALL, &masters, &ann(), &asked(), &Only(&[IDENTITY, ACTION])).await.expect_err("is refused");
        assert!(refused.message.ends_with("impersonating the system:masters group is not allowed"), "{refused}");
    }

    #[tokio::test]
    async fn an_agent_may_act_as_the_node_it_runs_on() {
        let agent = |node: &str| UserInfo {
            name: "system:serviceaccount:kube-system:agent".into(),
            extra: [(NODE_NAME.to_owned(), vec![node.to_owned()])].into(),
            ..UserInfo::default()
        };
        let wanted = headers(&[("impersonate-user", "system:node:n1")]);
        let only = Only(&["impersonate:associated-node authentication.k8s.io/nodes *", "impersonate-on:associated-node:list /pods"]);
        let allowed = decide(&Mode::ALL, &wanted, &agent("n1"), &asked(), &only).await.expect("is allowed");
        assert_eq!(allowed.user.groups, ["system:nodes", "system:authenticated"]);
        assert_eq!(decide(&Mode::ALL, &wanted, &agent("n2"), &asked(), &only).await.expect_err("runs elsewhere").code, 403);
    }

    /// Knows of nothing that speaks against anybody, and denies what it is asked.
    struct Asks;

    impl Authorizer for Asks {
        fn authorize(&self, _user: &UserInfo, _attributes: &Attributes<'_>) -> Decision {
            Decision::Allow
        }

        fn decide<'a>(&'a self, _user: &'a UserInfo, _attributes: &'a Attributes<'a>) -> Option<futures::future::BoxFuture<'a, Decision>> {
            Some(Box::pin(std::future::ready(Decision::Deny("no".into()))))
        }
    }

    #[tokio::test]
    async fn whoever_asks_others_is_waited_for() {
        let wanted = headers(&[("impersonate-user", "bob")]);
        assert_eq!(decide(&Mode::ALL, &wanted, &ann(), &asked(), &Asks).await.expect_err("is denied").code, 403);
    }

    #[tokio::test]
    async fn nobody_says_where_a_node_connects_from() {
        const HEADER: &str = "impersonate-extra-authentication.troupe.dev%2fpeer-address";
        let wanted = headers(&[("impersonate-user", "system:node:n1"), ("impersonate-group", "system:nodes"), (HEADER, "in-process")]);
        assert_eq!(wanted.extra.keys().collect::<Vec<_>>(), [peer::PEER_ADDRESS], "it is spelled so");
        const ALL: &[&str] = &[
            "impersonate /users system:node:n1",
            "impersonate /groups system:nodes",
            "impersonate authentication.k8s.io/userextras/authentication.troupe.dev/peer-address in-process",
        ];
        let allowed = decide(&Mode::ALL, &wanted, &ann(), &asked(), &Only(ALL)).await.expect("is allowed");
        assert_eq!(peer::Peer::of(Some(&allowed.user.extra)), peer::Peer::Unknown);
    }

    #[test]
    fn groups_without_a_user_are_a_mistake() {
        assert_eq!(wanted(&[("impersonate-group".into(), "g".into())]).expect_err("is refused").code, 400);
    }
}
