//! Custom resources whose versions a webhook converts, on the whole server.

mod admission;
mod failures;
mod ownership;
mod reads;
mod sites;
mod watches;
mod writes;
