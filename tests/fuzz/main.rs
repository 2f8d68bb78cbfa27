//! Replays the corpus of `fuzz/`, and variations of it, without the fuzzer: what once was found stays mended.

use std::{fs, path::Path};

use fuzz::{TARGETS, budget, run};
use rand::{Rng, SeedableRng, rngs::StdRng};

#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

/// Variations of each input.
const VARIATIONS: usize = 50;

/// The inputs of a target by their file names, in order.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = fs::read_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
    let mut inputs: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("a readable directory").path();
            (path.display().to_string(), fs::read(&path).expect("a readable input"))
        })
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{target} has no corpus");
    inputs
}

/// Cuts, repeats, exchanges or overwrites a part.
fn varied(input: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let mut varied = input.to_vec();
    if varied.is_empty() {
        return varied;
    }
    let begin = rng.random_range(0..varied.len());
    let end = rng.random_range(begin..=varied.len().min(begin + 64));
    match rng.random_range(0..4) {
        0 => drop(varied.drain(begin..end)),
        1 => {
            let part = varied[begin..end].repeat(rng.random_range(1..20));
            varied.splice(begin..begin, part);
        }
        2 => varied[begin..end].reverse(),
        _ => varied[begin] = rng.random(),
    }
    varied
}

/// Runs a target and names the input where it finds something. What an input costs, it costs each time; what a busy machine adds, it does not.
fn replay(target: &str, name: &str, input: &[u8]) {
    if (0..3).all(|_| std::panic::catch_unwind(|| run(target, input)).is_err()) {
        panic!("{target}: {name}, as {:?}", String::from_utf8_lossy(input));
    }
}

#[test]
fn every_input_keeps_within_its_budget_and_so_do_its_variations() {
    let mut rng = StdRng::seed_from_u64(1);
    for target in TARGETS {
        for (name, input) in corpus(target.name) {
            replay(target.name, &name, &input);
            for _ in 0..VARIATIONS {
                replay(target.name, &name, &varied(&input, &mut rng));
            }
        }
    }
}

#[test]
fn every_target_is_a_program_of_the_fuzzer_and_the_other_way_round() {
    let manifest = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/Cargo.toml")).expect("a manifest");
    let programs: Vec<&str> = manifest.lines().filter_map(|line| line.strip_prefix("path = \"fuzz_targets/")?.strip_suffix(".rs\"")).collect();
    assert_eq!(programs, TARGETS.map(|target| target.name));
}

#[test]
#[should_panic(expected = "bytes of memory")]
fn a_budget_is_kept_for_memory() {
    budget::hold(10, || drop(vec![1_u8; 4 << 20]));
}

#[test]
#[should_panic(expected = "and may take")]
fn a_budget_is_kept_for_time() {
    budget::hold(10, || {
        let enough = budget::processor_time() + std::time::Duration::from_secs(1);
        while budget::processor_time() < enough {
            std::hint::spin_loop();
        }
    });
}
