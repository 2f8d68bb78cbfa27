//! The targets by name.

mod credentials;
mod documents;
mod expressions;
mod network;
mod patches;
mod requests;
mod rules;
mod streams;
mod texts;

use std::{
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

/// One target.
#[derive(Clone, Copy)]
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
}

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// All of them.
pub static TARGETS: [Target; 29] = [
    target("apply", patches::apply),
    target("backup", streams::backup),
    target("conversion_answer", documents::conversion_answer),
    target("cron", texts::cron),
    target("csr", credentials::csr),
    target("delete_options", documents::delete_options),
    target("dns", network::dns),
    target("expressions", expressions::expressions),
    target("field_selector", texts::field_selector),
    target("iptables_save", network::iptables_save),
    target("json", documents::json),
    target("json_patch", patches::json_patch),
    target("jwt", credentials::jwt),
    target("label_selector", texts::label_selector),
    target("managed_fields", patches::managed_fields),
    target("merge_patch", patches::merge_patch),
    target("pod_security", rules::pod_security),
    target("protobuf", documents::protobuf),
    target("quantity", texts::quantity),
    target("request", requests::request),
    target("resolv", network::resolv),
    target("spdy", streams::spdy),
    target("stored", documents::stored),
    target("strategic_patch", patches::strategic_patch),
    target("validation", rules::validation),
    target("webhook_answer", documents::webhook_answer),
    target("websocket", streams::websocket),
    target("x509", credentials::x509),
    target("yaml", documents::yaml),
];

/// Runs the target of this name.
///
/// # Panics
/// When there is none, or when it finds something.
pub fn run(name: &str, data: &[u8]) {
    let found = TARGETS.iter().find(|target| target.name == name);
    (found.expect("a target of this name").run)(data);
}

/// The outcome of what has nothing to wait for.
fn at_once<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(done) => done,
        Poll::Pending => unreachable!("bytes in memory are there"),
    }
}
