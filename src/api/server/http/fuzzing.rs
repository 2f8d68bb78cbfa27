//! Decoders behind the front door that nobody but the crate in `fuzz/` calls from outside.

pub use super::{
    body::InputFormat,
    delete_options::delete_options,
    list_options::{list_options, watch_options},
    query::Query,
    streaming::{Frame, FrameReader, Piece, Pieces},
};
pub use troupe_api::protobuf::{document, to_json};
