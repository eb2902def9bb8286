//! Compiles `requestMirror`.

use std::sync::Arc;

use super::policy;
use crate::compile::Compiler;
use crate::config::Effective;
use crate::config::policy::MirrorConfig;
use crate::policy::mirror::Mirror;
use crate::telemetry::metrics::Family;

impl Compiler<'_> {
    /// Compiles the backends that receive copies of a route's requests.
    pub(in crate::compile) fn mirrors(
        &mut self,
        effective: &Effective<'_>,
        listener: &str,
        route: &str,
    ) -> Box<[Arc<Mirror>]> {
        let Some(configs) = policy(&effective.request_mirror) else { return Box::default() };
        let copies = self.metrics.counter_vec(Family::MirroredRequests, &[("listener", listener), ("route", route)]);
        let mut mirror = |config: &MirrorConfig| {
            let endpoint = self.single_endpoint(&config.backend.host)?;
            Some(Arc::new(Mirror::new(endpoint, config.percentage.0, copies)))
        };
        configs.0.iter().filter_map(&mut mirror).collect()
    }
}
