//! The registry of all remote key sets of the process, which outlives each config.
//!
//! Equal settings share one source and its task, so that a reload neither fetches again nor drops keys. When settings
//! change that do not affect whose keys are fetched, the new source starts with the last good keys of the old one and
//! with their age, since the provider may be down at that moment. A source that no config uses any more ends its task.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use super::fetch::{FetchError, FetchSettingsError, FetchedKeys, Fetcher};
use super::refresh_task::{self, Schedule};
use super::remote_keys::RemoteKeys;
use super::settings::FetchSettings;
use crate::auth::keys::key_source::KeySource;
use crate::sync::lock;

/// The remote key sets in use.
pub struct KeySourceRegistry {
    runtime: Option<tokio::runtime::Handle>,
    sources: Mutex<SourceMap>,
}

type SourceMap = HashMap<FetchSettings, Weak<RemoteKeys>>;

/// The result of a fetch that a command requested.
#[derive(Debug, Clone, PartialEq)]
pub struct FetchReport {
    /// The number of usable keys.
    pub keys: usize,
    /// The URL of the key set.
    pub url: String,
    /// The number of seconds by which the server's clock is ahead of this one, if the response states the time.
    pub clock_ahead: Option<f64>,
}

impl fmt::Debug for KeySourceRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySourceRegistry").finish_non_exhaustive()
    }
}

impl KeySourceRegistry {
    /// Creates a registry whose refresh tasks run on `runtime`. With `None`, as when a config is only checked, there are
    /// no tasks and nothing is fetched in the background.
    pub fn new(runtime: Option<tokio::runtime::Handle>) -> Self {
        Self { runtime, sources: Mutex::default() }
    }

    /// Returns the runtime of the refresh tasks; `None` when a config is only checked.
    pub fn runtime(&self) -> Option<&tokio::runtime::Handle> {
        self.runtime.as_ref()
    }

    /// Returns the source with these settings. A new source starts to fetch at once.
    ///
    /// # Errors
    /// The URL, a certificate or a name in the settings is invalid.
    pub fn get(&self, settings: FetchSettings) -> Result<KeySource, FetchSettingsError> {
        let mut sources = self.sources();
        sources.retain(|_, source| source.strong_count() > 0);
        if let Some(source) = sources.get(&settings).and_then(Weak::upgrade) {
            return Ok(KeySource::Remote(source));
        }
        let fetcher = Fetcher::new(settings.clone())?;
        let source = Arc::new(seed_from_newest(&sources, &settings).unwrap_or_default());
        if let Some(runtime) = &self.runtime {
            let schedule = Schedule::new(&settings);
            let (weak, refresh) = (Arc::downgrade(&source), Arc::clone(source.refresh()));
            runtime.spawn(refresh_task::run(weak, refresh, schedule, move || {
                let fetcher = fetcher.clone();
                async move { fetcher.fetch().await }
            }));
        }
        sources.insert(settings, Arc::downgrade(&source));
        Ok(KeySource::Remote(source))
    }

    /// Fetches the keys of a source of this registry once, now, and publishes them, for commands that check or explain.
    /// Returns `None` for local keys and for a source of another registry.
    pub async fn fetch_now(&self, source: &KeySource) -> Option<Result<FetchReport, FetchError>> {
        let source = source.remote()?;
        let settings = {
            let sources = self.sources();
            let mut entries = sources.iter();
            let (settings, _) = entries.find(|(_, entry)| std::ptr::eq(entry.as_ptr(), Arc::as_ptr(source)))?;
            settings.clone()
        };
        // `get` has created a fetcher with the same settings
        let fetcher = Fetcher::new(settings).ok()?;
        Some(match fetcher.fetch().await {
            Ok(fetched) => {
                let FetchedKeys { keys, url, clock_ahead, .. } = &fetched;
                let report = FetchReport { keys: keys.len(), url: url.clone(), clock_ahead: *clock_ahead };
                source.record_success(fetched);
                Ok(report)
            }
            Err(error) => {
                source.record_failure(&error);
                Err(error)
            }
        })
    }

    fn sources(&self) -> MutexGuard<'_, SourceMap> {
        lock(&self.sources)
    }
}

/// Creates a source that starts with the newest keys that could have been fetched with these settings.
fn seed_from_newest(sources: &SourceMap, settings: &FetchSettings) -> Option<RemoteKeys> {
    let candidates = sources.iter().filter(|(existing, _)| existing.same_trust_as(settings));
    let newest = candidates.filter_map(|(_, source)| source.upgrade()).max_by_key(|source| source.last_success())?;
    newest.seeded_copy(settings.stale_for)
}
