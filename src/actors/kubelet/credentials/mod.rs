//! Credentials that images are pulled with: those of a pod's `imagePullSecrets`, and what credential providers of this node know
//! (KEP-2133), each with where it comes from.
//!
//! [`secrets`] and [`provider`] fill a [`Keyring`], which tells what is for an image. An image is asked for by its whole repository without
//! tag or digest, such as `docker.io/library/busybox`.

pub mod keyring;
mod matching;
pub mod model;
pub mod provider;
pub mod secrets;

pub use self::{
    keyring::Keyring,
    model::{Coordinates, Credential, Source},
};
