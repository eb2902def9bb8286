//! `jwtAuth`: verification of bearer tokens (RFC 6750) that are signed JWTs (RFC 7519).
//!
//! A token is split ([`jws`]), verified against the providers of a [`policy`] ([`verify`], [`claims`]), and remembered
//! ([`cache`]). The [`outcome`] carries an [`identity`] or an [`error`], and [`check_report`] lists all checks of it.
//!
//! Rejected: more than one token, a token that is not strictly a compact JWS, a signature that was not made by a
//! configured key of the token's own issuer, and a claim that the provider does not accept. No library default decides
//! any of this.

pub(crate) mod algorithm;
pub(crate) mod cache;
pub(crate) mod check_report;
pub(crate) mod claims;
pub(crate) mod error;
pub(crate) mod identity;
pub(crate) mod jws;
pub(crate) mod outcome;
pub(crate) mod policy;
pub(crate) mod provider;
pub(crate) mod strict_json;
pub(crate) mod unverified;
pub(crate) mod verify;
