//! The config in force.

use std::sync::Arc;

use crate::config::Loaded;
use crate::snapshot::Snapshot;

/// A config, as it was written and as it runs.
#[derive(Debug)]
pub struct InForce {
    /// What was written.
    pub loaded: Loaded,
    /// What runs.
    pub snapshot: Arc<Snapshot>,
}
