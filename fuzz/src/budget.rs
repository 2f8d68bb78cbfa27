//! How much memory and time a decoder may take: so much for each byte of its input, and a little to begin with.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::LazyLock,
    time::Duration,
};

/// Bytes for each byte of input, and for the beginning.
pub const MEMORY_PER_BYTE: usize = 64;
const MEMORY_FLOOR: usize = 1 << 20;

/// Processor time for the beginning, and for each byte of input as a multiple of what it takes to parse a byte of JSON on this
/// machine and in this build: generous, for quadratic work exceeds it all the same.
const TIME_FLOOR: Duration = Duration::from_millis(200);
const TIME_PER_BYTE: u32 = 200;

/// Bytes of JSON that are parsed for comparison.
const YARDSTICK_BYTES: u32 = 1 << 18;

/// How long they take.
static YARDSTICK: LazyLock<Duration> = LazyLock::new(|| {
    let text = format!("[{}]", "{\"name\":[1,true]},".repeat(YARDSTICK_BYTES as usize / 18).trim_end_matches(','));
    let parse = |_| {
        let begun = processor_time();
        drop(serde_json::from_str::<serde_json::Value>(&text).expect("JSON"));
        processor_time().saturating_sub(begun)
    };
    (0..5).map(parse).min().unwrap_or_default()
});

thread_local! {
    // Less than nothing where a thread gives back what another one took.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, and how much each thread holds of it.
pub struct Counting;

fn count(taken: usize, given_back: usize) {
    // A thread that ends has no counters any more.
    let _ = HELD.try_with(|held| {
        let now = held.get().wrapping_add_unsigned(taken).wrapping_sub_unsigned(given_back);
        held.set(now);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now)));
    });
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Does `work` on an input of `length` bytes, and panics when it takes more than it may.
pub fn hold<T>(length: usize, work: impl FnOnce() -> T) -> T {
    LazyLock::force(&YARDSTICK);
    let before = HELD.with(Cell::get);
    PEAK.with(|peak| peak.set(before));
    let begun = processor_time();
    let result = work();
    let took = processor_time().saturating_sub(begun);
    let peak = PEAK.with(Cell::get).saturating_sub(before).unsigned_abs();
    let most = MEMORY_FLOOR + MEMORY_PER_BYTE * length;
    assert!(peak <= most, "{length} bytes took {peak} bytes of memory, and may take {most}");
    let longest = TIME_FLOOR + *YARDSTICK * TIME_PER_BYTE * u32::try_from(length).unwrap_or(u32::MAX) / YARDSTICK_BYTES;
    assert!(took <= longest, "{length} bytes took {took:?}, and may take {longest:?}");
    result
}

/// The time that this thread has run: others on the machine do not count.
pub fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure lives as long as the call.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(failed, 0, "a thread has a clock");
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).expect("less than a second"))
}
