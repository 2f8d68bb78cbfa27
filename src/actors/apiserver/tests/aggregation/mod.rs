//! API services on the whole server: an extension server over TLS behind a real front door.

mod controllers;
mod extension;
mod local;
mod metrics;
mod passing;
mod paused;
mod published;
