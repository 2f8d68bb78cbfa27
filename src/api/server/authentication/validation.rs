//! What is wrong with an `AuthenticationConfiguration`, in upstream's words. Expressions are compiled as they are used later.

use std::collections::BTreeSet;

use serde_json::json;
use troupe_api::{auth::tls, meta::names, status::FieldError};

use super::{
    config::{AuthenticationConfiguration, Issuer, Jwt, Mapping},
    oidc::mapping::{Sees, compile},
};

const MOST: usize = 64;

/// Everything that is wrong.
pub fn faults(configuration: &AuthenticationConfiguration, own: &[String]) -> Vec<FieldError> {
    if configuration.jwt.len() > MOST {
        return vec![FieldError::too_many("jwt", configuration.jwt.len(), MOST)];
    }
    let (mut errors, mut issuers, mut discoveries) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for (index, jwt) in configuration.jwt.iter().enumerate() {
        let field = format!("jwt[{index}]");
        errors.extend(issuer_faults(&jwt.issuer, &format!("{field}.issuer"), own));
        errors.extend(rule_faults(jwt, &field));
        errors.extend(mapping_faults(jwt, &format!("{field}.claimMappings")));
        errors.extend(user_rule_faults(jwt, &field));
        if !issuers.insert(&jwt.issuer.url) {
            errors.push(FieldError::duplicate(format!("{field}.issuer.url"), jwt.issuer.url.as_str()));
        }
        if let Some(discovery) = jwt.issuer.discovery_url.as_ref().filter(|url| !url.is_empty())
            && !discoveries.insert(discovery)
        {
            errors.push(FieldError::duplicate(format!("{field}.issuer.discoveryURL"), discovery.as_str()));
        }
    }
    if let Some(anonymous) = configuration.anonymous.as_ref().filter(|anonymous| !anonymous.enabled && !anonymous.conditions.is_empty()) {
        let paths: Vec<&str> = anonymous.conditions.iter().map(|condition| condition.path.as_str()).collect();
        errors.push(FieldError::invalid("anonymous.conditions", json!(paths), "enabled should be set to true when conditions are defined"));
    }
    errors
}

fn issuer_faults(issuer: &Issuer, field: &str, own: &[String]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let url = format!("{field}.url");
    if issuer.url.is_empty() {
        errors.push(FieldError::required(url, ""));
    } else {
        errors.extend(url_faults(&issuer.url, &url, own));
    }
    if let Some(discovery) = issuer.discovery_url.as_deref().filter(|url| !url.is_empty()) {
        let field = format!("{field}.discoveryURL");
        if !issuer.url.is_empty() && issuer.url.trim_end_matches('/') == discovery.trim_end_matches('/') {
            errors.push(FieldError::invalid(&field, discovery, "discoveryURL must be different from URL"));
        }
        errors.extend(url_faults(discovery, &field, &[]));
    }
    errors.extend(audience_faults(issuer, field));
    if !issuer.certificate_authority.is_empty() && tls::client_config(&issuer.certificate_authority, None).is_err() {
        let why = "data does not contain any valid RSA or ECDSA certificates";
        errors.push(FieldError::invalid(format!("{field}.certificateAuthority"), "<omitted>", why));
    }
    if !issuer.egress_selector_type.is_empty() {
        let why = "egress selectors are not part of this server";
        errors.push(FieldError::invalid(format!("{field}.egressSelectorType"), issuer.egress_selector_type.as_str(), why));
    }
    errors
}

fn url_faults(text: &str, field: &str, own: &[String]) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut invalid = |why: &str| errors.push(FieldError::invalid(field, text, why));
    if own.iter().any(|issuer| issuer == text) {
        invalid(&format!("URL must not overlap with disallowed issuers: [{}]", own.join(" ")));
    }
    let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if scheme != "https" {
        invalid("URL scheme must be https");
    }
    if authority.contains('@') {
        invalid("URL must not contain a username or password");
    }
    if text.split('#').next().is_some_and(|before| before.contains('?')) {
        invalid("URL must not contain a query");
    }
    if text.contains('#') {
        invalid("URL must not contain a fragment");
    }
    if authority.is_empty() || text.parse::<http::Uri>().is_err() {
        invalid("it is no URL");
    }
    errors
}

