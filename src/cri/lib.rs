//! CRI v1: the [`Runtime`] that the kubelet needs, a client over the runtime's socket, the pure translation of pod
//! specs into CRI requests, and a recording fake.
//!
//! Comes in: pod specs of the API. Goes out: calls of `runtime.v1.RuntimeService` and `ImageService`. Nothing here
//! decides anything about a pod's life: that is the kubelet's.

pub mod container;
pub mod expand;
pub mod fake;
pub mod features;
pub mod grpc;
pub mod memory_rules;
pub mod mounts;
pub mod names;
pub mod proto;
pub mod quantity;
pub mod resources;
pub mod runtime;
pub mod sandbox;
pub mod security;
pub mod stop_signal;

pub use fake::FakeRuntime;
pub use features::RuntimeFeatures;
pub use grpc::GrpcRuntime;
pub use runtime::{CriError, ExecOutput, Runtime};
