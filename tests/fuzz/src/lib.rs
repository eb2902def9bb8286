//! What each fuzz target does with its input, and what must hold whatever that is. Nothing here may panic but an
//! assertion. `tests/fuzz_replay.rs` runs the same functions over the corpora on every `cargo test`.

mod parsers;
mod slow;
mod tokens;
mod wire;

/// What is done with one input.
pub type Body = fn(&[u8]);

/// Every target: its name, which is also its corpus's, and its body.
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

/// The body of a target.
///
/// # Panics
/// There is no such target, or a property does not hold.
pub fn run(name: &str, data: &[u8]) {
    let (_, body) = TARGETS.iter().find(|(own, _)| *own == name).expect("a known target");
    body(data);
}

/// Whether a payload, once signed, makes a token that the gateway accepts. (If so, the slow check accepted it too.)
pub fn accepted_claims(payload: &[u8]) -> bool {
    tokens::accepted_claims(payload)
}
