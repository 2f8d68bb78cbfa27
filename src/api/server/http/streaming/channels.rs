//! WebSocket v5 of exec and attach, translated to SPDY towards the kubelet.
//!
//! Each message begins with its channel's number: 0 stdin, 1 stdout, 2 stderr, 3 status, 4 terminal size; 255 closes
//! the channel that its next byte names. Each channel is a SPDY stream at the other side.

use std::{io, time::Duration};

use actix_web::{
    HttpResponse,
    rt::{spawn, time::timeout},
};
use actix_ws::{CloseCode, Session};
use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{AsyncWriteExt, WriteHalf, split},
    sync::{Mutex, Notify},
};
use troupe_api::status::Status;

use super::{
    kind::V5,
    pieces::{Piece, Pieces},
    proxy::gone,
    spdy::{Frame, FrameReader, Writer},
    upgrade::{KubeletStream, StreamPlace},
};
use crate::http::{connect::ConnectRequest, connections::PeerSocket, stream_options::StreamOptions};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const STATUS: u8 = 3;
const RESIZE: u8 = 4;
const CLOSE: u8 = 255;

const LONGEST_STATUS: usize = 1 << 20;
/// A client has this long to answer our close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// A client whose input nobody takes is asked so often whether it is still there. Some stop reading for a second to answer.
const ASK_AFTER: Duration = Duration::from_secs(10);
const SUCCESS: &[u8] = br#"{"metadata":{},"status":"Success"}"#;

/// Accepts the WebSocket; the translation goes on by itself. What fails from here on is told on the status channel.
///
/// # Errors
/// 400 when the handshake is malformed.
pub async fn serve(request: ConnectRequest, place: StreamPlace, options: StreamOptions) -> Result<HttpResponse, Status> {
    let left = gone(&request);
    let (response, session, pieces) = super::pieces::accept(&request.request, request.payload, Some(V5)).await?;
    spawn(run(session, pieces, place, options, left));
    Ok(response)
}

