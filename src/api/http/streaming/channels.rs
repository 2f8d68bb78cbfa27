//! WebSocket v5 of exec and attach, translated to SPDY towards the kubelet.
//!
//! Each message begins with its channel's number: 0 stdin, 1 stdout, 2 stderr, 3 status, 4 terminal size; 255 closes
//! the channel that its next byte names. Each channel is a SPDY stream at the other side.

use std::{io, time::Duration};

use actix_web::{
    FromRequest, HttpResponse,
    rt::{spawn, time::timeout},
    web,
};
use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, Session};
use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncWriteExt, WriteHalf, split},
    sync::{Mutex, Notify},
};

use super::{
    kind::V5,
    spdy::{Frame, FrameReader, Writer},
    stream_options::StreamOptions,
    upgrade::{KubeletStream, StreamPlace},
};
use crate::{http::connect::ConnectRequest, status::Status};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

/// Clients send stdin in pieces of 32 KiB.
const LONGEST_MESSAGE: usize = 1 << 20;
const LONGEST_STATUS: usize = 1 << 20;
/// A client has this long to answer our close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
const SUCCESS: &[u8] = br#"{"metadata":{},"status":"Success"}"#;

/// Accepts the WebSocket; the translation goes on by itself. What fails from here on is told on the status channel.
///
/// # Errors
/// 400 when the handshake is malformed.
pub async fn serve(mut request: ConnectRequest, place: StreamPlace, options: StreamOptions) -> Result<HttpResponse, Status> {
    let payload = web::Payload::from_request(&request.request, &mut request.payload).await.map_err(Status::internal)?;
    let (response, session, messages) =
        actix_ws::handle_with_protocols(&request.request, payload, &[V5]).map_err(|error| Status::bad_request(error.to_string()))?;
    let messages = messages.max_frame_size(LONGEST_MESSAGE).aggregate_continuations().max_continuation_size(LONGEST_MESSAGE);
    spawn(run(session, messages, place, options));
    Ok(response)
}

async fn run(mut session: Session, mut messages: AggregatedMessageStream, place: StreamPlace, options: StreamOptions) {
    let ended = match translate(&mut session, &mut messages, &place, &options).await {
        Ok(Some(status)) => status,
        Ok(None) => return,
        Err(status) => Bytes::from(status.to_json().to_string()),
    };
    let told = session.binary(message(STATUS, &ended)).await.is_ok();
    if told && session.close(Some(CloseCode::Normal.into())).await.is_ok() {
        let _ = timeout(CLOSE_TIMEOUT, async { while let Some(Ok(_)) = messages.recv().await {} }).await;
    }
}

/// A channel and its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Channel {
    number: u8,
    stream: u32,
    name: &'static str,
}

/// The channels that the options ask for, in the order in which clients open their streams.
fn channels(options: &StreamOptions) -> Vec<Channel> {
    let all = [
        (true, STATUS, "error"),
        (options.stdin, STDIN, "stdin"),
        (options.stdout, STDOUT, "stdout"),
        (options.stderr, STDERR, "stderr"),
        (options.tty, RESIZE, "resize"),
    ];
    let wanted = all.into_iter().filter(|(wanted, ..)| *wanted);
    wanted.zip((1..).step_by(2)).map(|((_, number, name), stream)| Channel { number, stream, name }).collect()
}

/// Translates until either side ends: the kubelet with a status, the client with nothing.
async fn translate(
    session: &mut Session,
    messages: &mut AggregatedMessageStream,
    place: &StreamPlace,
    options: &StreamOptions,
) -> Result<Option<Bytes>, Status> {
    let channels = channels(options);
    // Tells the client that the connection stands.
    let first = [STDOUT, STDERR, STATUS].into_iter().find(|number| channels.iter().any(|channel| channel.number == *number));
    if session.binary(message(first.unwrap_or(STATUS), b"")).await.is_err() {
        return Ok(None);
    }
    let (stream, _) = place.spdy(&["v4.channel.k8s.io".to_owned()]).await.map_err(Status::internal)?;
    let (input, mut output) = split(stream);
    let mut writer = Writer::default();
    for channel in &channels {
        output.write_all(&writer.syn_stream(channel.stream, &[("streamtype", channel.name)])).await.map_err(Status::internal)?;
    }
    output.flush().await.map_err(Status::internal)?;
    let (output, ready) = (Mutex::new(output), Notify::new());
    let outward = Outward { frames: FrameReader::new(input), session: session.clone(), channels: &channels, output: &output, ready: &ready };
    tokio::select! {
        status = outward.run() => status.map(Some).map_err(Status::internal),
        ended = inward(messages, session, &channels, &output, &ready) => {
            if let Err(error) = ended {
                tracing::debug!(%error, "a client's stream broke");
            }
            Ok(None)
        }
    }
}

