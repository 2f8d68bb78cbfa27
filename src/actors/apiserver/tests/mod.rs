//! The server on the in-memory store, called as the HTTP edge calls it.

mod admission;
mod authorization;
mod bootstrap;
mod claims;
mod components;
mod conversion;
mod custom;
mod deletion;
mod edge;
mod feed;
mod golden;
mod health;
mod nodes;
mod pages;
mod pod_security;
mod policies;
mod quota;
mod reads;
mod replicas;
mod room;
mod services;
mod subresources;
mod supervision;
mod webhooks;
mod writes;
