//! Panics as log lines. To put names to a backtrace takes the better part of a second in a large program, and the thread
//! that panicked carries other actors: a thread of its own does it.

use std::{any::Any, backtrace::Backtrace};

/// Logs every panic of the process from now on, with a backtrace where `RUST_BACKTRACE` asks for one.
pub fn log_panics() {
    let backtraces = std::env::var_os("RUST_BACKTRACE").is_some_and(|value| value != "0");
    std::panic::set_hook(Box::new(move |panic| {
        let location = panic.location().map(ToString::to_string).unwrap_or_default();
        let thread = std::thread::current();
        tracing::error!(location, thread = thread.name().unwrap_or_default(), panic = panic_text(panic.payload()), "panicked");
        if backtraces {
            // Only addresses here; they are resolved when printed.
            let backtrace = Backtrace::force_capture();
            let print = move || tracing::error!(location, "backtrace of the panic\n{backtrace}");
            if let Err(error) = std::thread::Builder::new().name("backtrace".into()).spawn(print) {
                tracing::error!(%error, "no thread for the backtrace");
            }
        }
    }));
}

/// The text of a panic's payload.
pub(crate) fn panic_text(panic: &dyn Any) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "panic without a message".to_owned())
}
