//! The server on the in-memory store, called as the HTTP edge calls it.

mod admission;
mod authorization;
mod bootstrap;
mod components;
mod deletion;
mod feed;
mod golden;
mod health;
mod nodes;
mod pages;
mod quota;
mod reads;
mod replicas;
mod services;
mod subresources;
mod supervision;
mod writes;
