//! Replays the corpora of the fuzzers. To keep an input that a fuzzer found, add it as a file to
//! `tests/fuzz/corpus/TARGET/`. `tests/fuzz/Cargo.toml` describes how to run the fuzzers.
//!
//! Without cargo-fuzz or a nightly compiler, blind mutation is a weak substitute. It takes half a minute
//! per target:
//!
//! ```sh
//! cargo test --test fuzz_replay -- --ignored --nocapture
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    unreachable_pub,
    missing_docs,
    reason = "tests"
)]

#[path = "fuzz/src/lib.rs"]
mod fuzz;

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target);
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(paths.len() >= 8, "{target} has seeds");
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// The number of inputs that run concurrently. Some inputs wait for a time limit.
const CONCURRENCY: usize = 16;

#[test]
fn corpus_inputs_and_their_mutations_pass() {
    let mut inputs = Vec::new();
    for (target, _) in fuzz::TARGETS {
        for input in corpus(target) {
            // also replays the input truncated, and with one byte changed
            for at in (0..input.len()).step_by(input.len() / 16 + 1) {
                inputs.push((target, input[..at].to_vec()));
                let mut changed = input.clone();
                changed[at] ^= 0x05;
                inputs.push((target, changed));
            }
            inputs.push((target, input));
        }
    }
    let queue = Mutex::new(inputs.into_iter());
    std::thread::scope(|scope| {
        for _ in 0..CONCURRENCY {
            scope.spawn(|| {
                while let Some((target, input)) = { queue.lock().unwrap().next() } {
                    fuzz::run(target, &input);
                }
            });
        }
    });
}

#[test]
#[ignore = "takes minutes and uses random inputs"]
fn random_mutations_of_the_corpora_pass() {
    let threads = fuzz::TARGETS.map(|(target, _)| std::thread::spawn(move || mutate(target)));
    let failed: Vec<_> = threads.into_iter().filter_map(|thread| thread.join().err()).collect();
    assert!(failed.is_empty(), "{} targets found a failing input", failed.len());
}

fn mutate(target: &str) {
    let (seeds, end) = (corpus(target), Instant::now() + Duration::from_secs(30));
    let mut pool = seeds.clone();
    let mut attempts = 0u32;
    let random = |below: usize| random_usize() % below.max(1);
    while Instant::now() < end {
        let mut input = pool[random(pool.len())].clone();
        for _ in 0..=random(4) {
            let (at, donor) = (random(input.len() + 1), &seeds[random(seeds.len())]);
            let from = random(donor.len() + 1);
            let fragment = &donor[from..(from + random(24)).min(donor.len())];
            match random(5) {
                0 => input.truncate(at),
                1 => drop(input.splice(at..at, fragment.iter().copied())),
                2 => drop(input.splice(at..(at + fragment.len()).min(input.len()), fragment.iter().copied())),
                3 => drop(input.drain(at..(at + random(8)).min(input.len()))),
                _ => input.get_mut(at).map_or((), |byte| *byte = random_usize() as u8),
            }
        }
        if std::panic::catch_unwind(|| fuzz::run(target, &input)).is_err() {
            panic!("{target} fails with {:?}", String::from_utf8_lossy(&input));
        }
        attempts += 1;
        if input.len() < 2000 && pool.len() < 500 {
            pool.push(input);
        }
    }
    println!("{target}: {attempts} inputs");
}

fn random_usize() -> usize {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    usize::from_le_bytes(bytes)
}

#[test]
fn valid_token_passes_the_reference_check_and_the_gateway() {
    // guards against a reference check or a policy that rejects everything
    let payload = r#"{"iss":"https://idp.example","aud":["x","my-app"],"exp":1700000300,"iat":1699999990,"nbf":1.5}"#;
    assert!(fuzz::accepted_claims(payload.as_bytes()));
    assert!(!fuzz::accepted_claims(payload.replace("my-app", "other").as_bytes()));
}
