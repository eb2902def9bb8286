//! TODO-DOC

pub mod timeouts;
