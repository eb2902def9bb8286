//! What the control plane knows of the running gateway, for whoever asks: the config in force, what became of the last
//! reload, whether it is ready. No request depends on anything here.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;

use crate::auth::{Provider, TokenCache};
use crate::config::Loaded;
use crate::snapshot::Snapshot;
use crate::telemetry::log::Lines;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::refusals::Refusals;
use crate::telemetry::spans::Tally;

/// A config, as it was written and as it runs.
#[derive(Debug)]
pub struct InForce {
    /// What was written.
    pub loaded: Loaded,
    /// What runs.
    pub snapshot: Arc<Snapshot>,
}

/// What became of an attempt to load a config.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// When it was made.
    pub at: SystemTime,
    /// What was wrong, as text for people; `None` when it went well.
    pub error: Option<String>,
    /// What it changed, in words.
    pub changes: Vec<String>,
}

/// The state of the control plane.
#[derive(Debug)]
pub struct Control {
    in_force: ArcSwap<InForce>,
    current: Arc<ArcSwap<Snapshot>>,
    /// Every series.
    pub metrics: Arc<Metrics>,
    last: Mutex<Attempt>,
    reloads: AtomicU64,
    draining: AtomicBool,
    access_log: Lines,
    /// Verified tokens.
    pub tokens: TokenCache,
    /// How often requests were refused.
    pub refusals: Refusals,
    /// What became of spans, when they are exported.
    pub spans: Option<Arc<Tally>>,
    /// When the process began to serve.
    pub started: Instant,
}

impl Control {
    /// The first config is in force.
    pub fn new(
        first: InForce,
        metrics: Arc<Metrics>,
        tokens: TokenCache,
        access_log: Lines,
        spans: Option<Arc<Tally>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            current: Arc::new(ArcSwap::new(Arc::clone(&first.snapshot))),
            in_force: ArcSwap::from_pointee(first),
            metrics,
            last: Mutex::new(Attempt { at: SystemTime::now(), error: None, changes: Vec::new() }),
            reloads: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            access_log,
            tokens,
            refusals: Refusals::default(),
            spans,
            started: Instant::now(),
        })
    }

    /// What requests are judged by; one store here is the whole of a reload for them.
    pub fn current(&self) -> &Arc<ArcSwap<Snapshot>> {
        &self.current
    }

    /// The config in force.
    pub fn in_force(&self) -> Arc<InForce> {
        self.in_force.load_full()
    }

    /// Puts another config in force.
    pub fn replace(&self, next: InForce) {
        self.current.store(Arc::clone(&next.snapshot));
        self.in_force.store(Arc::new(next));
    }

    /// Notes what became of a reload.
    pub fn reloaded(&self, attempt: Attempt) {
        self.reloads.fetch_add(1, Ordering::Relaxed);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = attempt;
    }

    /// What became of the last attempt to load a config.
    pub fn last_attempt(&self) -> Attempt {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many reloads were tried, well or not.
    pub fn reloads(&self) -> u64 {
        self.reloads.load(Ordering::Relaxed)
    }

    /// The end begins: not ready any more.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Access-log lines that were lost since their reader stalled.
    pub fn dropped_lines(&self) -> u64 {
        self.access_log.dropped()
    }

    /// Why no new traffic should be sent here; empty when it should.
    pub fn unready(&self) -> Vec<String> {
        let mut why = Vec::new();
        if self.draining.load(Ordering::Acquire) {
            why.push("draining: the process was told to end".to_owned());
        }
        let in_force = self.in_force();
        if in_force.loaded.config.process.readiness.require_keys {
            for provider in providers(&in_force.snapshot) {
                if provider.keys().current().is_none() {
                    why.push(format!("provider `{}` has no keys yet", provider.name()));
                }
            }
        }
        why
    }
}

/// Every provider of a config once, in the order of the config.
pub fn providers(snapshot: &Snapshot) -> Vec<Arc<Provider>> {
    let mut found: Vec<Arc<Provider>> = Vec::new();
    for listener in snapshot.binds.iter().flat_map(|bind| &bind.listeners) {
        let policies = listener.routes.iter().map(|route| &route.policies).chain([&listener.policies]);
        for provider in policies.filter_map(|policies| policies.jwt.as_ref()).flat_map(|jwt| jwt.providers()) {
            if !found.iter().any(|known| Arc::ptr_eq(known, provider)) {
                found.push(Arc::clone(provider));
            }
        }
    }
    found
}
