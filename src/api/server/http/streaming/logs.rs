//! `pods/log`: asks the kubelet for a container's log and passes it on as it comes, over a WebSocket where a client wants one.

use actix_web::{HttpResponse, http::header};
use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Response, body::Incoming};
use troupe_api::{
    metrics::{Collect, Counter, Family},
    status::{Reason, Status},
};

use super::{client, kind::words, log_options::LogOptions, log_socket, places::Places, turns::Turns};
use crate::{
    backends::place::{self, Kubelet},
    http::connect::ConnectRequest,
};

/// No more of a kubelet's refusal is shown.
const MAX_REFUSAL: usize = 2048;

static REQUESTS: Family<Counter> = Family::new(
    "kube_apiserver_pod_logs_insecure_backend_total",
    "Total number of requests for pods/logs sliced by usage type: enforce_tls, skip_tls_allowed, skip_tls_denied",
    &["usage"],
);
static UNVERIFIED: Family<Counter> = Family::new(
    "kube_apiserver_pod_logs_backend_tls_failure_total",
    "Total number of requests for pods/logs that failed due to kubelet server TLS verification",
    &[],
);

/// What requests for logs count.
pub static COLLECTORS: [&dyn Collect; 2] = [&REQUESTS, &UNVERIFIED];

/// Answers `GET …/pods/{name}/log`.
///
/// # Errors
/// 400, 404 and 422 in upstream's words; 500 when the kubelet cannot be reached.
pub async fn serve(places: &Places, request: ConnectRequest) -> Result<HttpResponse, Status> {
    let options = LogOptions::asked(request.request.query_string(), &request.target.name, places.splits_logs)?;
    REQUESTS.with(&[if options.insecure_backend { "skip_tls_allowed" } else { "enforce_tls" }]).increment();
    let pod = places.pod(&request.target)?;
    let container = place::choose_container(&pod, &options.container)?;
    let node = place::node_name(&pod);
    if node.is_empty() {
        return Ok(HttpResponse::NoContent().finish());
    }
    let kubelet = places.kubelet(node)?;
    let path = format!("/containerLogs/{}/{}/{container}?{}", request.target.namespace, request.target.name, options.to_query());
    let reply = ask(places, &kubelet, &path, options.insecure_backend).await?;
    if !reply.status().is_success() {
        return Err(refusal(reply, &request.target.name).await);
    }
    if words(request.request.headers(), &header::UPGRADE).any(|word| word.eq_ignore_ascii_case("websocket")) {
        return log_socket::serve(request, reply.into_body()).await;
    }
    let turns = Turns::of_caller();
    let body = reply.into_body().into_data_stream().then(move |piece| {
        let turns = turns.clone();
        async move {
            turns.begin().await;
            piece
        }
    });
    Ok(HttpResponse::Ok().insert_header((header::CONTENT_TYPE, "text/plain")).streaming(body))
}

async fn ask(places: &Places, kubelet: &Kubelet, path: &str, insecure: bool) -> Result<Response<Incoming>, Status> {
    let authority = kubelet.address.authority();
    let failed = |why: &dyn std::fmt::Display| Status::new(500, Reason::Unknown, format!("Get \"https://{authority}{path}\": {why}"));
    let dialled = match insecure {
        true => places.dialer.dial_unverified(&kubelet.address).await,
        false => places.dialer.dial(kubelet).await,
    };
    let stream = dialled.map_err(|error| {
        if error.is_unverified() {
            UNVERIFIED.with(&[]).increment();
        }
        failed(&error)
    })?;
    let request = Request::get(path).header("host", &authority).body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;
    client::exchange(stream, request).await.map_err(|error| failed(&error))
}

/// A kubelet's refusal as upstream's API server words it.
async fn refusal(reply: Response<Incoming>, name: &str) -> Status {
    let code = reply.status().as_u16();
    let body = Limited::new(reply.into_body(), MAX_REFUSAL).collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let text = String::from_utf8_lossy(&body).trim_end().to_owned();
    match code {
        400 => Status::bad_request(text),
        500 => Status::internal(text),
        404 => Status::new(404, Reason::NotFound, format!("the server could not find the requested resource ( pods/log {name})")),
        401 => Status::unauthorized(),
        403 => Status::new(403, Reason::Forbidden, text),
        _ => Status::new(code, Reason::Unknown, format!("the server responded with the status code {code}: {text}")),
    }
}
