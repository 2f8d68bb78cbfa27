//! `/health` and `/ready`, for probes, and `/metrics`.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::AbortHandle,
    time::timeout,
};

use crate::{cache::Cache, metrics, server::place, shares::Shares, state::State};

/// Longest request that is read.
const MAX_REQUEST: usize = 8192;
const PATIENCE: Duration = Duration::from_secs(5);
/// Clients of one port at one time, and of them those of one address: every pod reaches it, and what it holds, queries cannot have.
const MAX_CLIENTS: usize = 64;
const SHARE: usize = 8;

/// Starts answering probes and scrapes; returns the bound address.
pub async fn serve(address: SocketAddr, state: Arc<State>, cache: Arc<Cache>) -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await.with_context(|| format!("listening on {address}"))?;
    let bound = listener.local_addr()?;
    tokio::spawn(async move {
        let (clients, shares) = (Arc::new(Semaphore::new(MAX_CLIENTS)), Shares::new(SHARE));
        let mut under_way: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            match listener.accept().await {
                Ok((stream, client)) => {
                    let Some(share) = shares.claim(client.ip()) else { continue };
                    under_way.retain(|other| !other.is_finished());
                    let Some(permit) = place(&clients, &mut under_way).await else { return };
                    let (state, cache) = (state.clone(), cache.clone());
                    let serving = tokio::spawn(async move {
                        // A prober that goes away is no concern of ours.
                        let _ = timeout(PATIENCE, answer(stream, &state, &cache)).await;
                        drop((permit, share));
                    });
                    under_way.push_back(serving.abort_handle());
                }
                Err(error) => {
                    eprintln!("accepting probes failed: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    });
    Ok(bound)
}

async fn answer(mut stream: TcpStream, state: &State, cache: &Cache) -> std::io::Result<()> {
    let (mut request, mut looked) = (Vec::<u8>::new(), 0_usize);
    while !request[looked.saturating_sub(3)..].windows(4).any(|window| window == b"\r\n\r\n") && request.len() < MAX_REQUEST {
        looked = request.len();
        if stream.read_buf(&mut request).await? == 0 {
            break;
        }
    }
    let text = String::from_utf8_lossy(&request);
    let path = text.split_whitespace().nth(1).unwrap_or_default();
    let (code, body) = match path.split('?').next().unwrap_or_default() {
        "/health" => ("200 OK", "OK".to_owned()),
        "/ready" if state.is_ready() => ("200 OK", "OK".to_owned()),
        "/ready" => ("503 Service Unavailable", "not ready".to_owned()),
        "/metrics" => ("200 OK", metrics::page(cache)),
        _ => ("404 Not Found", "not found".to_owned()),
    };
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    let reply = format!("HTTP/1.1 {code}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await
}
