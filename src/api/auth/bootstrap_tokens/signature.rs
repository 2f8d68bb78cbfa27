//! The signature by which `cluster-info` shows that its author knows a token.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use ring::hmac;

use super::BootstrapToken;

/// A JWS (HS256) of `content` by the token's secret, with its content left out (RFC 7515, appendix F).
pub fn sign_detached(content: &str, token: &BootstrapToken) -> String {
    let header = BASE64_URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"HS256\",\"kid\":\"{}\"}}", token.id));
    let payload = BASE64_URL_SAFE_NO_PAD.encode(content);
    let key = hmac::Key::new(hmac::HMAC_SHA256, token.secret.as_bytes());
    let signature = hmac::sign(&key, format!("{header}.{payload}").as_bytes());
    format!("{header}..{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_that_kubeadm_expects() {
        let token = BootstrapToken { id: "joshua".into(), secret: "my voice is my passcode".into() };
        let signature = sign_detached("Hello from the other side. I must have called a thousand times.", &token);
        assert_eq!(signature, "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8");
        assert_eq!(sign_detached("", &token), "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..7Ui1ALizW4jXphVUB7xUqC9vLYLL9RZeOFfVLoB7Tgk");
    }
}
