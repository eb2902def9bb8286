//! The keys that verify tokens: parsing and use of key sets, and their sources.
//!
//! A [`KeySource`](key_source::KeySource) is either local, from a file or from the config, or remote, fetched by URL and
//! refreshed in the background ([`jwks`]). Requests read the current [`KeySet`](key_set::KeySet) without a lock. A token
//! that needs keys which are being fetched can wait for them ([`PendingKeys`](key_wait::PendingKeys)).

pub mod jwks;
pub(crate) mod key_set;
pub(crate) mod key_source;
pub(crate) mod key_wait;
