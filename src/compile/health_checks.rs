//! Active and passive health of endpoints: for backends with several endpoints, `health` or `maxConnections`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};

use super::{Compiler, carry_over};
use crate::config::route::{BackendConfig, HealthConfig};
use crate::config::span::{SourceSpan, Spanned};
use crate::config::value::{BackendAddress, BackendHost};
use crate::upstream::Endpoint;
use crate::upstream::active_health;
use crate::upstream::active_health::HealthCheck;
use crate::upstream::outlier::{EndpointHealth, EndpointLimits};

/// The minimum interval between active checks.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

impl Compiler<'_> {
    /// Keeps an eye on an endpoint, where that matters. Its checks begin when the config is one that serves. `Err`
    /// after an error.
    pub(super) fn track_endpoint(
        &mut self,
        backend: &BackendConfig,
        host: &Spanned<BackendHost>,
        endpoint: &Endpoint,
    ) -> Result<Option<Arc<EndpointHealth>>, ()> {
        let policies = &backend.policies;
        if backend.hosts.len() < 2 && policies.health.is_none() && policies.max_connections.is_none() {
            return Ok(None);
        }
        let default = HealthConfig::default();
        let (health, span) = policies.health.as_ref().map_or((&default, &host.span), |h| (&h.value, &h.span));
        let check = health.path.as_ref().map(|path| self.health_check(path, health, span, host)).transpose()?;
        let fingerprint = carry_over::fingerprint(&[&endpoint.key.to_be_bytes(), format!("{health:?}").as_bytes()]);
        let result: Result<_, Infallible> = self.carry_over.endpoint_loads.get_or_build(fingerprint, || {
            Ok(EndpointHealth::new(EndpointLimits {
                max_connections: policies.max_connections.map(|limit| limit.get()),
                consecutive_failures: health.consecutive_failures,
                ejection_time: health.ejection_time.get(),
            }))
        });
        let Ok((load, is_new)) = result;
        if let (true, Some(check), Some(runtime)) = (is_new, check, self.carry_over.sources.runtime()) {
            let (address, timeout) = (endpoint.address.clone(), endpoint.connect_timeout);
            let probe = Endpoint::new(&endpoint.label, address, endpoint.protocol, timeout);
            let probe = Endpoint { tls: endpoint.tls.clone(), ..probe };
            runtime.spawn(active_health::run_checks(Arc::downgrade(&load), probe, check));
        }
        Ok(Some(load))
    }

    fn health_check(
        &mut self,
        path: &str,
        health: &HealthConfig,
        span: &SourceSpan,
        host: &Spanned<BackendHost>,
    ) -> Result<HealthCheck, ()> {
        let Some(path) = PathAndQuery::try_from(path).ok().filter(|_| path.starts_with('/')) else {
            self.error(span, format!("not a path: `{path}`; a path begins with `/`"));
            return Err(());
        };
        // a Unix socket has no name
        let name = match &host.endpoint {
            BackendAddress::Unix(_) => "localhost".to_owned(),
            address => address.to_string(),
        };
        Ok(HealthCheck {
            path,
            host: Authority::try_from(name).unwrap_or(Authority::from_static("localhost")),
            interval: health.interval.get().max(MIN_INTERVAL),
            timeout: health.timeout.get(),
            expected: health.expected_status.map(|status| status.0),
            healthy_threshold: health.healthy_threshold.get(),
            unhealthy_threshold: health.unhealthy_threshold.get(),
        })
    }
}
