//! The HTTPS server of a pod whose certificate lies in a Secret: reviews in, reviews out.

use std::{convert::Infallible, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpListener;
use troupe_api::auth::{pki::KeyedCertificate, tls};

pub const PORT: u16 = 8443;

/// A text that a pod's script left in base64.
fn decoded(variable: &str) -> String {
    let text = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set"));
    String::from_utf8(BASE64_STANDARD.decode(text).expect("base64")).expect("text")
}

/// Answers reviews until it is ended.
pub async fn serve(answer: impl Fn(&Value) -> Value + Send + Sync + 'static) {
    let identity = KeyedCertificate { certificate_pem: decoded("OPERATOR_CERTIFICATE"), key_pem: decoded("OPERATOR_KEY") };
    let mut config = tls::server_config(&identity, &identity.certificate_pem).expect("a usable certificate");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let (acceptor, answer) = (tokio_rustls::TlsAcceptor::from(Arc::new(config)), Arc::new(answer));
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await.expect("the pod's port is free");
    loop {
        let (tcp, _) = listener.accept().await.expect("accepts");
        let (acceptor, answer) = (acceptor.clone(), answer.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(tcp).await else { return };
            let service = service_fn(move |request| respond(request, answer.clone()));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn respond(request: Request<Incoming>, answer: Arc<impl Fn(&Value) -> Value>) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let review: Value = serde_json::from_slice(&body).unwrap_or_default();
    let answer = answer(&review).to_string();
    Ok(Response::builder().header("content-type", "application/json").body(Full::new(answer.into())).expect("well formed"))
}
