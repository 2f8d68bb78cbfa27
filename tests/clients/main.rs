//! Clients that people use against an API server in this process, each through its first minute: make, read, watch, apply, wait, delete.
//!
//! Needs kubectl and python3 with venv; the first run installs the Python client below `$CARGO_TARGET_DIR`.

mod control_plane;
mod kubectl;
mod python;
mod typed;
