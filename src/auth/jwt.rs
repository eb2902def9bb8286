//! TODO-DOC

pub(crate) mod algorithm;
pub(crate) mod cache;
pub(crate) mod check_report;
pub(crate) mod claims;
pub(crate) mod error;
pub(crate) mod identity;
pub(crate) mod jws;
pub(crate) mod provider;
pub(crate) mod strict_json;
pub(crate) mod unverified;
pub(crate) mod verify;
