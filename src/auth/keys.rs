//! TODO-DOC

pub mod jwks;
pub(crate) mod key_set;
pub(crate) mod key_source;
pub(crate) mod key_wait;
