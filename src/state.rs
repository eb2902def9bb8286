//! What the control plane knows of the running gateway, for whoever asks: the config in force, what became of the last
//! reload, whether it is ready. No request depends on anything here.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;

use crate::auth::{Provider, TokenCache};
use crate::config::LoadedConfig;
use crate::snapshot::Snapshot;
use crate::telemetry::log_writer::LogWriter;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::recent_rejections::RejectionHistory;
use crate::telemetry::spans::ExportCounts;

/// A config, as it was written and as it runs.
#[derive(Debug)]
pub struct ActiveConfig {
    /// What was written.
    pub loaded: Arc<LoadedConfig>,
    /// What runs.
    pub snapshot: Arc<Snapshot>,
}

/// What became of an attempt to load a config.
#[derive(Debug, Clone)]
pub struct ReloadAttempt {
    /// When it was made.
    pub at: SystemTime,
    /// What was wrong, as text for people; `None` when it went well.
    pub error: Option<String>,
    /// What it changed, in words.
    pub changes: Vec<String>,
}

/// The state of the control plane.
#[derive(Debug)]
pub struct GatewayState {
    active: ArcSwap<ActiveConfig>,
    snapshot: Arc<ArcSwap<Snapshot>>,
    /// Every series.
    pub metrics: Arc<Metrics>,
    last_attempt: Mutex<ReloadAttempt>,
    reload_count: AtomicU64,
    draining: AtomicBool,
    access_log: LogWriter,
    /// Verified tokens.
    pub tokens: TokenCache,
    /// How often requests were refused.
    pub rejections: RejectionHistory,
    /// What became of spans, when they are exported.
    pub span_counts: Option<Arc<ExportCounts>>,
    /// When the process began to serve.
    pub started: Instant,
}

impl GatewayState {
    /// The first config is in force.
    pub fn new(
        first: ActiveConfig,
        metrics: Arc<Metrics>,
        tokens: TokenCache,
        access_log: LogWriter,
        spans: Option<Arc<ExportCounts>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            snapshot: Arc::new(ArcSwap::new(Arc::clone(&first.snapshot))),
            active: ArcSwap::from_pointee(first),
            metrics,
            last_attempt: Mutex::new(ReloadAttempt { at: SystemTime::now(), error: None, changes: Vec::new() }),
            reload_count: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            access_log,
            tokens,
            rejections: RejectionHistory::default(),
            span_counts: spans,
            started: Instant::now(),
        })
    }

    /// What requests are judged by; one store here is the whole of a reload for them.
    pub fn snapshots(&self) -> &Arc<ArcSwap<Snapshot>> {
        &self.snapshot
    }

    /// The config in force.
    pub fn active_config(&self) -> Arc<ActiveConfig> {
        self.active.load_full()
    }

    /// Puts another config in force.
    pub fn activate(&self, next: ActiveConfig) {
        self.snapshot.store(Arc::clone(&next.snapshot));
        self.active.store(Arc::new(next));
    }

    /// Notes what became of a reload.
    pub fn record_reload(&self, attempt: ReloadAttempt) {
        self.reload_count.fetch_add(1, Ordering::Relaxed);
        *self.last_attempt.lock().unwrap_or_else(PoisonError::into_inner) = attempt;
    }

    /// What became of the last attempt to load a config.
    pub fn last_attempt(&self) -> ReloadAttempt {
        self.last_attempt.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many reloads were tried, well or not.
    pub fn reload_count(&self) -> u64 {
        self.reload_count.load(Ordering::Relaxed)
    }

    /// The end begins: not ready any more.
    pub fn start_drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Access-log lines that were lost since their reader stalled.
    pub fn dropped_log_lines(&self) -> u64 {
        self.access_log.dropped_lines()
    }

    /// Why no new traffic should be sent here; empty when it should.
    pub fn not_ready_reasons(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.draining.load(Ordering::Acquire) {
            reasons.push("draining: the process was told to end".to_owned());
        }
        let in_force = self.active_config();
        if in_force.loaded.config.process.readiness.require_keys {
            for provider in providers(&in_force.snapshot) {
                if provider.keys().current().is_none() {
                    reasons.push(format!("provider `{}` has no keys yet", provider.name()));
                }
            }
        }
        reasons
    }
}

/// Every provider of a config once, in the order of the config.
pub fn providers(snapshot: &Snapshot) -> Vec<Arc<Provider>> {
    let mut found: Vec<Arc<Provider>> = Vec::new();
    for listener in snapshot.binds.iter().flat_map(|bind| &bind.listeners) {
        let policies = listener.routes.iter().map(|route| &route.policies).chain([&listener.policies]);
        for provider in policies.filter_map(|policies| policies.jwt_auth.as_ref()).flat_map(|jwt| jwt.providers()) {
            if !found.iter().any(|known| Arc::ptr_eq(known, provider)) {
                found.push(Arc::clone(provider));
            }
        }
    }
    found
}
