//! The signature algorithms of RFC 7518 §3.1 and RFC 8037 that a token may use, and sets of them.
//!
//! Rejected: every other name. `none` is not an algorithm here, so no setting can accept it.

/// A JWS algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    HS256,
    /// HMAC with SHA-384.
    HS384,
    /// HMAC with SHA-512.
    HS512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RS256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    RS384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    RS512,
    /// RSASSA-PSS with SHA-256.
    PS256,
    /// RSASSA-PSS with SHA-384.
    PS384,
    /// RSASSA-PSS with SHA-512.
    PS512,
    /// ECDSA on P-256 with SHA-256.
    ES256,
    /// ECDSA on P-384 with SHA-384.
    ES384,
    /// ECDSA on P-521 with SHA-512.
    ES512,
    /// Ed25519, named `EdDSA` (RFC 8037) or `Ed25519` (RFC 9864).
    EdDSA,
}

use Algorithm as A;

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Self; 13] = [
        A::HS256,
        A::HS384,
        A::HS512,
        A::RS256,
        A::RS384,
        A::RS512,
        A::PS256,
        A::PS384,
        A::PS512,
        A::ES256,
        A::ES384,
        A::ES512,
        A::EdDSA,
    ];

    /// Parses the name of an algorithm. Names are case-sensitive (RFC 7515 §4.1.1).
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "Ed25519" => Some(A::EdDSA),
            _ => Self::ALL.into_iter().find(|a| a.as_str() == name),
        }
    }

    /// Returns the name for a token's header.
    pub const fn as_str(self) -> &'static str {
        match self {
            A::HS256 => "HS256",
            A::HS384 => "HS384",
            A::HS512 => "HS512",
            A::RS256 => "RS256",
            A::RS384 => "RS384",
            A::RS512 => "RS512",
            A::PS256 => "PS256",
            A::PS384 => "PS384",
            A::PS512 => "PS512",
            A::ES256 => "ES256",
            A::ES384 => "ES384",
            A::ES512 => "ES512",
            A::EdDSA => "EdDSA",
        }
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Algorithms(u16);

impl Algorithms {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// The algorithms of a shared secret.
    pub const HMAC: Self = Self::from_slice(&[A::HS256, A::HS384, A::HS512]);
    /// The algorithms of an RSA key.
    pub const RSA: Self = Self::from_slice(&[A::RS256, A::RS384, A::RS512, A::PS256, A::PS384, A::PS512]);
    /// The algorithms that are accepted by default: all except HMAC.
    pub const ASYMMETRIC: Self = Self::RSA.union(Self::from_slice(&[A::ES256, A::ES384, A::ES512, A::EdDSA]));

    /// Creates the set of these algorithms.
    pub const fn from_slice(list: &[Algorithm]) -> Self {
        let (mut bits, mut rest) = (0, list);
        while let [first, tail @ ..] = rest {
            bits |= 1 << *first as u16;
            rest = tail;
        }
        Self(bits)
    }

    /// Returns the algorithms that are in either set.
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the algorithms that are in both sets.
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns true if the algorithm is in the set.
    pub const fn contains(self, algorithm: Algorithm) -> bool {
        self.0 & (1 << algorithm as u16) != 0
    }

    /// Returns true if the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the algorithms of the set, in a fixed order.
    pub fn iter(self) -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL.into_iter().filter(move |a| self.contains(*a))
    }
}

impl std::fmt::Display for Algorithms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, algorithm) in self.iter().enumerate() {
            write!(f, "{}{algorithm}", if index == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::parse(algorithm.as_str()), Some(algorithm));
        }
        assert_eq!(Algorithm::parse("Ed25519"), Some(Algorithm::EdDSA));
        for wrong in ["none", "None", "rs256", "RS256 ", "ED25519", "ES256K", "ES521", "RSA-OAEP", "dir", ""] {
            assert_eq!(Algorithm::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn sets_contain_the_given_algorithms() {
        assert_eq!(Algorithms::ASYMMETRIC.iter().count(), 10);
        assert!(Algorithms::ASYMMETRIC.intersection(Algorithms::HMAC).is_empty());
        assert_eq!(Algorithms::HMAC.to_string(), "HS256, HS384, HS512");
    }
}