fn audience_faults(issuer: &Issuer, field: &str) -> Vec<FieldError> {
    let (audiences, policy) = (format!("{field}.audiences"), format!("{field}.audienceMatchPolicy"));
    if issuer.audiences.is_empty() {
        return vec![FieldError::required(&audiences, format!("at least one {audiences} is required"))];
    }
    let (mut errors, mut seen) = (Vec::new(), BTreeSet::new());
    for (index, audience) in issuer.audiences.iter().enumerate() {
        let field = format!("{audiences}[{index}]");
        if audience.is_empty() {
            errors.push(FieldError::required(&field, ""));
        }
        if !seen.insert(audience) {
            errors.push(FieldError::duplicate(&field, audience.as_str()));
        }
    }
    let given = issuer.audience_match_policy.as_str();
    if issuer.audiences.len() > 1 && given != "MatchAny" {
        errors.push(FieldError::invalid(policy, given, "audienceMatchPolicy must be MatchAny for multiple audiences"));
    } else if !matches!(given, "" | "MatchAny") {
        errors.push(FieldError::invalid(policy, given, "audienceMatchPolicy must be empty or MatchAny for single audience"));
    }
    errors
}

fn rule_faults(jwt: &Jwt, field: &str) -> Vec<FieldError> {
    let (mut errors, mut claims, mut expressions) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
    for (index, rule) in jwt.claim_validation_rules.iter().enumerate() {
        let field = format!("{field}.claimValidationRules[{index}]");
        match (rule.claim.is_empty(), rule.expression.is_empty()) {
            (false, false) => errors.push(FieldError::invalid(&field, rule.claim.as_str(), "claim and expression can't both be set")),
            (true, true) => errors.push(FieldError::required(&field, "claim or expression is required")),
            (false, true) => {
                if !rule.message.is_empty() {
                    let why = "may not be specified when claim is set";
                    errors.push(FieldError::invalid(format!("{field}.message"), rule.message.as_str(), why));
                }
                if !claims.insert(&rule.claim) {
                    errors.push(FieldError::duplicate(format!("{field}.claim"), rule.claim.as_str()));
                }
            }
            (true, false) => {
                if !rule.required_value.is_empty() {
                    let why = "may not be specified when expression is set";
                    errors.push(FieldError::invalid(format!("{field}.requiredValue"), rule.required_value.as_str(), why));
                }
                let expression = format!("{field}.expression");
                if expressions.insert(&rule.expression) {
                    errors.extend(expression_fault(&rule.expression, Sees::Claims, true, &expression));
                } else {
                    errors.push(FieldError::duplicate(expression, rule.expression.as_str()));
                }
            }
        }
    }
    errors
}

fn expression_fault(text: &str, sees: Sees, condition: bool, field: &str) -> Option<FieldError> {
    compile(text, sees, condition).err().map(|why| FieldError::invalid(field, text, why))
}

