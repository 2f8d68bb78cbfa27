//! Bootstrap tokens: signing `kube-public/cluster-info` with each of them, and removing those whose time is over.

mod signer;
mod token_cleaner;

pub use self::{signer::BootstrapSigner, token_cleaner::TokenCleaner};
