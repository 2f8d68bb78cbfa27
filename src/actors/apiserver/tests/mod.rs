//! The server on the in-memory store, called as the HTTP edge calls it.

mod reads;
mod writes;
