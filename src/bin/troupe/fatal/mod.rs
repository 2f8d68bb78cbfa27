//! The last words of a daemon that dies: one line in its log and in its file of fatal ends, such as
//! `/var/lib/troupe/troupe.fatal.log`.
//!
//! A signal handler may neither allocate nor lock. What went wrong last is therefore kept in fixed memory as it happens
//! (panics, and errors that were logged), and the line is put together on the stack.

mod line;
mod signals;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    os::{fd::IntoRawFd, unix::fs::OpenOptionsExt},
    path::Path,
    sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicUsize, Ordering::Relaxed},
};

use anyhow::{Context, Result};
use tracing::{Event, Level, Subscriber, field::Visit};
use tracing_subscriber::layer::{Context as LayerContext, Layer};

use self::line::Line;

/// The file begins anew when it is longer.
const LONGEST: u64 = 256 * 1024;

/// The descriptor of the file.
static FILE: AtomicI32 = AtomicI32::new(-1);
/// Somebody has had the last word, or the process ends in good order.
static TOLD: AtomicBool = AtomicBool::new(false);
/// What went wrong last.
static LAST: [AtomicU8; 320] = [const { AtomicU8::new(0) }; 320];
static LAST_LENGTH: AtomicUsize = AtomicUsize::new(0);

/// From now on the process tells in this file why it dies.
///
/// # Errors
/// When the file cannot be opened or a handler cannot be set.
pub fn tell_in(path: &Path) -> Result<()> {
    if fs::metadata(path).is_ok_and(|file| file.len() > LONGEST) {
        fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    let file = File::options().create(true).append(true).mode(0o600).open(path).with_context(|| format!("cannot open {}", path.display()))?;
    // It stays open until the very end.
    FILE.store(file.into_raw_fd(), Relaxed);
    signals::handle().context("cannot handle fatal signals")?;
    // SAFETY: the function has the right type and unwinds never.
    unsafe { libc::atexit(at_exit) };
    Ok(())
}

/// The process ends in good order, or its end is told elsewhere.
pub fn nothing_to_tell() {
    TOLD.store(true, Relaxed);
}

/// What went wrong last, if anything did.
pub fn last() -> Option<String> {
    let length = LAST_LENGTH.load(Relaxed).min(LAST.len());
    let bytes: Vec<u8> = LAST[..length].iter().map(|byte| byte.load(Relaxed)).collect();
    Some(String::from_utf8_lossy(&bytes).into_owned()).filter(|text| !text.is_empty())
}

/// Keeps what went wrong. Two threads at once may mix their words; nobody waits.
fn remember(text: &str) {
    LAST_LENGTH.store(0, Relaxed);
    let words = text.bytes().map(|byte| if byte.is_ascii_control() { b' ' } else { byte });
    let mut length = 0;
    for (place, byte) in LAST.iter().zip(words) {
        place.store(byte, Relaxed);
        length += 1;
    }
    LAST_LENGTH.store(length, Relaxed);
}

/// Keeps every panic's message and place, besides what is done about panics already.
pub fn remember_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        before(panic);
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        remember(&format!("panicked at {place}: {text}"));
    }));
}

/// Keeps the last error that was logged.
pub struct LastError;

impl<S: Subscriber> Layer<S> for LastError {
    fn on_event(&self, event: &Event<'_>, _context: LayerContext<'_, S>) {
        if *event.metadata().level() == Level::ERROR {
            let mut words = Words::default();
            event.record(&mut words);
            remember(&format!("{}{}", words.message, words.fields));
        }
    }
}

#[derive(Default)]
struct Words {
    message: String,
    fields: String,
}

impl Visit for Words {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        } else {
            self.fields.push_str(&format!(", {}: {value:?}", field.name()));
        }
    }
}

/// Runs when some part of the program ends the process by itself, such as the store after a failed fsync.
extern "C" fn at_exit() {
    let mut line = Line::begin();
    line.text("the process ended itself");
    add_last(&mut line);
    say(&line);
}

fn add_last(line: &mut Line) {
    let length = LAST_LENGTH.load(Relaxed).min(LAST.len());
    if length > 0 {
        line.text("; went wrong last: ");
        LAST[..length].iter().for_each(|byte| line.byte(byte.load(Relaxed)));
    }
}

/// Writes the line to the file and to the log; only the first one of a process, which tells most. Safe in a signal handler.
fn say(line: &Line) {
    let file = FILE.load(Relaxed);
    if file < 0 || TOLD.swap(true, Relaxed) {
        return;
    }
    for descriptor in [file, libc::STDERR_FILENO] {
        let bytes = line.bytes();
        // SAFETY: the bytes live as long as the call. Nothing can be done about a failure now.
        let _ = unsafe { libc::write(descriptor, bytes.as_ptr().cast(), bytes.len()) };
    }
}
