//! Asks the authorizer and words its refusals as upstream does.

use crate::{
    auth::{Attributes, Authorizer, Decision},
    meta::GroupResource,
    service::UserInfo,
    status::{Reason, Status},
};

/// Checks that `user` may do what `attributes` say.
///
/// # Errors
/// 403 with upstream's text.
pub fn authorize(authorizer: &dyn Authorizer, user: &UserInfo, attributes: &Attributes<'_>) -> Result<(), Status> {
    match authorizer.authorize(user, attributes) {
        Decision::Allow => Ok(()),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => Err(forbidden(user, attributes, &reason)),
    }
}

/// The 403 of a refused request; `reason` may be empty.
pub fn forbidden(user: &UserInfo, attributes: &Attributes<'_>, reason: &str) -> Status {
    let mut why = sanitized(&refusal(user, attributes));
    if !reason.is_empty() {
        why = format!("{why}: {reason}");
    }
    if attributes.path.is_some() {
        return Status::new(403, Reason::Forbidden, format!("forbidden: {why}")).with_causes(Vec::new());
    }
    Status::forbidden(&GroupResource::new(attributes.group, attributes.resource), attributes.name, why)
}

fn refusal(user: &UserInfo, attributes: &Attributes<'_>) -> String {
    let (name, verb, group) = (&user.name, attributes.verb, attributes.group);
    if let Some(path) = attributes.path {
        return format!("User {name:?} cannot {verb} path {path:?}");
    }
    let resource = match attributes.subresource {
        "" => attributes.resource.to_owned(),
        subresource => format!("{}/{subresource}", attributes.resource),
    };
    let scope = match attributes.namespace {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    format!("User {name:?} cannot {verb} resource {resource:?} in API group {group:?} {scope}")
}

/// Replies must not look like HTML.
fn sanitized(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_read_as_upstream_writes_them() {
        let bob = UserInfo { name: "bob".into(), ..UserInfo::default() };
        let pods = Attributes { verb: "get", resource: "pods", subresource: "log", namespace: "ns", name: "p", ..Attributes::default() };
        assert_eq!(
            forbidden(&bob, &pods, "").message,
            "pods \"p\" is forbidden: User \"bob\" cannot get resource \"pods/log\" in API group \"\" in the namespace \"ns\""
        );
        let nodes = Attributes { verb: "list", resource: "nodes", ..Attributes::default() };
        assert_eq!(
            forbidden(&bob, &nodes, "no").message,
            "nodes is forbidden: User \"bob\" cannot list resource \"nodes\" in API group \"\" at the cluster scope: no"
        );
        let path = Attributes { verb: "get", path: Some("/metrics"), ..Attributes::default() };
        assert_eq!(forbidden(&bob, &path, "").message, "forbidden: User \"bob\" cannot get path \"/metrics\"");
    }
}
