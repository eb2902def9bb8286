//! The policy as a whole: what it accepts, what it refuses and why, and that its cache changes neither.

mod attacks;
mod cache;
mod checks;
mod credentials;
pub(crate) mod kit;
mod policy;
mod properties;
mod vectors;