async fn run(mut session: Session, mut pieces: Pieces, place: StreamPlace, options: StreamOptions, left: impl Future<Output = ()>) {
    let ended = match translate(&mut session, &mut pieces, &place, &options, left).await {
        Ok(Some(status)) => status,
        Ok(None) => return,
        Err(status) => Bytes::from(status.to_text()),
    };
    let told = session.binary(message(STATUS, &ended)).await.is_ok();
    if told && session.close(Some(CloseCode::Normal.into())).await.is_ok() {
        let _ = timeout(CLOSE_TIMEOUT, async { while let Ok(Some(_)) = pieces.next().await {} }).await;
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

/// Translates until either side ends: the kubelet with a status, the client with nothing. It has also when it `left`, although what it sent
/// last waits for a command that reads nothing.
async fn translate(
    session: &mut Session,
    pieces: &mut Pieces,
    place: &StreamPlace,
    options: &StreamOptions,
    left: impl Future<Output = ()>,
) -> Result<Option<Bytes>, Status> {
    let channels = channels(options);
    // Tells the client that the connection stands.
    let first = [STDOUT, STDERR, STATUS].into_iter().find(|number| channels.iter().any(|channel| channel.number == *number));
    if session.binary(message(first.unwrap_or(STATUS), b"")).await.is_err() {
        return Ok(None);
    }
    let (stream, _, kubelet) = place.spdy(&["v4.channel.k8s.io".to_owned()]).await.map_err(Status::internal)?;
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
        () = until_client_ends(inward(pieces, session, &channels, &output, &ready)) => Ok(None),
        () = left => {
            kubelet.into_iter().for_each(PeerSocket::break_on_close);
            Ok(None)
        }
    }
}

/// Which side has what clients send end.
#[derive(Debug)]
enum Broken {
    Client(io::Error),
    Kubelet(io::Error),
}

/// Ends with the client. A command that takes no more input may still have its output and its status on the way.
async fn until_client_ends(inward: impl Future<Output = Result<(), Broken>>) {
    match inward.await {
        Ok(()) => {}
        Err(Broken::Client(error)) => tracing::debug!(%error, "a client's stream broke"),
        Err(Broken::Kubelet(error)) => {
            tracing::debug!(%error, "a command takes no more input");
            std::future::pending().await
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
            let next = match self.frames.next().await {
                // What it said before its side broke stands.
                Err(error) if status.is_empty() => return Err(error),
                Err(_) => break,
                Ok(next) => next,
            };
            match next {
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
    pieces: &mut Pieces,
    session: &Session,
    channels: &[Channel],
    output: &Mutex<WriteHalf<KubeletStream>>,
    ready: &Notify,
) -> Result<(), Broken> {
    let mut session = session.clone();
    let mut message = Message::default();
    // Data before a stream is taken would be lost.
    ready.notified().await;
    while let Some(piece) = pieces.next().await.map_err(Broken::Client)? {
        let (begins, data) = match piece {
            Piece::Data { begins, data, .. } => (begins, data),
            Piece::Ping(data) => {
                session.pong(&data).await.map_err(|_| client_gone())?;
                continue;
            }
            Piece::Pong => continue,
            Piece::Close => return Ok(()),
        };
        if begins {
            message = Message::default();
        }
        if let Some((number, data, fin)) = message.instruction(data)
            && let Some(channel) = channels.iter().find(|channel| channel.number == number)
        {
            let head = Writer::data_head(channel.stream, data.len(), fin);
            asking(&mut session, send(output, &head, &data)).await?;
        }
    }
    Ok(())
}

/// Waits for the command to take what the client sent, and meanwhile asks the client now and then: what it says is not read, but one that is
/// gone with more to send does not answer even the kernel otherwise.
async fn asking(session: &mut Session, sending: impl Future<Output = io::Result<()>>) -> Result<(), Broken> {
    let mut sending = std::pin::pin!(sending);
    loop {
        match timeout(ASK_AFTER, &mut sending).await {
            Ok(sent) => return sent.map_err(Broken::Kubelet),
            Err(_) => session.ping(b"").await.map_err(|_| client_gone())?,
        }
    }
}

fn client_gone() -> Broken {
    Broken::Client(io::ErrorKind::BrokenPipe.into())
}

/// What is known of the client's message so far.
#[derive(Debug, Default)]
struct Message {
    channel: Option<u8>,
}

impl Message {
    /// What the next piece of a message means: a channel that the client may write to, data, and whether the channel ends.
    fn instruction(&mut self, mut data: Bytes) -> Option<(u8, Bytes, bool)> {
        if self.channel.is_none() && data.has_remaining() {
            self.channel = Some(data.get_u8());
        }
        // An empty piece means nothing, yet some clients send one first.
        let first = *data.first()?;
        match self.channel? {
            CLOSE => {
                // What else the message holds means nothing.
                self.channel = Some(STATUS);
                matches!(first, STDIN | RESIZE).then(|| (first, Bytes::new(), true))
            }
            number @ (STDIN | RESIZE) => Some((number, data, false)),
            _ => None,
        }
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
        let all = |pieces: &[&'static [u8]]| {
            let mut message = Message::default();
            pieces.iter().filter_map(|piece| message.instruction(Bytes::from_static(piece))).collect::<Vec<_>>()
        };
        let data = |text: &'static str| (STDIN, Bytes::from_static(text.as_bytes()), false);
        assert_eq!(all(&[b"\x00hi"]), [data("hi")]);
        assert_eq!(all(&[b"\x00", b"h", b"\x01"]), [data("h"), data("\u{1}")]);
        for pieces in [&[&b"\xff\x00"[..]][..], &[b"\xff", b"\x00"], &[b"", b"\xff", b"", b"\x00\x04", b"\x00"]] {
            assert_eq!(all(pieces), [(STDIN, Bytes::new(), true)], "{pieces:?}");
        }
        for pieces in [&[&b"\x00"[..]][..], &[b"\x01out"], &[b"\xff\x01"], &[b""], &[]] {
            assert_eq!(all(pieces), [], "{pieces:?}");
        }
    }
}
