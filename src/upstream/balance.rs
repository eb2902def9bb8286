//! Load balancing: a weighted choice among the backends of a route, then least request or round robin among the endpoints
//! of the backend. Unhealthy endpoints are skipped while any other endpoint is healthy.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::Endpoint;

/// The backends of a route with their weights.
#[derive(Debug, Default)]
pub struct LoadBalancer {
    /// Each backend with the sum of the weights up to and including its own.
    weighted_groups: Vec<(u64, EndpointGroup)>,
}

/// A backend: a group of equivalent endpoints.
#[derive(Debug)]
pub struct EndpointGroup {
    endpoints: Box<[Arc<Endpoint>]>,
    algorithm: BalanceAlgorithm,
    next: AtomicUsize,
}

/// The algorithm that chooses among several endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BalanceAlgorithm {
    /// Picks two endpoints at random and takes the one with fewer requests in flight.
    LeastRequest,
    /// Takes the endpoints in turn.
    RoundRobin,
}

impl LoadBalancer {
    /// Creates a load balancer of backends with their weights. A backend with weight zero gets no requests.
    pub fn new(backends: impl IntoIterator<Item = (u32, EndpointGroup)>) -> Self {
        let mut sum = 0;
        let weighted_groups = backends
            .into_iter()
            .filter(|(weight, group)| *weight > 0 && !group.endpoints.is_empty())
            .map(|(weight, group)| {
                sum += u64::from(weight);
                (sum, group)
            })
            .collect();
        Self { weighted_groups }
    }

    /// Picks the endpoint of the next request. If no endpoint is healthy, picks an unhealthy one. `None` if there is no
    /// backend with a weight above zero.
    pub fn pick(&self) -> Option<&Arc<Endpoint>> {
        match self.weighted_groups.as_slice() {
            [] => None,
            [(_, only)] => only.pick_healthy().or_else(|| only.pick_any()),
            [.., (sum, _)] => {
                let point = random() % sum;
                let index = self.weighted_groups.iter().position(|(cumulative, _)| point < *cumulative)?;
                let (wrapped, rest) = self.weighted_groups.split_at_checked(index)?;
                let (_, chosen) = rest.first()?;
                rest.iter().chain(wrapped).find_map(|(_, group)| group.pick_healthy()).or_else(|| chosen.pick_any())
            }
        }
    }

    /// Returns the endpoints of all backends.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.weighted_groups.iter().flat_map(|(_, group)| &group.endpoints)
    }
}

impl EndpointGroup {
    /// Returns the endpoints.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// Creates a group of endpoints.
    pub fn new(endpoints: Vec<Arc<Endpoint>>, algorithm: BalanceAlgorithm) -> Self {
        // a random start, so that gateways that start together do not all begin with the same endpoint
        let next = AtomicUsize::new(endpoints.len().checked_sub(1).map_or(0, |last| random_below(last + 1)));
        Self { endpoints: endpoints.into(), algorithm, next }
    }

    fn pick_healthy(&self) -> Option<&Arc<Endpoint>> {
        let count = self.endpoints.len();
        match (&*self.endpoints, self.algorithm) {
            ([only], _) => is_healthy(only).then_some(only),
            ([], _) => None,
            (_, BalanceAlgorithm::RoundRobin) => self.first_healthy_from(self.next.fetch_add(1, Relaxed) % count),
            (_, BalanceAlgorithm::LeastRequest) => {
                let first = random_below(count);
                let other = (first + 1 + random_below(count - 1)) % count;
                let in_flight =
                    |endpoint: &&Arc<Endpoint>| endpoint.health.as_ref().map_or(0, |health| health.in_flight());
                let candidates = [first, other].into_iter().filter_map(|index| self.endpoints.get(index));
                candidates
                    .filter(|endpoint| is_healthy(endpoint))
                    .min_by_key(in_flight)
                    .or_else(|| self.first_healthy_from(random_below(count)))
            }
        }
    }

    fn first_healthy_from(&self, start: usize) -> Option<&Arc<Endpoint>> {
        let (wrapped, rest) = self.endpoints.split_at_checked(start)?;
        rest.iter().chain(wrapped).find(|endpoint| is_healthy(endpoint))
    }

    fn pick_any(&self) -> Option<&Arc<Endpoint>> {
        match &*self.endpoints {
            [] => None,
            [only] => Some(only),
            several => several.get(random_below(several.len())),
        }
    }
}

