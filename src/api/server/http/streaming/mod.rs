//! Connections between clients and kubelets: logs, exec, attach, port-forward; and proxies of pods, services and nodes.
//!
//! A connect request comes in after authorization; the pod's node is looked up, its kubelet dialled over mutual TLS,
//! and bytes go to and fro. Nothing is buffered beyond a few chunks, and dropping one side ends the other.

pub(crate) mod backend;
mod channels;
pub mod client;
pub mod connect;
pub mod dialer;
pub(crate) mod kind;
pub mod log_options;
mod log_socket;
mod logs;
pub(super) mod pieces;
pub mod places;
mod proxy;
mod remote;
mod spdy;
mod tunnel;
mod turns;
pub mod upgrade;

pub use super::stream_options::{StreamOptions, escaped, query_value, query_values};
pub use connect::KubeletConnect;
pub use dialer::KubeletDialer;
pub use log_options::{LogOptions, LogStream};
pub use logs::COLLECTORS;
#[doc(hidden)]
pub use pieces::{Piece, Pieces};
#[doc(hidden)]
pub use spdy::{Frame, FrameReader};