fn mapping_faults(jwt: &Jwt, field: &str) -> Vec<FieldError> {
    let mappings = &jwt.claim_mappings;
    let mut errors = one_mapping(&mappings.username, &format!("{field}.username"), true);
    errors.extend(one_mapping(&mappings.groups, &format!("{field}.groups"), false));
    let uid = &mappings.uid;
    if !uid.claim.is_empty() && !uid.expression.is_empty() {
        errors.push(FieldError::invalid(format!("{field}.uid"), "", "claim and expression can't both be set"));
    } else if !uid.expression.is_empty() {
        errors.extend(expression_fault(&uid.expression, Sees::Claims, false, &format!("{field}.uid.expression")));
    }
    let mut seen = BTreeSet::new();
    for (index, extra) in mappings.extra.iter().enumerate() {
        let field = format!("{field}.extra[{index}]");
        let (key, value) = (format!("{field}.key"), format!("{field}.valueExpression"));
        errors.extend(key_faults(&extra.key, &key));
        if !seen.insert(&extra.key) {
            errors.push(FieldError::duplicate(key, extra.key.as_str()));
        } else if extra.value_expression.is_empty() {
            errors.push(FieldError::required(value, ""));
        } else {
            errors.extend(expression_fault(&extra.value_expression, Sees::Claims, false, &value));
        }
    }
    errors.extend(unverified_address(jwt, field));
    errors
}

/// `domain/path` in small letters, of nobody's but the administrator's domain.
fn key_faults(key: &str, field: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut invalid = |why: &str| errors.push(FieldError::invalid(field, key, why));
    match key.split_once('/') {
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            for why in names::subdomain(domain, false) {
                invalid(&why);
            }
        }
        _ => invalid("must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
    if key != key.to_lowercase() {
        invalid("must be lowercase");
    }
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let reserved = ["kubernetes.io", "k8s.io"].iter().any(|owned| domain == *owned || domain.ends_with(&format!(".{owned}")));
    if reserved {
        invalid("k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use");
    }
    errors
}

fn one_mapping(mapping: &Mapping, field: &str, required: bool) -> Vec<FieldError> {
    match (mapping.claim.is_empty(), mapping.expression.is_empty()) {
        (false, false) => vec![FieldError::invalid(field, "", "claim and expression can't both be set")],
        (true, true) if required => vec![FieldError::required(field, "claim or expression is required")],
        (true, true) => Vec::new(),
        (true, false) => {
            let mut errors = Vec::new();
            if let Some(prefix) = &mapping.prefix {
                errors.push(FieldError::invalid(format!("{field}.prefix"), prefix.as_str(), "may not be specified when expression is set"));
            }
            errors.extend(expression_fault(&mapping.expression, Sees::Claims, false, &format!("{field}.expression")));
            errors
        }
        (false, true) if mapping.prefix.is_none() => {
            let why = "prefix is required when claim is set. It can be set to an empty string to disable prefixing";
            vec![FieldError::required(format!("{field}.prefix"), why)]
        }
        (false, true) => Vec::new(),
    }
}

/// A name made of an address that nobody looked at would be anybody's.
fn unverified_address(jwt: &Jwt, field: &str) -> Option<FieldError> {
    let names = |text: &str, claim: &str| compile(text, Sees::Claims, false).is_ok_and(|program| program.selects("claims", claim));
    let mappings = &jwt.claim_mappings;
    if !names(&mappings.username.expression, "email") {
        return None;
    }
    let rules = jwt.claim_validation_rules.iter().map(|rule| &rule.expression);
    let mut looking = mappings.extra.iter().map(|extra| &extra.value_expression).chain(rules).chain([&mappings.username.expression]);
    if looking.any(|text| names(text, "email_verified")) {
        return None;
    }
    let why = "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression";
    Some(FieldError::invalid(format!("{field}.username.expression"), mappings.username.expression.as_str(), why))
}

fn user_rule_faults(jwt: &Jwt, field: &str) -> Vec<FieldError> {
    let (mut errors, mut seen) = (Vec::new(), BTreeSet::new());
    for (index, rule) in jwt.user_validation_rules.iter().enumerate() {
        let field = format!("{field}.userValidationRules[{index}].expression");
        if rule.expression.is_empty() {
            errors.push(FieldError::required(field, ""));
        } else if !seen.insert(&rule.expression) {
            errors.push(FieldError::duplicate(field, rule.expression.as_str()));
        } else {
            errors.extend(expression_fault(&rule.expression, Sees::User, true, &field));
        }
    }
    errors
}
