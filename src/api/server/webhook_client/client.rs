//! Calls webhooks: connections that are kept, one question at a time on each, all within the time the webhook has.
//!
//! HTTP/1.1 as upstream speaks it to Services, so that concurrent questions spread over the pods behind one.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Full;
use parking_lot::Mutex;
use rustls::ClientConfig as TlsConfig;
use tokio::{runtime::Handle, sync::Semaphore};
use troupe_api::{
    auth::tls,
    resources::webhook_config::ClientConfig,
    service::Listers,
    spans::{self, SpanKind},
};

use super::{
    connections::{Answer, Connection, Connections, connect},
    destination,
};

/// How many webhooks are remembered.
const MOST_POOLS: usize = 200;
/// Questions that wait for one webhook's answer at a time. One that calls the server that asks it comes to an end by this.
const MOST_QUESTIONS: usize = 1000;
/// How much is told of an answer that is a failure.
const LONGEST_TOLD: usize = 2048;

/// The connections to one webhook.
struct Pool {
    tls: Result<Arc<TlsConfig>, String>,
    connections: Connections,
    questions: Semaphore,
}

impl Pool {
    fn new(tls: Result<Arc<TlsConfig>, String>, most_questions: usize) -> Self {
        Pool { tls, connections: Connections::default(), questions: Semaphore::new(most_questions) }
    }
}

/// See the module. Shared by all requests.
pub struct Client {
    listers: Arc<dyn Listers>,
    /// Where connections are driven, whichever thread asked for them.
    home: Handle,
    loopback: bool,
    most_questions: usize,
    pools: Mutex<HashMap<ClientConfig, Arc<Pool>>>,
}

impl Client {
    /// Finds Services in `listers`; connections live on the runtime `home`. With `loopback` webhooks may be on this machine's own
    /// addresses, which a cluster's server must not reach: for tests.
    pub fn new(listers: Arc<dyn Listers>, home: Handle, loopback: bool) -> Self {
        Client { listers, home, loopback, most_questions: MOST_QUESTIONS, pools: Mutex::default() }
    }

    /// The same with another bound of the questions that wait for one webhook.
    #[cfg(test)]
    pub(super) fn asking_at_most(self, most_questions: usize) -> Self {
        Client { most_questions, ..self }
    }

    /// Posts a review and reads the answer, both JSON, within `timeout`: whatever type the answer says it has, as upstream. One of more than
    /// `longest` bytes is none.
    ///
    /// # Errors
    /// As upstream's client words it.
    pub async fn post(&self, config: &ClientConfig, body: Vec<u8>, timeout: Duration, longest: usize) -> Result<Bytes, String> {
        let url = format!("{}?timeout={}s", config.url(), timeout.as_secs());
        let called = |why: String| format!("Post {url:?}: {why}");
        let mut span = spans::begin("HTTP POST", SpanKind::Client);
        let traceparent = span.as_ref().and_then(|span| span.cause().traceparent());
        let request = request(&url, body.into(), traceparent.as_deref()).map_err(called)?;
        let answer = match tokio::time::timeout(timeout, self.exchange(config, request, longest)).await {
            Ok(Ok(answer)) if (200..=206).contains(&answer.status.as_u16()) => Ok(answer.body),
            Ok(Ok(answer)) => Err(refused(&answer)),
            Ok(Err(why)) => Err(called(why)),
            Err(_) => Err(called("context deadline exceeded".into())),
        };
        if let Some(span) = &mut span {
            span.set("url.full", url.as_str());
            if let Err(why) = &answer {
                span.fail(why.as_str());
            }
        }
        answer
    }

    async fn exchange(&self, config: &ClientConfig, request: Request<Full<Bytes>>, longest: usize) -> Result<Answer, String> {
        let pool = self.pool(config).await;
        let _question = pool.questions.try_acquire().map_err(|_| format!("{} calls wait for its answer already", self.most_questions))?;
        pool.connections.exchange(request, longest, || self.dial(config, &pool)).await
    }

