//! What can be done about a refusal, from the API server's words for it: whose it was, and how to see what that asks for. Pure.

/// What the message of a refused request leads to; `None` where it does not say who refused.
pub fn hint(message: &str) -> Option<String> {
    policy(message).or_else(|| webhook(message)).or_else(|| plugin(message))
}

/// Policies sign as `ValidatingAdmissionPolicy 'p' with binding 'b' denied request: …`, mutating ones as `policy 'p' with binding 'b' …`.
fn policy(message: &str) -> Option<String> {
    let (signed, _) = message.split_once(" denied request: ")?;
    let (head, policy) = last_quoted(signed)?;
    let (head, policy, binding) = match head.strip_suffix(" with binding ") {
        Some(head) => {
            let (head, named) = last_quoted(head)?;
            (head, named, Some(policy))
        }
        None => (head, policy, None),
    };
    let kind = if head.ends_with("ValidatingAdmissionPolicy ") { "validatingadmissionpolicy" } else { "mutatingadmissionpolicy" };
    let rules = format!("kubectl get {kind} {policy} -o yaml shows what it asks for");
    Some(match binding {
        Some(binding) => format!("{rules}, kubectl get {kind}binding {binding} -o yaml of whom"),
        None => rules,
    })
}

/// What stands in quotes at the end, and what is before it.
fn last_quoted(text: &str) -> Option<(&str, &str)> {
    let quote = text.chars().next_back().filter(|c| ['\'', '"'].contains(c))?;
    let (head, name) = text.strip_suffix(quote)?.rsplit_once(quote)?;
    is_name(name).then_some((head, name))
}

/// Only what may be a name goes into a command that somebody may run.
fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte)) && !text.starts_with('-')
}

fn webhook(message: &str) -> Option<String> {
    let named = |before: &str| {
        let (_, rest) = message.split_once(before)?;
        let (name, rest) = rest.split_once('"')?;
        is_name(name).then_some((name, rest))
    };
    let all = "kubectl get validatingwebhookconfigurations,mutatingwebhookconfigurations -o yaml";
    if let Some((name, _)) = named("failed calling webhook \"") {
        return Some(format!("the server behind webhook {name} has to be mended; {all} shows where it should be"));
    }
    let (name, rest) = named("admission webhook \"")?;
    rest.starts_with(" denied the request").then(|| format!("{all} shows whose webhook {name} is"))
}

fn plugin(message: &str) -> Option<String> {
    let hint = if message.contains("exceeded quota") || message.contains("failed quota") {
        "raise the quota, or free some of it"
    } else if message.contains("violates PodSecurity") {
        "the namespace's label pod-security.kubernetes.io/enforce asks for that: change the pod's securityContext, or the label"
    } else {
        return None;
    };
    Some(hint.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_named_with_its_binding_and_how_to_see_them() {
        let said = "Error creating: pods \"web-x\" is forbidden: ValidatingAdmissionPolicy 'no-root' with binding 'no-root.shop' denied request: 'no' denied";
        let wanted = "kubectl get validatingadmissionpolicy no-root -o yaml shows what it asks for, \
                      kubectl get validatingadmissionpolicybinding no-root.shop -o yaml of whom";
        assert_eq!(hint(said).as_deref(), Some(wanted));
        let alone = "ValidatingAdmissionPolicy 'p' denied request: failed to configure policy";
        assert_eq!(hint(alone).as_deref(), Some("kubectl get validatingadmissionpolicy p -o yaml shows what it asks for"));
        let mutating = "pods \"x\" is forbidden: policy 'add' with binding 'b' denied request: no such key";
        assert!(hint(mutating).expect("named").contains("kubectl get mutatingadmissionpolicybinding b -o yaml"));
    }

    #[test]
    fn a_webhook_is_named_whether_it_refused_or_failed() {
        let refused = "Error creating: admission webhook \"a.example.com\" denied the request: no latest tags";
        assert!(hint(refused).expect("named").ends_with("-o yaml shows whose webhook a.example.com is"));
        let failed = "Internal error occurred: failed calling webhook \"a.example.com\": context deadline exceeded";
        assert!(hint(failed).expect("named").starts_with("the server behind webhook a.example.com has to be mended"));
    }

    #[test]
    fn nothing_but_names_gets_into_a_command() {
        assert_eq!(hint("ValidatingAdmissionPolicy 'x; reboot' denied request: no"), None);
        assert_eq!(hint("admission webhook \"--all -A\" denied the request: no"), None);
        assert_eq!(hint("pods \"web\" is forbidden: error looking up service account"), None);
        assert!(hint("exceeded quota: small").expect("a quota").contains("raise the quota"));
    }
}
