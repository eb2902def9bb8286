//! The fuzz targets, and the properties that must hold for every input. Only a failed assertion may panic.
//! `tests/fuzz_replay.rs` runs the same functions over the corpora in every `cargo test`.

mod parsers;
mod slow;
mod tokens;
mod wire;

/// The body of a target, run for each input.
pub type Body = fn(&[u8]);

/// All targets with their names, which are also the names of their corpora.
pub const TARGETS: [(&str, Body); 10] = [
    ("token", tokens::token),
    ("claims", tokens::claims),
    ("authorization", tokens::authorization),
    ("claim_headers", tokens::claim_headers),
    ("jwks", parsers::jwks),
    ("config", parsers::config),
    ("path_host", parsers::path_host),
    ("cel", parsers::cel),
    ("head", wire::head),
    ("http1", wire::http1),
];

/// Runs a target.
///
/// # Panics
/// If the target does not exist or a property does not hold.
pub fn run(name: &str, data: &[u8]) {
    let (_, body) = TARGETS.iter().find(|(target, _)| *target == name).expect("a known target");
    body(data);
}

/// Returns whether the gateway accepts the payload once it is signed. If so, the reference check accepts it too.
pub fn accepted_claims(payload: &[u8]) -> bool {
    tokens::accepted_claims(payload)
}
