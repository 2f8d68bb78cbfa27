//! Writes what was learned.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::Context;
use hyper::{Method, StatusCode};
use troupe_net::dns::domain_names::NAMESPACE;

use super::{AddressSlice, Domains, book::Draft, now};
use crate::api::{Api, Refused};

const MIN_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// Rests between two slices, so that whoever has ever new names answered writes no more than so often.
const REST: Duration = Duration::from_millis(5);

impl Domains {
    /// Writes for as long as the process lives.
    pub async fn write_all(self: Arc<Self>, api: Api) {
        let mut pause = MIN_PAUSE;
        loop {
            self.wake.notified().await;
            while let Some(draft) = self.draft() {
                match self.write(&api, &draft).await {
                    Ok(()) => {
                        self.failing.store(false, Ordering::Relaxed);
                        pause = MIN_PAUSE;
                        tokio::time::sleep(REST).await;
                    }
                    Err(error) => {
                        let status = status(&error);
                        // Where somebody else was faster it is known what stands there now.
                        if status != Some(StatusCode::CONFLICT) {
                            eprintln!("telling addresses of {}: {error:#}", draft.slice);
                            self.failing.store(true, Ordering::Relaxed);
                        }
                        // What is refused for what it says will not be taken another time.
                        if !matches!(status, Some(StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY)) {
                            self.book.lock().put_back(draft);
                        }
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(MAX_PAUSE);
                    }
                }
            }
        }
    }

    fn draft(&self) -> Option<Draft> {
        self.book.lock().draft(now())
    }

    async fn write(&self, api: &Api, draft: &Draft) -> anyhow::Result<()> {
        let all = format!("/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices");
        let one = format!("{all}/{}", draft.slice);
        let (method, path) = if draft.replaces { (Method::PUT, &one) } else { (Method::POST, &all) };
        let written = api.send(method, path, draft.body.to_string()).await;
        if let Err(error) = &written {
            match status(error) {
                Some(StatusCode::CONFLICT) => self.look_again(api, &one, &draft.slice).await,
                Some(StatusCode::NOT_FOUND) if draft.replaces => self.remove_slice(&draft.slice),
                _ => {}
            }
        }
        let slice: AddressSlice = serde_json::from_slice(&written?).context("decoding what was written")?;
        self.set_slice(slice);
        Ok(())
    }

    /// Reads a slice that is another one than was known.
    async fn look_again(&self, api: &Api, path: &str, name: &str) {
        match api.send(Method::GET, path, String::new()).await {
            Ok(body) => match serde_json::from_slice(&body) {
                Ok(slice) => self.set_slice(slice),
                Err(error) => eprintln!("{path} cannot be read: {error}"),
            },
            Err(error) if status(&error) == Some(StatusCode::NOT_FOUND) => self.remove_slice(name),
            Err(error) => eprintln!("reading {path}: {error:#}"),
        }
    }
}

fn status(error: &anyhow::Error) -> Option<StatusCode> {
    error.downcast_ref::<Refused>().map(|refused| refused.status)
}
