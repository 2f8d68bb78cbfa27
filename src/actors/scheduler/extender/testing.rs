//! An extender for tests.

use std::sync::Arc;

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// A program that answers questions at a port of its own, until the test is over. Each connection is kept.
pub async fn serve(answer: impl Fn(&str, Value) -> (u16, Value) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it has an address");
    let answer = Arc::new(answer);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut read = Vec::new();
                loop {
                    let text = String::from_utf8_lossy(&read).into_owned();
                    if let Some((head, body)) = text.split_once("\r\n\r\n") {
                        let length = head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
                        let length: usize = length.expect("it has a body").parse().expect("a number");
                        if body.len() >= length {
                            let verb = head.split(' ').nth(1).and_then(|path| path.rsplit('/').next()).unwrap_or_default();
                            let (code, said) = answer(verb, serde_json::from_str(body).expect("JSON"));
                            let said = said.to_string();
                            let reply = format!("HTTP/1.1 {code} x\r\ncontent-length: {}\r\n\r\n{said}", said.len());
                            stream.write_all(reply.as_bytes()).await.expect("writes");
                            read.clear();
                            continue;
                        }
                    }
                    if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
            });
        }
    });
    format!("http://{address}/scheduler/")
}
