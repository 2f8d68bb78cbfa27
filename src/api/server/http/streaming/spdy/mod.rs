//! As much of SPDY/3.1 as a client of exec and attach needs: it opens streams, sends and receives data.
//!
//! Header blocks go out as stored deflate blocks without the preset dictionary, which every reader of zlib takes;
//! header blocks that come in tell such a client nothing and stay unread. There are no flow-control windows: no
//! server of this protocol keeps any.

mod read;
mod write;

pub use read::{Frame, FrameReader};
pub use write::Writer;
