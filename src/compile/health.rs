//! Which endpoints are kept an eye on, and how: several of one backend, and those with `health` or `maxConnections`.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::uri::{Authority, PathAndQuery};

use super::{Compiler, kept};
use crate::config::place::{Located, Place};
use crate::config::route::{Backend, Health};
use crate::config::value::{BackendHost, Endpoint as Target};
use crate::upstream::Endpoint;
use crate::upstream::health::{self, Check};
use crate::upstream::load::{Limits, Load};

/// Checks are never made more often than this.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

impl Compiler<'_> {
    /// Keeps an eye on an endpoint, where that matters. Its checks begin when the config is one that serves. `Err`
    /// after an error.
    pub(super) fn load(
        &mut self,
        backend: &Backend,
        host: &Located<BackendHost>,
        endpoint: &Endpoint,
    ) -> Result<Option<Arc<Load>>, ()> {
        let policies = &backend.policies;
        if backend.hosts.len() < 2 && policies.health.is_none() && policies.max_connections.is_none() {
            return Ok(None);
        }
        let default = Health::default();
        let (health, place) = policies.health.as_ref().map_or((&default, &host.place), |h| (&h.value, &h.place));
        let check = health.path.as_ref().map(|path| self.check(path, health, place, host)).transpose()?;
        let name = kept::name(&[&endpoint.key.to_be_bytes(), format!("{health:?}").as_bytes()]);
        let made: Result<_, Infallible> = self.kept.loads.get(name, || {
            Ok(Load::new(Limits {
                max_connections: policies.max_connections.map(|most| most.get()),
                consecutive_failures: health.consecutive_failures,
                ejection_time: health.ejection_time.get(),
            }))
        });
        let Ok((load, new)) = made;
        if let (true, Some(check), Some(runtime)) = (new, check, self.kept.sources.runtime()) {
            let (address, timeout) = (endpoint.address.clone(), endpoint.connect_timeout);
            let way = Endpoint::new(&endpoint.label, address, endpoint.protocol, timeout);
            let way = Endpoint { tls: endpoint.tls.clone(), ..way };
            runtime.spawn(health::watch(Arc::downgrade(&load), way, check));
        }
        Ok(Some(load))
    }

    fn check(&mut self, path: &str, health: &Health, place: &Place, host: &Located<BackendHost>) -> Result<Check, ()> {
        let Some(path) = PathAndQuery::try_from(path).ok().filter(|_| path.starts_with('/')) else {
            self.error(place, format!("not a path: `{path}`; a path begins with `/`"));
            return Err(());
        };
        // a Unix socket has no name
        let named = match &host.endpoint {
            Target::Unix(_) => "localhost".to_owned(),
            target => target.to_string(),
        };
        Ok(Check {
            path,
            host: Authority::try_from(named).unwrap_or(Authority::from_static("localhost")),
            interval: health.interval.get().max(SHORTEST_INTERVAL),
            timeout: health.timeout.get(),
            expected: health.expected_status.map(|status| status.0),
            healthy_threshold: health.healthy_threshold.get(),
            unhealthy_threshold: health.unhealthy_threshold.get(),
        })
    }
}
