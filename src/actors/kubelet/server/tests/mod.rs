//! The server behind a real API server, before a real containerd, asked by the real kubectl.

mod admitted;
mod commands;
mod log_sockets;
mod logs;
mod world;
