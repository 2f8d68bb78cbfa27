//! Reviews: objects that ask a question and are answered instead of stored.
//!
//! In: the object as posted, who posted it, the authorizer and authenticator. Out: the object with its status.

mod access;

#[cfg(test)]
mod tests;

use k8s_openapi::api::rbac::v1::PolicyRule;
use serde_json::{Map, Value, json};

use super::{Authenticator, Authorizer, rbac::rules::list};
use crate::{
    meta::{Object, time::format_time},
    service::UserInfo,
    status::Status,
};

/// Rules beyond this many bytes are left out of an answer, which says so.
pub const LONGEST_RULES: usize = 1 << 20;

/// Answers the review `object` of `kind`, which `user` posted. `namespace` is the request's, for local reviews.
///
/// # Errors
/// 400 or 422 when the question is not well put.
pub fn evaluate(
    kind: &str,
    object: Object,
    user: &UserInfo,
    authorizer: &dyn Authorizer,
    authenticator: &dyn Authenticator,
) -> Result<Object, Status> {
    match kind {
        "SelfSubjectAccessReview" => access::own(object, user, authorizer),
        "SubjectAccessReview" => access::any(object, authorizer),
        "LocalSubjectAccessReview" => access::local(object, authorizer),
        "SelfSubjectRulesReview" => rules(object, user, authorizer),
        "SelfSubjectReview" => Ok(who_am_i(object, user)),
        "TokenReview" => token(object, authenticator),
        other => Err(Status::bad_request(format!("{other} is no review"))),
    }
}

/// `authentication.k8s.io` UserInfo.
fn user_info(user: &UserInfo) -> Value {
    let mut info = Map::new();
    info.insert("username".into(), user.name.as_str().into());
    if !user.uid.is_empty() {
        info.insert("uid".into(), user.uid.as_str().into());
    }
    if !user.groups.is_empty() {
        info.insert("groups".into(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        info.insert("extra".into(), json!(user.extra));
    }
    Value::Object(info)
}

fn who_am_i(mut object: Object, user: &UserInfo) -> Object {
    object.set(&["metadata"], json!({"creationTimestamp": format_time(jiff::Timestamp::now())}));
    object.set(&["status"], json!({"userInfo": user_info(user)}));
    object
}

fn rules(mut object: Object, user: &UserInfo, authorizer: &dyn Authorizer) -> Result<Object, Status> {
    let namespace = object.str(&["spec", "namespace"]);
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let mut found = authorizer.rules_for(user, namespace);
    let mut resources = Vec::new();
    let mut urls = Vec::new();
    let mut length = 0;
    for rule in found.rules.iter().map(|rule| rule.policy()) {
        length += length_of(rule);
        if length > LONGEST_RULES {
            found.incomplete = true;
            found.errors.push(format!("the rules are longer than {LONGEST_RULES} bytes"));
            break;
        }
        if !list(&rule.resources).is_empty() {
            let mut entry = json!({"verbs": rule.verbs, "apiGroups": list(&rule.api_groups), "resources": list(&rule.resources)});
            if !list(&rule.resource_names).is_empty() {
                entry["resourceNames"] = json!(rule.resource_names);
            }
            resources.push(entry);
        }
        if !list(&rule.non_resource_urls).is_empty() {
            urls.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.non_resource_urls}));
        }
    }
    let mut status = json!({"resourceRules": resources, "nonResourceRules": urls, "incomplete": found.incomplete});
    if !found.errors.is_empty() {
        status["evaluationError"] = crate::status::aggregate(&found.errors).into();
    }
    // The answer is not what was sent, and nobody's.
    object.set(&["spec"], json!({}));
    object.remove(&["metadata", "managedFields"]);
    object.set(&["status"], status);
    Ok(object)
}

/// About how long a rule is in JSON.
fn length_of(rule: &PolicyRule) -> usize {
    let lists = [&rule.verbs[..], list(&rule.api_groups), list(&rule.resources), list(&rule.resource_names), list(&rule.non_resource_urls)];
    lists.into_iter().flatten().map(|word| word.len() + 3).sum::<usize>() + 64
}

fn token(mut object: Object, authenticator: &dyn Authenticator) -> Result<Object, Status> {
    let token = object.str(&["spec", "token"]);
    if token.is_empty() {
        return Err(Status::bad_request("token is required for TokenReview in authentication"));
    }
    let audiences = object.list(&["spec", "audiences"]).iter().filter_map(|audience| audience.as_str().map(str::to_owned)).collect::<Vec<_>>();
    let status = match authenticator.review_token(token, &audiences) {
        Ok(Some(owner)) => json!({"authenticated": true, "user": user_info(&owner.user), "audiences": owner.audiences}),
        Ok(None) => json!({"user": {}, "error": "invalid bearer token"}),
        Err(error) => json!({"user": {}, "error": error}),
    };
    object.set(&["status"], status);
    Ok(object)
}
