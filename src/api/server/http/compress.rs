//! gzip for clients that ask for it and bodies that are worth it.

use std::io::{Read, Write};

use actix_web::{HttpMessage, HttpRequest, http::header};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};

/// Smaller bodies are sent as they are, as upstream does.
pub const MIN_GZIP: usize = 128 * 1024;

/// Noted on a request whose answer goes out as it is, whatever its client takes.
pub struct Uncompressed;

/// Whether the client takes gzip, and gets it.
pub fn takes_gzip(request: &HttpRequest) -> bool {
    if request.extensions().contains::<Uncompressed>() {
        return false;
    }
    let accepted = request.headers().get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or("");
    // As upstream: with a quality or as `*` it does not count.
    accepted.split(',').any(|coding| coding.trim() == "gzip")
}

/// A gzip stream that gives out what it has at any time.
pub struct Gzip(GzEncoder<Vec<u8>>);

impl Gzip {
    pub fn new() -> Self {
        Gzip(GzEncoder::new(Vec::new(), Compression::fast()))
    }

    /// Compresses `data`; the result may be empty.
    pub fn feed(&mut self, data: &[u8]) -> Vec<u8> {
        self.0.write_all(data).expect("writing to memory succeeds");
        std::mem::take(self.0.get_mut())
    }

    /// The end of the stream.
    pub fn finish(self) -> Vec<u8> {
        self.0.finish().expect("writing to memory succeeds")
    }
}

/// A whole body, compressed.
pub fn gzipped(data: &[u8]) -> Vec<u8> {
    let mut gzip = Gzip::new();
    let mut out = gzip.feed(data);
    out.extend(gzip.finish());
    out
}

/// What was compressed here.
pub fn gunzipped(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    GzDecoder::new(data).read_to_end(&mut out).expect("we compressed it ourselves");
    out
}
