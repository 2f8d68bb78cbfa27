//! Replies of these servers.

use std::convert::Infallible;

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Response, StatusCode,
    body::Frame,
    header::{CONTENT_TYPE, HeaderValue},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Any reply's body.
pub type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// A whole body.
pub fn whole(content: impl Into<Bytes>) -> Body {
    Full::new(content.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// A reply with a whole body.
pub fn document(code: u16, content_type: &'static str, content: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(whole(content));
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A plain text.
pub fn text(code: u16, content: impl Into<String>) -> Response<Body> {
    document(code, "text/plain; charset=utf-8", content.into())
}

/// A text that goes on as long as the channel gives.
pub fn streaming(chunks: mpsc::Receiver<Bytes>) -> Response<Body> {
    let frames = ReceiverStream::new(chunks).map(|chunk| Ok(Frame::data(chunk)));
    let mut response = Response::new(StreamBody::new(frames).boxed_unsync());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
