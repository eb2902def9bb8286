//! Tests of whole policies: accepted and rejected requests with their reasons, with and without the cache.

mod attacks;
mod cache;
mod checks;
mod credentials;
pub(crate) mod kit;
mod policy;
mod properties;
mod vectors;
