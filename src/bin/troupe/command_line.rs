//! The command line as everybody on the machine can read it in `/proc`, for as long as this program runs.

use std::{fs, ptr, slice};

/// Writes over the value of an option that is a secret, such as `--token`. Call it before there are other threads.
pub fn hide(option: &str) {
    let Some((start, length)) = place() else { return tracing::debug!("the command line stays as it is") };
    // SAFETY: the kernel put the arguments there, this process may write them, and nobody else looks at them now.
    cover(unsafe { slice::from_raw_parts_mut(ptr::with_exposed_provenance_mut(start), length) }, option);
}

/// Where the arguments are, and how long they are.
fn place() -> Option<(usize, usize)> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // The name in brackets may have anything in it; what follows is the third field, `arg_start` the 48th.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |field: usize| fields.get(field - 3)?.parse::<usize>().ok().filter(|number| *number > 0);
    let (start, end) = (number(48)?, number(49)?);
    (start < end).then_some((start, end - start))
}

/// Covers the option's value among words that each end with a zero byte.
fn cover(line: &mut [u8], option: &str) {
    let mut is_value = false;
    for word in line.split_mut(|byte| *byte == 0) {
        let from = match word.strip_prefix(option.as_bytes()) {
            Some([b'=', ..]) => Some(option.len() + 1),
            _ => is_value.then_some(0),
        };
        is_value = word == option.as_bytes();
        if let Some(from) = from {
            word[from..].fill(b'*');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_secret_is_covered() {
        for (line, want) in [
            ("troupe\0node\0--token\0abc.def\0--join\0x\0", "troupe\0node\0--token\0*******\0--join\0x\0"),
            ("troupe\0--token=abc\0--tokens\0x", "troupe\0--token=***\0--tokens\0x"),
            ("troupe\0node\0", "troupe\0node\0"),
        ] {
            let mut bytes = line.as_bytes().to_vec();
            cover(&mut bytes, "--token");
            assert_eq!(String::from_utf8_lossy(&bytes), want);
        }
    }

    #[test]
    fn the_command_line_is_found() {
        let (_, length) = place().expect("the kernel tells");
        assert_eq!(length, fs::read("/proc/self/cmdline").expect("reads").len());
    }
}
