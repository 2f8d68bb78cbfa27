//! Who a client says it is.

use actix_web::{HttpRequest, http::header};

/// The client's name for itself.
pub fn user_agent(request: &HttpRequest) -> &str {
    request.headers().get(header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or("")
}
