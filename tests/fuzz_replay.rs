//! Replays the fuzzers' corpora. A fuzzer's find is kept by adding its input as a file to `tests/fuzz/corpus/TARGET/`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub,
    missing_docs,
    reason = "tests"
)]

#[path = "fuzz/src/lib.rs"]
mod fuzz;

use std::path::Path;

#[test]
fn every_input_of_the_corpora_holds() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    for (target, _) in fuzz::TARGETS {
        let body = |input: &[u8]| fuzz::run(target, input);
        let mut inputs = Vec::new();
        for entry in std::fs::read_dir(corpora.join(target)).unwrap() {
            inputs.push(entry.unwrap().path());
        }
        assert!(inputs.len() >= 8, "{target} has seeds");
        for path in inputs {
            let input = std::fs::read(&path).unwrap();
            println!("{target}: {}", path.display());
            body(&input);
            // its neighbours: cut short, and with a byte changed
            for at in (0..input.len()).step_by(input.len() / 16 + 1) {
                body(&input[..at]);
                let mut changed = input.clone();
                changed[at] ^= 0x05;
                body(&changed);
            }
        }
    }
}

#[test]
fn a_good_token_passes_both_checks() {
    // without this, a slow check that refuses everything or a policy that does would never be noticed
    let good = r#"{"iss":"https://idp.example","aud":["x","my-app"],"exp":1700000300,"iat":1699999990,"nbf":1.5}"#;
    assert!(fuzz::accepted_claims(good.as_bytes()));
    assert!(!fuzz::accepted_claims(good.replace("my-app", "other").as_bytes()));
}
