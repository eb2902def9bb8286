//! Compiles `cors`.

use std::sync::Arc;

use crate::compile::Compiler;
use crate::config::policy::{CorsConfig, Origin as OriginConfig};
use crate::config::span::Spanned;
use crate::policy::cors::{self, AllowedOrigin, Cors};

impl Compiler<'_> {
    pub(in crate::compile) fn cors(&mut self, config: &Spanned<CorsConfig>) -> Option<Arc<Cors>> {
        if let Some(cached) = self.policy_cache.cors.get(&config.span.start) {
            return cached.clone();
        }
        let compiled = match Cors::new(cors_settings(config)) {
            Ok(cors) => Some(Arc::new(cors)),
            Err(message) => {
                self.error(&config.span, message);
                None
            }
        };
        self.policy_cache.cors.insert(config.span.start, compiled.clone());
        compiled
    }
}

fn cors_settings(config: &CorsConfig) -> cors::CorsSettings {
    let origin = |origin: &OriginConfig| match origin {
        OriginConfig::Any => AllowedOrigin::Any,
        OriginConfig::Exact(site) => AllowedOrigin::Exact(site.as_str().into()),
        OriginConfig::Wildcard { scheme, suffix } => {
            AllowedOrigin::Wildcard { scheme: scheme.as_str().into(), suffix: suffix.as_str().into() }
        }
    };
    cors::CorsSettings {
        origins: config.allow_origins.iter().map(origin).collect(),
        methods: config.allow_methods.iter().map(|method| method.0.to_string()).collect(),
        headers: config.allow_headers.iter().map(|name| name.0.to_string()).collect(),
        expose: config.expose_headers.iter().map(|name| name.0.to_string()).collect(),
        credentials: config.allow_credentials,
        max_age: config.max_age.map(|age| age.get().as_secs()),
    }
}
