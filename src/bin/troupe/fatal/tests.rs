use std::process::Command;

use super::*;

/// How the child of a test is to die, and where it tells of it.
const WAY: &str = "TROUPE_TEST_DEATH";
const FILE_OF_CHILD: &str = "TROUPE_TEST_FATAL_FILE";

/// Lets a process die in a way and gives what it wrote.
fn fatal_message(way: &str) -> String {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("fatal.log");
    let mut child = Command::new(std::env::current_exe().expect("this program"));
    child.args(["--exact", "fatal::tests::dies_as_it_is_told", "--ignored", "--nocapture"]).env(WAY, way).env(FILE_OF_CHILD, &file);
    let output = child.output().expect("it runs");
    assert!(!output.status.success(), "{way}: {}", String::from_utf8_lossy(&output.stderr));
    let said = fs::read_to_string(&file).expect("a file");
    assert!(String::from_utf8_lossy(&output.stderr).contains(said.trim()), "the log has it too: {said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

#[test]
#[ignore = "it dies: other tests start it in a process of its own"]
fn dies_as_it_is_told() {
    let Some(file) = std::env::var_os(FILE_OF_CHILD) else { return };
    tell_in(Path::new(&file)).expect("opens");
    remember_panics();
    let way = std::env::var(WAY).unwrap_or_default();
    let die = move || match &*way {
        "overflow" => println!("{}", deep(1)),
        "null" => {
            // SAFETY: none; that is the point.
            unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(1) }
        }
        "abort" => {
            let _ = std::panic::catch_unwind(|| panic!("a word before the end"));
            std::process::abort();
        }
        _ => {
            let _ = std::panic::catch_unwind(|| panic!("a word before the end"));
            std::process::exit(3);
        }
    };
    let _ = std::thread::Builder::new().name("deep".into()).spawn(die).expect("starts").join();
}

#[expect(unconditional_recursion, reason = "the stack is to overflow")]
fn deep(level: u64) -> u64 {
    let space = std::hint::black_box([level; 64]);
    deep(level + 1) + space[1]
}

#[test]
fn a_stack_overflow_is_told_as_such() {
    let said = fatal_message("overflow");
    assert!(said.contains("SIGSEGV at 0x") && said.contains(", stack overflow, in thread deep"), "{said}");
}

#[test]
fn a_wild_pointer_is_told_with_its_address() {
    let said = fatal_message("null");
    assert!(said.contains("SIGSEGV at 0x8, in thread deep"), "{said}");
}

#[test]
fn an_abort_is_told_with_the_panic_before_it() {
    let said = fatal_message("abort");
    assert!(said.contains("SIGABRT, in thread deep; went wrong last: panicked at src/bin/troupe/fatal/tests.rs:"), "{said}");
    assert!(said.contains("a word before the end"), "{said}");
}

#[test]
fn an_exit_of_its_own_is_told_too() {
    let said = fatal_message("exit");
    assert!(said.contains("the process ended itself; went wrong last: panicked at"), "{said}");
}

#[test]
fn what_went_wrong_last_is_kept_on_one_line() {
    remember("first");
    remember(&format!("second\nline {}", "x".repeat(1000)));
    let last = last().expect("something went wrong");
    assert!(last.starts_with("second line xxx") && last.len() == LAST.len(), "{last}");
}
