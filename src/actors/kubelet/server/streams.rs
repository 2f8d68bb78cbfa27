//! exec, attach and port-forward: asks the runtime for a streaming URL and joins the client's connection to it.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response, StatusCode, Uri,
    body::Incoming,
    header::{HOST, HeaderMap},
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use troupe_api::http::streaming::{StreamOptions, client};
use troupe_cri::{
    CriError, Runtime,
    proto::{AttachRequest, ExecRequest, PortForwardRequest},
};

use super::directory::{LookupError, PodDirectory, PodRef};
use crate::serving::{Body, text};

/// What a stream is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    Exec,
    Attach,
}

/// A failed lookup as the reply to a stream request.
pub fn failure(error: &LookupError) -> Response<Body> {
    match error {
        LookupError::NotFound(why) => text(404, why.as_str()),
        LookupError::NotReady(why) => text(500, why.as_str()),
        LookupError::Runtime(CriError::NotFound(why)) => text(404, why.as_str()),
        LookupError::Runtime(error) => text(500, error.to_string()),
    }
}

/// Serves exec and attach.
pub async fn remote_command(
    request: Request<Incoming>,
    runtime: Arc<dyn Runtime>,
    pods: Arc<dyn PodDirectory>,
    (pod, container): (PodRef, String),
    purpose: Purpose,
) -> Response<Body> {
    let options = match StreamOptions::of_kubelet(request.uri().query().unwrap_or_default()) {
        Ok(options) => options,
        Err(why) => return text(400, why.message),
    };
    let container_id = match pods.container(&pod, &container).await {
        Ok(id) => id,
        Err(error) => return failure(&error),
    };
    let StreamOptions { stdin, stdout, stderr, tty, command, .. } = options;
    let url = match purpose {
        Purpose::Exec => runtime.exec(ExecRequest { container_id, cmd: command, tty, stdin, stdout, stderr }).await,
        Purpose::Attach => runtime.attach(AttachRequest { container_id, tty, stdin, stdout, stderr }).await,
    };
    join(request, url).await
}

/// Serves port-forward.
pub async fn port_forward(request: Request<Incoming>, runtime: Arc<dyn Runtime>, pods: Arc<dyn PodDirectory>, pod: PodRef) -> Response<Body> {
    let pod_sandbox_id = match pods.sandbox(&pod).await {
        Ok(id) => id,
        Err(error) => return failure(&error),
    };
    let port = ports(request.uri().query().unwrap_or_default());
    let url = runtime.port_forward(PortForwardRequest { pod_sandbox_id, port }).await;
    join(request, url).await
}

/// The ports that WebSocket clients name in the query; SPDY clients name them per stream.
fn ports(query: &str) -> Vec<i32> {
    let values = query.split('&').filter_map(|pair| pair.split_once('=')).filter(|(name, _)| *name == "port" || *name == "ports");
    values.flat_map(|(_, list)| list.split([',']).flat_map(|part| part.split("%2C"))).filter_map(|port| port.parse().ok()).collect()
}

/// Joins the client to the runtime's streaming server.
async fn join(request: Request<Incoming>, url: Result<String, CriError>) -> Response<Body> {
    let url = match url {
        Ok(url) => url,
        Err(error) => return failure(&LookupError::Runtime(error)),
    };
    match upgrade(request, &url).await {
        Ok(response) => response,
        Err(why) => text(500, format!("error dialing backend: {why}")),
    }
}

async fn upgrade(mut request: Request<Incoming>, url: &str) -> Result<Response<Body>, String> {
    let url: Uri = url.parse().map_err(|_| format!("{url:?} is no URL"))?;
    let authority = url.authority().ok_or("the runtime's URL has no host")?.clone();
    let port = authority.port_u16().unwrap_or(80);
    let tcp =
        TcpStream::connect((authority.host().trim_matches(['[', ']']), port)).await.map_err(|error| format!("dial tcp {authority}: {error}"))?;
    // A failure costs latency only.
    let _ = tcp.set_nodelay(true);
    let mut asked = Request::new(Empty::<Bytes>::new());
    *asked.method_mut() = request.method().clone();
    *asked.uri_mut() = url.path_and_query().map_or_else(|| Uri::from_static("/"), |path| path.clone().into());
    *asked.headers_mut() = forwarded(request.headers());
    asked.headers_mut().insert(HOST, authority.as_str().parse().map_err(|_| "the runtime's host is no header text")?);
    let mut reply = client::exchange(tcp, asked).await.map_err(|error| error.to_string())?;
    if reply.status() == StatusCode::SWITCHING_PROTOCOLS {
        let (near, far) = (hyper::upgrade::on(&mut request), hyper::upgrade::on(&mut reply));
        tokio::spawn(pump(near, far));
    }
    let (head, body) = reply.into_parts();
    Ok(Response::from_parts(head, body.boxed_unsync()))
}

/// The client's headers without what names this hop or the client's rights.
fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in [hyper::header::AUTHORIZATION, hyper::header::CONTENT_LENGTH, hyper::header::TRANSFER_ENCODING, HOST] {
        headers.remove(name);
    }
    headers
}

/// Waits for both upgrades, then carries bytes both ways.
async fn pump(near: hyper::upgrade::OnUpgrade, far: hyper::upgrade::OnUpgrade) {
    let (near, far) = match tokio::try_join!(near, far) {
        Ok(ends) => ends,
        Err(error) => return tracing::debug!(%error, "a stream was not upgraded"),
    };
    client::pump(TokioIo::new(near), TokioIo::new(far)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_come_one_by_one_or_in_a_list() {
        assert_eq!(ports("port=80&port=81"), [80, 81]);
        assert_eq!(ports("port=80%2C81&x=1"), [80, 81]);
        assert!(ports("").is_empty());
    }
}
