//! The flags of a daemon with what holds for each, as `/flagz` tells them: those that were given, and the defaults of all others.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Config, Part, Settings, flag, takes};

/// Stands for what nobody may read, as upstream.
const CLASSIFIED: &str = "CLASSIFIED";

/// A setting's value as its flag takes it.
pub fn flag_value(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

impl Config {
    /// All flags that one of these parts takes, and those of the command that started this, without their dashes; empty where nothing is set. Keys and tokens stand in files, whose
    /// names are told; a URL with a password in it is not.
    pub fn flags(&self, parts: &[Part]) -> BTreeMap<String, String> {
        let (parts, set) = (parts.iter().copied().collect(), self.settings().entries());
        let all = serde_json::to_value(Settings::default()).unwrap_or_default();
        let names = all.as_object().into_iter().flat_map(|all| all.keys()).filter(|name| takes(&parts, name));
        let shown =
            |name: &String| set.get(name).map(flag_value).map_or_else(String::new, |text| if has_password(&text) { CLASSIFIED.into() } else { text });
        names.map(|name| (flag(name).trim_start_matches('-').to_owned(), shown(name))).chain(self.of_command.clone()).collect()
    }
}

/// Whether a text is a URL, or several, with somebody's credentials in it.
fn has_password(text: &str) -> bool {
    text.split(',').filter_map(|url| url.split_once("://")).any(|(_, rest)| rest.split('/').next().is_some_and(|authority| authority.contains('@')))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    #[test]
    fn flags_are_told_with_what_holds_but_for_passwords() {
        let settings = Settings {
            node_ip: Some(IpAddr::from([192, 0, 2, 7]).into()),
            node_name: Some("one".into()),
            etcd_servers: Some(vec!["https://10.0.0.1:2379".into(), "https://root:secret@10.0.0.2:2379".into()]),
            etcd_cafile: Some("/ca.crt".into()),
            allowed_unsafe_sysctls: Some(vec!["a".into(), "b".into()]),
            ..Settings::default()
        };
        let mut config = settings.resolve().expect("resolves");
        config.of_command.insert("components".into(), "apiserver".into());
        let (server, node) = (config.flags(&[Part::ApiServer]), config.flags(&[Part::Node]));
        let of = |flags: &BTreeMap<String, String>, name: &str| flags.get(name).cloned();
        assert_eq!((of(&server, "api-port").as_deref(), of(&node, "api-port")), (Some("6443"), None));
        assert_eq!((of(&server, "components").as_deref(), of(&server, "controllers")), (Some("apiserver"), None));
        assert_eq!((of(&server, "etcd-servers").as_deref(), of(&server, "token-auth-file").as_deref()), (Some("CLASSIFIED"), Some("")));
        assert_eq!((of(&node, "allowed-unsafe-sysctls").as_deref(), of(&node, "bridge").as_deref()), (Some("a,b"), Some("troupe0")));
        assert!(!has_password("https://example.org/a@b,http://[::1]:80") && has_password("http://u:p@h"));
    }
}
