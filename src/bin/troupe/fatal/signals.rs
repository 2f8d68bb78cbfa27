//! Signals that end a process for what it did: the line is written, then the signal takes its course.
//!
//! Rust's own handler, which tells of overflown stacks, is asked afterwards. It also gives each thread the alternate stack
//! that a handler needs when the thread's own has no room left.

use std::{mem::MaybeUninit, sync::OnceLock};

use troupe_actors::runtime::doing;

use super::{add_last, line::Line, say};

const FATAL: [(libc::c_int, &str); 6] = [
    (libc::SIGSEGV, "SIGSEGV"),
    (libc::SIGBUS, "SIGBUS"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGILL, "SIGILL"),
    (libc::SIGFPE, "SIGFPE"),
    (libc::SIGSYS, "SIGSYS"),
];
/// A fault so near to the end of the stack in use is an overflow of it.
const NEAR: usize = 64 * 1024;

/// What was done about each of them before.
static BEFORE: OnceLock<[Option<libc::sigaction>; FATAL.len()]> = OnceLock::new();

/// Handles them from now on.
pub(super) fn handle() -> std::io::Result<()> {
    let mut action: libc::sigaction = empty();
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = on_signal;
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    let mut before = [None; FATAL.len()];
    for (place, (signal, _)) in before.iter_mut().zip(FATAL) {
        let mut old = empty();
        // SAFETY: both point to whole values, and the handler does only what handlers may.
        if unsafe { libc::sigaction(signal, &raw const action, &raw mut old) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        *place = Some(old);
    }
    // A second call of this function has nothing new to say.
    let _ = BEFORE.set(before);
    Ok(())
}

fn empty() -> libc::sigaction {
    // SAFETY: all zeros is the default action with an empty mask.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

extern "C" fn on_signal(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel hands over a whole siginfo_t.
    let (code, address, sender) = unsafe { ((*info).si_code, (*info).si_addr() as usize, (*info).si_pid()) };
    // A fault of this thread, not a signal that somebody sent.
    let fault = code > 0;
    let mut line = Line::begin();
    let name = FATAL.iter().find(|(known, _)| *known == signal).map_or("a signal", |(_, name)| name);
    line.text(name);
    if fault && matches!(signal, libc::SIGSEGV | libc::SIGBUS) {
        line.text(" at ");
        line.address(address);
        if stack_pointer(context).is_some_and(|top| top.abs_diff(address) < NEAR) {
            line.text(", stack overflow");
        }
    } else if !fault && u32::try_from(sender).is_ok_and(|sender| sender != std::process::id()) {
        line.text(", sent by process ");
        line.number(u64::try_from(sender).unwrap_or(0));
    }
    line.text(", in thread ");
    thread_name(&mut line);
    doing::tell(|path, message| {
        line.text(" while ");
        line.text(path);
        line.text(" handled ");
        line.text(message);
    });
    add_last(&mut line);
    say(&line);
    go_on(signal, fault, info, context);
}

fn thread_name(line: &mut Line) {
    let mut name = [0_u8; 16];
    // SAFETY: the kernel writes at most 16 bytes, zero included.
    unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    name.iter().take_while(|byte| **byte != 0).for_each(|byte| line.byte(*byte));
}

/// Where the stack of the thread ended when the signal came.
fn stack_pointer(context: *mut libc::c_void) -> Option<usize> {
    let context = context.cast::<libc::ucontext_t>();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the kernel hands over a whole ucontext_t.
    let pointer = unsafe { (*context).uc_mcontext.gregs[libc::REG_RSP as usize] as usize };
    #[cfg(target_arch = "aarch64")]
    // SAFETY: likewise.
    let pointer = unsafe { (*context).uc_mcontext.sp as usize };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let pointer = 0;
    Some(pointer).filter(|pointer| *pointer != 0)
}

/// Lets the signal do what it did before, which ends the process.
fn go_on(signal: libc::c_int, fault: bool, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let place = FATAL.iter().position(|(known, _)| *known == signal);
    let before = place.and_then(|place| BEFORE.get().and_then(|all| all[place]));
    if let Some(before) = before.filter(|before| fault && before.sa_flags & libc::SA_SIGINFO != 0 && before.sa_sigaction > libc::SIG_IGN) {
        // SAFETY: it was a handler with these arguments.
        let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = unsafe { std::mem::transmute(before.sa_sigaction) };
        // It ends the process, or lets the fault happen again without a handler.
        return handler(signal, info, context);
    }
    // SAFETY: the default action runs no code of ours; the signal comes when this handler returns.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
    }
}