/// From the kubelet to the client.
struct Outward<'a> {
    frames: FrameReader<tokio::io::ReadHalf<KubeletStream>>,
    session: Session,
    channels: &'a [Channel],
    output: &'a Mutex<WriteHalf<KubeletStream>>,
    /// Told when the kubelet has taken all streams.
    ready: &'a Notify,
}

impl Outward<'_> {
    /// Runs to the end of the command; gives its status.
    async fn run(mut self) -> io::Result<Bytes> {
        let mut status = BytesMut::new();
        let mut replies = 0;
        let mut open: Vec<u32> =
            self.channels.iter().filter(|channel| !matches!(channel.number, STDIN | RESIZE)).map(|channel| channel.stream).collect();
        while !open.is_empty() {
            match self.frames.next().await? {
                Some(Frame::Reply { .. }) => {
                    replies += 1;
                    if replies == self.channels.len() {
                        self.ready.notify_one();
                    }
                }
                Some(Frame::Data { stream, data, fin }) => {
                    self.pass(stream, &data, &mut status).await?;
                    open.retain(|known| !fin || *known != stream);
                }
                Some(Frame::Reset { stream }) => open.retain(|known| *known != stream),
                Some(Frame::Ping { id }) => send(self.output, &Writer::pong(id), b"").await?,
                Some(Frame::Other) => {}
                Some(Frame::GoAway) | None => break,
            }
        }
        Ok(if status.is_empty() { Bytes::from_static(SUCCESS) } else { status.freeze() })
    }

    async fn pass(&mut self, stream: u32, data: &[u8], status: &mut BytesMut) -> io::Result<()> {
        let Some(channel) = self.channels.iter().find(|channel| channel.stream == stream) else { return Ok(()) };
        match channel.number {
            STATUS if status.len() + data.len() <= LONGEST_STATUS => status.extend_from_slice(data),
            STDOUT | STDERR if !data.is_empty() => {
                self.session.binary(message(channel.number, data)).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// From the client to the kubelet, until the client closes.
async fn inward(
    messages: &mut AggregatedMessageStream,
    session: &Session,
    channels: &[Channel],
    output: &Mutex<WriteHalf<KubeletStream>>,
    ready: &Notify,
) -> io::Result<()> {
    let mut session = session.clone();
    // Data before a stream is taken would be lost.
    ready.notified().await;
    while let Some(received) = messages.recv().await {
        let data = match received.map_err(io::Error::other)? {
            AggregatedMessage::Binary(data) => data,
            AggregatedMessage::Text(text) => text.into_bytes(),
            AggregatedMessage::Ping(data) => {
                session.pong(&data).await.map_err(|_| io::ErrorKind::BrokenPipe)?;
                continue;
            }
            AggregatedMessage::Pong(_) => continue,
            AggregatedMessage::Close(_) => return Ok(()),
        };
        if let Some((number, data, fin)) = instruction(&data)
            && let Some(channel) = channels.iter().find(|channel| channel.number == number)
        {
            send(output, &Writer::data_head(channel.stream, data.len(), fin), data).await?;
        }
    }
    Ok(())
}

/// What a client's message means: a channel it may write to, data, and whether the channel ends.
fn instruction(message: &[u8]) -> Option<(u8, &[u8], bool)> {
    match message {
        [CLOSE, number @ (STDIN | RESIZE), ..] => Some((*number, &[], true)),
        // An empty piece means nothing, yet some clients send one first.
        [STDIN | RESIZE] => None,
        [number @ (STDIN | RESIZE), data @ ..] => Some((*number, data, false)),
        _ => None,
    }
}

async fn send(output: &Mutex<WriteHalf<KubeletStream>>, head: &[u8], data: &[u8]) -> io::Result<()> {
    let mut output = output.lock().await;
    output.write_all(head).await?;
    output.write_all(data).await?;
    output.flush().await
}

fn message(channel: u8, data: &[u8]) -> Bytes {
    let mut message = BytesMut::with_capacity(1 + data.len());
    message.extend_from_slice(&[channel]);
    message.extend_from_slice(data);
    message.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_odd_and_opened_in_clients_order() {
        let options = StreamOptions { stdin: true, stdout: true, tty: true, ..StreamOptions::default() };
        let opened: Vec<_> = channels(&options).into_iter().map(|channel| (channel.number, channel.stream, channel.name)).collect();
        assert_eq!(opened, [(3, 1, "error"), (0, 3, "stdin"), (1, 5, "stdout"), (4, 7, "resize")]);
    }

    #[test]
    fn clients_write_to_and_close_their_own_channels_only() {
        assert_eq!(instruction(b"\x00hi"), Some((STDIN, &b"hi"[..], false)));
        assert_eq!(instruction(b"\xff\x00"), Some((STDIN, &b""[..], true)));
        assert_eq!(instruction(b"\x00"), None);
        assert_eq!(instruction(b"\x01out"), None);
        assert_eq!(instruction(b"\xff\x01"), None);
        assert_eq!(instruction(b""), None);
    }
}
