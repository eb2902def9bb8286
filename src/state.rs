//! The state of the running gateway for the control plane: the active config, the last reload, and readiness.
//!
//! Requests use only the snapshot from here. They do not depend on anything else.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;

use crate::auth::{Provider, TokenCache};
use crate::snapshot::Snapshot;
use crate::sync::lock;
use crate::telemetry::log_writer::LogWriter;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::recent_rejections::RejectionHistory;
use crate::telemetry::spans::ExportCounts;

/// The outcome of an attempt to load a config.
#[derive(Debug, Clone)]
pub struct ReloadAttempt {
    /// The time of the attempt.
    pub at: SystemTime,
    /// The error as text, without text of the config; `None` when the attempt succeeded.
    pub error: Option<String>,
    /// The changes that the reload made.
    pub changes: Vec<String>,
}

/// The state of the gateway.
#[derive(Debug)]
pub struct GatewayState {
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// All series.
    pub metrics: Arc<Metrics>,
    last_attempt: Mutex<ReloadAttempt>,
    reload_count: AtomicU64,
    draining: AtomicBool,
    access_log: LogWriter,
    /// The cache of verified tokens.
    pub tokens: TokenCache,
    /// The recent rejections.
    pub rejections: RejectionHistory,
    /// The numbers of exported and dropped spans, when spans are exported.
    pub span_counts: Option<Arc<ExportCounts>>,
    /// The start time of the process.
    pub started: Instant,
}

impl GatewayState {
    /// Creates the state with the first config.
    pub fn new(
        snapshot: Snapshot,
        metrics: Arc<Metrics>,
        tokens: TokenCache,
        access_log: LogWriter,
        span_counts: Option<Arc<ExportCounts>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            snapshot: Arc::new(ArcSwap::from_pointee(snapshot)),
            metrics,
            last_attempt: Mutex::new(ReloadAttempt { at: SystemTime::now(), error: None, changes: Vec::new() }),
            reload_count: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            access_log,
            tokens,
            rejections: RejectionHistory::default(),
            span_counts,
            started: Instant::now(),
        })
    }

    /// Returns the store of the active snapshot, from which each request loads the one that it uses.
    pub fn snapshot_store(&self) -> &Arc<ArcSwap<Snapshot>> {
        &self.snapshot
    }

    /// Returns the active snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// Replaces the active snapshot. New requests use the new one, and requests in flight keep the old one.
    pub fn activate(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
    }

    /// Records the outcome of a reload.
    pub fn record_reload(&self, attempt: ReloadAttempt) {
        self.reload_count.fetch_add(1, Ordering::Relaxed);
        *lock(&self.last_attempt) = attempt;
    }

    /// Returns the outcome of the last attempt to load a config.
    pub fn last_attempt(&self) -> ReloadAttempt {
        lock(&self.last_attempt).clone()
    }

    /// Returns the number of attempted reloads, successful or not.
    pub fn reload_count(&self) -> u64 {
        self.reload_count.load(Ordering::Relaxed)
    }

    /// Marks the gateway as not ready, since it is about to drain.
    pub fn start_drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Returns the number of access-log lines that were dropped because their reader stalled.
    pub fn dropped_log_lines(&self) -> u64 {
        self.access_log.dropped_lines()
    }

    /// Returns the reasons for which the gateway should not get new traffic. Empty when it is ready.
    pub fn not_ready_reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.draining.load(Ordering::Acquire) {
            reasons.push("draining: the process is shutting down".to_owned());
        }
        let snapshot = self.snapshot();
        if snapshot.loaded.config.process.readiness.require_keys {
            for provider in providers(&snapshot) {
                if provider.keys().current().get().is_none() {
                    reasons.push(format!("provider `{}` has no keys yet", provider.name()));
                }
            }
        }
        reasons
    }
}

/// Returns every provider of a snapshot once, in the order of the config.
pub fn providers(snapshot: &Snapshot) -> Vec<Arc<Provider>> {
    let mut providers: Vec<Arc<Provider>> = Vec::new();
    for listener in snapshot.binds.iter().flat_map(|bind| &bind.listeners) {
        let policies = listener.routes.iter().map(|route| &route.policies).chain([&listener.policies]);
        for provider in policies.filter_map(|policies| policies.jwt_auth.as_ref()).flat_map(|jwt| jwt.providers()) {
            if !providers.iter().any(|other| Arc::ptr_eq(other, provider)) {
                providers.push(Arc::clone(provider));
            }
        }
    }
    providers
}
