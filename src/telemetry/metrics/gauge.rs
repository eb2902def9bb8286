//! Gauges that other components hold and that are collected for each scrape.

/// A gauge metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gauge {
    /// Tokens in the verified-token cache.
    CachedTokens,
    /// The result of the last attempt to load a config.
    LastReload,
    /// The generation of the active config.
    Generation,
    /// The version of the running build.
    Build,
    /// Readiness.
    Ready,
    /// Usable keys by provider.
    Keys,
    /// Skipped keys by provider and reason.
    SkippedKeys,
    /// The age of fetched keys by provider.
    KeysAge,
}

impl Gauge {
    /// Every gauge.
    pub const ALL: [Self; 8] = [
        Self::CachedTokens,
        Self::LastReload,
        Self::Generation,
        Self::Build,
        Self::Ready,
        Self::Keys,
        Self::SkippedKeys,
        Self::KeysAge,
    ];

    /// Returns the gauge's name and help text.
    pub const fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::CachedTokens => ("portcullis_jwt_cache_entries", "Tokens in the verified-token cache."),
            Self::LastReload => (
                "portcullis_config_last_reload_successful",
                "Whether the last attempt to load a config succeeded (1) or failed (0).",
            ),
            Self::Generation => (
                "portcullis_config_generation",
                "Generation of the active config: 1 for the first, incremented by each successful reload.",
            ),
            Self::Build => ("portcullis_build_info", "Version of the running build. The value is always 1."),
            Self::Ready => ("portcullis_ready", "Whether the gateway is ready for new traffic (1) or not (0)."),
            Self::Keys => ("portcullis_jwks_keys", "Usable keys, by provider."),
            Self::SkippedKeys => (
                "portcullis_jwks_skipped_keys",
                "Keys of the current key set that are skipped, by provider and reason.",
            ),
            Self::KeysAge => ("portcullis_jwks_age_seconds", "Seconds since the keys were last fetched, by provider."),
        }
    }
}
