//! The webhook of a chart: it refuses Widgets that count too much.

use std::{convert::Infallible, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use troupe_api::auth::{pki::KeyedCertificate, tls};

const PORT: u16 = 8443;

/// A text that a pod's script left in base64.
fn decoded(variable: &str) -> String {
    let text = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set"));
    String::from_utf8(BASE64_STANDARD.decode(text).expect("base64")).expect("text")
}

/// Judges until it is ended.
pub async fn serve() {
    let maximum: i64 = std::env::var("OPERATOR_MAXIMUM").expect("the chart says it").parse().expect("a number");
    let identity = KeyedCertificate { certificate_pem: decoded("OPERATOR_CERTIFICATE"), key_pem: decoded("OPERATOR_KEY") };
    let mut config = tls::server_config(&identity, &identity.certificate_pem).expect("a usable certificate");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(("0.0.0.0", PORT)).await.expect("the pod's port is free");
    println!("judges counts up to {maximum}");
    loop {
        let (tcp, _) = listener.accept().await.expect("accepts");
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(tcp).await else { return };
            let service = service_fn(move |request| judge(request, maximum));
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn judge(request: Request<Incoming>, maximum: i64) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = request.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let review: Value = serde_json::from_slice(&body).unwrap_or_default();
    let asked = &review["request"];
    let allowed = asked["object"]["spec"]["count"].as_i64().is_none_or(|count| count <= maximum);
    let message = format!("a widget counts {maximum} at most");
    let response = json!({"uid": asked["uid"], "allowed": allowed, "status": {"message": message}});
    let answer = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "response": response}).to_string();
    Ok(Response::builder().header("content-type", "application/json").body(Full::new(answer.into())).expect("well formed"))
}
