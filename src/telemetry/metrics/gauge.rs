//! Numbers that nobody counts: they are looked up when somebody asks for the metrics.

/// What is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gauge {
    /// Tokens that are remembered.
    CachedTokens,
    /// How the last attempt to load a config went.
    LastReload,
    /// Which config is in force.
    Generation,
    /// The build.
    Build,
    /// Readiness.
    Ready,
    /// Usable keys by provider.
    Keys,
    /// Keys that are left out, by provider and reason.
    SkippedKeys,
    /// Age of fetched keys by provider.
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

    /// Name and help text.
    pub const fn describe(self) -> (&'static str, &'static str) {
        match self {
            Self::CachedTokens => ("portcullis_jwt_cache_entries", "Tokens in the verified-token cache."),
            Self::LastReload => (
                "portcullis_config_last_reload_successful",
                "Whether the last attempt to load a config went well (1) or not (0).",
            ),
            Self::Generation => {
                ("portcullis_config_generation", "Which config is in force: 1 for the first, one more for each reload.")
            }
            Self::Build => ("portcullis_build_info", "The build that runs: always 1, by version."),
            Self::Ready => ("portcullis_ready", "Whether new traffic should be sent here (1) or not (0)."),
            Self::Keys => ("portcullis_jwks_keys", "Keys that verify tokens, by provider."),
            Self::SkippedKeys => {
                ("portcullis_jwks_skipped_keys", "Keys of the set in force that are left out, by provider and reason.")
            }
            Self::KeysAge => ("portcullis_jwks_age_seconds", "Since the keys were last fetched, by provider."),
        }
    }
}