fn is_healthy(endpoint: &Endpoint) -> bool {
    endpoint.health.as_ref().is_none_or(|health| health.is_healthy())
}

/// Returns a random number below `limit`, which must not be zero.
pub(super) fn random_below(limit: usize) -> usize {
    usize::try_from(random() % (limit as u64)).unwrap_or(0)
}

/// Returns the next number of a per-thread sequence (SplitMix64). Good enough to spread load; never to be used for secrets.
pub(crate) fn random() -> u64 {
    thread_local!(static STATE: Cell<u64> = Cell::new({
        use std::hash::{BuildHasher, Hasher};
        std::hash::RandomState::new().build_hasher().finish()
    }));
    STATE.with(|state| {
        let next = state.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        state.set(next);
        let mixed = (next ^ (next >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::outlier::{EndpointHealth, EndpointLimits};
    use crate::upstream::{EndpointAddress, UpstreamProtocol};
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn endpoint(name: &str) -> Arc<Endpoint> {
        let limits =
            EndpointLimits { max_connections: None, consecutive_failures: 1, ejection_time: Duration::from_secs(3600) };
        let address = EndpointAddress::Tcp { host: name.into(), port: 80 };
        let health = Some(EndpointHealth::new(limits));
        Arc::new(Endpoint { health, ..Endpoint::new(name, address, UpstreamProtocol::Auto, Duration::from_secs(1)) })
    }

    fn group(names: &[&str], algorithm: BalanceAlgorithm) -> EndpointGroup {
        EndpointGroup::new(names.iter().map(|name| endpoint(name)).collect(), algorithm)
    }

    fn pick_counts(balance: &LoadBalancer, times: usize) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..times {
            *counts.entry(balance.pick().unwrap().label.to_string()).or_insert(0) += 1;
        }
        counts
    }

    #[test]
    fn requests_are_spread_by_weight_and_weight_zero_gets_none() {
        let single = |name| group(&[name], BalanceAlgorithm::LeastRequest);
        let balance = LoadBalancer::new([
            (3, group(&["a", "A"], BalanceAlgorithm::LeastRequest)),
            (0, single("b")),
            (1, single("c")),
        ]);
        let counts = pick_counts(&balance, 4000);
        assert!(!counts.contains_key("b"));
        assert!(
            (2700..3300).contains(&(counts["a"] + counts["A"])),
            "the weight counts per backend, not per endpoint: {counts:?}"
        );
        assert!(LoadBalancer::new([(0, single("b"))]).pick().is_none());
    }

    #[test]
    fn round_robin_is_exact_and_least_request_avoids_busy_endpoints() {
        let names = ["a", "b", "c"];
        let round_robin = LoadBalancer::new([(1, group(&names, BalanceAlgorithm::RoundRobin))]);
        assert_eq!(pick_counts(&round_robin, 300).into_values().collect::<Vec<_>>(), [100, 100, 100]);
        let least_request = LoadBalancer::new([(1, group(&names, BalanceAlgorithm::LeastRequest))]);
        let busy = least_request.endpoints().next().unwrap().health.as_ref().unwrap().start_request();
        let counts = pick_counts(&least_request, 300);
        drop(busy);
        assert!(!counts.contains_key("a") && counts.len() == 2, "two of three are always less busy: {counts:?}");
    }

    #[test]
    fn unhealthy_endpoints_are_skipped_while_others_are_healthy() {
        for algorithm in [BalanceAlgorithm::LeastRequest, BalanceAlgorithm::RoundRobin] {
            let balance = LoadBalancer::new([(1, group(&["a", "b"], algorithm)), (1, group(&["c"], algorithm))]);
            let fail = |label: &str| {
                let found = balance.endpoints().find(|endpoint| &*endpoint.label == label).unwrap();
                found.health.as_ref().unwrap().record_result(false);
            };
            fail("a");
            assert!(!pick_counts(&balance, 100).contains_key("a"), "{algorithm:?}");
            fail("b");
            assert_eq!(pick_counts(&balance, 100).into_keys().collect::<Vec<_>>(), ["c"], "another backend takes over");
            fail("c");
            assert_eq!(pick_counts(&balance, 300).len(), 3, "all are used when none is healthy");
        }
    }
}
