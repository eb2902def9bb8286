//! SHA-256 over byte strings and over hashable values.

use std::hash::Hasher;

use aws_lc_rs::digest::{Context, SHA256};

/// Returns the SHA-256 digest of the concatenated parts. Callers that need to tell parts apart add their lengths.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = Sha256Hasher::default();
    parts.iter().for_each(|part| hasher.write(part));
    hasher.digest()
}

/// A [`Hasher`] that feeds SHA-256. A derived `Hash` tells all fields and lengths apart, so equal digests mean equal
/// values.
pub struct Sha256Hasher(Context);

impl Default for Sha256Hasher {
    fn default() -> Self {
        Self(Context::new(&SHA256))
    }
}

impl Sha256Hasher {
    /// Returns the digest of everything that was written.
    pub fn digest(self) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.iter_mut().zip(self.0.finish().as_ref()).for_each(|(to, from)| *to = *from);
        digest
    }
}

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns 0: the digest does not fit into 64 bits.
    fn finish(&self) -> u64 {
        0
    }
}
