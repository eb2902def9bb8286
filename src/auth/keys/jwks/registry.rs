//! All fetched sources of the process, from one config to the next.
//!
//! Equal settings share one source and its task, so that a reload neither fetches anew nor forgets keys. Where settings
//! change that have no say in whose keys these are, a new source begins with the last good keys of the old one, as old
//! as they are, since the provider may be down just then. A source that no config uses any more ends its task.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use super::fetch::{Fetched, Fetcher};
use super::{FetchError, FetchReport, FetchSettings, FetchSettingsError, FetchState, refresh_task};
use crate::auth::KeySource;

/// The sources that are in use.
pub struct KeySourceRegistry {
    runtime: Option<tokio::runtime::Handle>,
    sources: Mutex<SourceMap>,
}

type SourceMap = HashMap<FetchSettings, Weak<KeySource>>;

impl fmt::Debug for KeySourceRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

impl KeySourceRegistry {
    /// Sources whose tasks run on `runtime`; `None`: nothing is ever fetched, as when a config is only checked.
    pub fn new(runtime: Option<tokio::runtime::Handle>) -> Self {
        Self { runtime, sources: Mutex::default() }
    }

    /// Where tasks run; `None` when a config is only checked.
    pub fn runtime(&self) -> Option<&tokio::runtime::Handle> {
        self.runtime.as_ref()
    }

    /// The source with these settings, which begins to fetch at once if it is new.
    ///
    /// # Errors
    /// The URL, certificates or names in the settings are no good.
    pub fn get(&self, settings: FetchSettings) -> Result<Arc<KeySource>, FetchSettingsError> {
        let mut known = self.sources();
        known.retain(|_, source| source.strong_count() > 0);
        if let Some(source) = known.get(&settings).and_then(Weak::upgrade) {
            return Ok(source);
        }
        let fetcher = Fetcher::new(settings.clone())?;
        let source = seed_from_newest(&known, &settings).unwrap_or_else(|| KeySource::fetched(FetchState::default()));
        if let (Some(runtime), Some(remote)) = (&self.runtime, source.remote()) {
            let schedule = refresh_task::Schedule::new(&settings);
            let (weak, demand) = (Arc::downgrade(&source), Arc::clone(remote.refresh()));
            runtime.spawn(refresh_task::run(weak, demand, schedule, move || {
                let fetcher = fetcher.clone();
                async move { fetcher.fetch().await }
            }));
        }
        known.insert(settings, Arc::downgrade(&source));
        Ok(source)
    }

    /// Fetches the keys of one of these sources now, once, and gives them to it: for commands that check or explain.
    /// `None` when they are not fetched, or by others.
    pub async fn fetch_now(&self, source: &Arc<KeySource>) -> Option<Result<FetchReport, FetchError>> {
        let remote = source.remote()?;
        let settings = {
            let known = self.sources();
            let mut entries = known.iter();
            entries.find(|(_, own)| std::ptr::eq(own.as_ptr(), Arc::as_ptr(source))).map(|(own, _)| own.clone())?
        };
        // made of the same settings before, when the source was
        let fetcher = Fetcher::new(settings).ok()?;
        Some(match fetcher.fetch().await {
            Ok(fetched) => {
                let Fetched { keys, url, clock_ahead, .. } = &fetched;
                let answer = FetchReport { keys: keys.len(), url: url.clone(), clock_ahead: *clock_ahead };
                source.succeeded(fetched);
                Ok(answer)
            }
            Err(error) => {
                remote.failed(&error);
                Err(error)
            }
        })
    }

    fn sources(&self) -> MutexGuard<'_, SourceMap> {
        crate::sync::lock(&self.sources)
    }
}

/// A source that begins with the newest keys that these settings would fetch too.
fn seed_from_newest(known: &SourceMap, settings: &FetchSettings) -> Option<Arc<KeySource>> {
    let same = known.iter().filter(|(own, _)| own.same_trust_as(settings));
    let newest = same.filter_map(|(_, source)| source.upgrade()).max_by_key(|source| source.good_at())?;
    newest.seeded_copy(settings.stale_for)
}

impl FetchSettings {
    /// Whether the keys of the others are as good as its own: from the same place, as far trusted, read by the same rules.
    fn same_trust_as(&self, other: &Self) -> bool {
        let Self {
            location,
            algorithms,
            max_keys,
            tls,
            connect_to,
            proxy_from_environment,
            cache_duration: _,
            timeout: _,
            max_size: _,
            retry: _,
            stale_for: _,
            headers: _,
        } = self;
        (location, tls, connect_to, proxy_from_environment)
            == (&other.location, &other.tls, &other.connect_to, &other.proxy_from_environment)
            && (algorithms, max_keys) == (&other.algorithms, &other.max_keys)
    }
}
