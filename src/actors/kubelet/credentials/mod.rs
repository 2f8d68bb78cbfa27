//! Credentials that images are pulled with: those of a pod's `imagePullSecrets`, those in configurations of clients on this node, and what credential
//! providers of it know (KEP-2133), each with where it comes from.
//!
//! [`secrets`], [`clients`] and [`provider`] fill a [`Keyring`], which tells what is for an image. An image is asked for by its whole repository without
//! tag or digest, such as `docker.io/library/busybox`.

pub mod clients;
pub mod keyring;
mod matching;
pub mod model;
pub mod provider;
pub mod secrets;

pub use self::{
    keyring::Keyring,
    model::{Coordinates, Credential, Source},
};
