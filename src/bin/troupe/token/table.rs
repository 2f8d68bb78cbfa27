//! Tokens as a table, with kubeadm's columns. Pure.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use troupe_api::{
    auth::bootstrap_tokens::{expires, field},
    meta::time::{format_time, human_duration},
};

const HEAD: [&str; 6] = ["TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION", "EXTRA GROUPS"];

/// The table, a line a token.
pub fn render(tokens: &[Arc<Secret>], now: Timestamp) -> String {
    let rows: Vec<[String; 6]> = std::iter::once(HEAD.map(str::to_owned)).chain(tokens.iter().map(|token| row(token, now))).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}

fn row(token: &Secret, now: Timestamp) -> [String; 6] {
    let end = expires(token);
    let ttl = match end {
        None => "<forever>".to_owned(),
        Some(end) if end <= now => "<invalid>".to_owned(),
        Some(end) => human_duration(Duration::try_from(end.duration_since(now)).unwrap_or_default()),
    };
    let usages = ["authentication", "signing"].into_iter().filter(|usage| field(token, &format!("usage-bootstrap-{usage}")) == "true");
    let or_none = |text: String| if text.is_empty() { "<none>".to_owned() } else { text };
    [
        format!("{}.{}", field(token, "token-id"), field(token, "token-secret")),
        ttl,
        end.map_or("<never>".to_owned(), format_time),
        or_none(usages.collect::<Vec<_>>().join(",")),
        or_none(field(token, "description")),
        or_none(field(token, "auth-extra-groups")),
    ]
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn a_token_is_a_line_under_kubeadms_heading() {
        let now = Timestamp::from_second(0).expect("a time");
        let data = [
            ("token-id", "abcdef"),
            ("token-secret", "0123456789abcdef"),
            ("expiration", "1970-01-01T23:00:00Z"),
            ("usage-bootstrap-signing", "true"),
        ];
        let data = data.map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec())));
        let token = Secret { data: Some(data.into_iter().collect()), ..Secret::default() };
        let text = render(&[Arc::new(token)], now);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0][..5], ["TOKEN", "TTL", "EXPIRES", "USAGES", "DESCRIPTION"]);
        assert_eq!(lines[1], ["abcdef.0123456789abcdef", "23h", "1970-01-01T23:00:00Z", "signing", "<none>", "<none>"]);
    }
}
