//! What the record and the metrics keep of a decision. Nothing is decided here; nothing of a token's bytes is written.

use super::access::Record;
use crate::auth::Identity;
use crate::authz::{Authorization, Outcome, RuleSet};
use crate::decision::Decision;
use crate::reason::Reason;
use crate::snapshot::Policies;
use crate::telemetry::metrics::{RouteSeries, Shard, escape};