    /// The connections to a webhook.
    async fn pool(&self, config: &ClientConfig) -> Arc<Pool> {
        if let Some(pool) = self.pools.lock().get(config) {
            return pool.clone();
        }
        let tls = tls_config(config).await.map(Arc::new);
        let mut pools = self.pools.lock();
        if pools.len() >= MOST_POOLS {
            // Those that are in use come back at once.
            pools.clear();
        }
        pools.entry(config.clone()).or_insert_with(|| Arc::new(Pool::new(tls, self.most_questions))).clone()
    }

    async fn dial(&self, config: &ClientConfig, pool: &Pool) -> Result<Connection, String> {
        let tls = pool.tls.clone()?;
        let destination = destination::find(&config.address, &*self.listers)?;
        let name = config.server_name(&destination.host);
        let loopback = self.loopback;
        let dialing = self.home.spawn(async move {
            let addresses = destination::resolve(&destination, loopback).await?;
            connect(&addresses, Some((name, tls))).await
        });
        dialing.await.unwrap_or_else(|_| Err("the thread that connects is gone".into()))
    }
}

async fn tls_config(config: &ClientConfig) -> Result<TlsConfig, String> {
    let authorities = config.authorities.clone();
    // The system's certificates are read from its disk.
    let made = tokio::task::spawn_blocking(move || match authorities.is_empty() {
        true => tls::system_client_config(),
        false => tls::anchored_client_config(&String::from_utf8_lossy(&authorities), None),
    });
    let made = made.await.map_err(|error| error.to_string())?;
    let mut tls = made.map_err(|error| format!("unable to load root certificates: {error}"))?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(tls)
}

fn request(url: &str, body: Bytes, traceparent: Option<&str>) -> Result<Request<Full<Bytes>>, String> {
    let url: http::Uri = url.parse().map_err(|error| format!("{error}"))?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let host = url.authority().map_or("", |authority| authority.as_str());
    let mut request = Request::post(path)
        .header(header::HOST, host)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json, */*")
        .header(header::USER_AGENT, "kube-apiserver-admission");
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    request.body(Full::new(body)).map_err(|error| error.to_string())
}

/// An answer that is a failure, in the words of upstream's client.
pub(super) fn refused(answer: &Answer) -> String {
    let told = &answer.body[..answer.body.len().min(LONGEST_TOLD)];
    // What is no text is not told.
    let said = if answer.is_text { String::from_utf8_lossy(told).trim().to_owned() } else { "unknown".to_owned() };
    match answer.status.as_u16() {
        400 => "the server rejected our request for an unknown reason".into(),
        401 => "the server has asked for the client to provide credentials".into(),
        403 | 415 => said,
        404 => "the server could not find the requested resource".into(),
        406 if matches!(&*said, "" | "unknown") => "the server was unable to respond with a content type that the client supports".into(),
        406 => said,
        409 => "the server reported a conflict".into(),
        422 => "the server rejected our request due to an error in our request".into(),
        429 => "the server has received too many requests and has asked us to try again later".into(),
        405 => "the server does not allow this method on the requested resource".into(),
        503 => "the server is currently unable to handle the request".into(),
        504 => "the server was unable to return a response in the time allotted, but may still be processing the request".into(),
        500.. => format!("an error on the server ({said:?}) has prevented the request from succeeding"),
        code => format!("the server responded with the status code {code} but did not return more information"),
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;

    #[test]
    fn only_text_is_told_of_an_answer_that_is_a_failure() {
        let answer = |code: u16, is_text: bool, body: &'static str| {
            refused(&Answer { status: StatusCode::from_u16(code).expect("a code"), is_text, body: Bytes::from_static(body.as_bytes()) })
        };
        let broken = |said: &str| format!("an error on the server ({said:?}) has prevented the request from succeeding");
        assert_eq!(answer(500, true, " broken\n"), broken("broken"));
        assert_eq!(answer(500, true, ""), broken(""));
        assert_eq!(answer(500, false, "{\"a\": 1}"), broken("unknown"));
        assert_eq!((answer(403, true, "no"), answer(403, false, "{}")), ("no".to_owned(), "unknown".to_owned()));
        assert_eq!(answer(418, true, "x"), "the server responded with the status code 418 but did not return more information");
    }
}
