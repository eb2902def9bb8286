//! Which endpoint gets the next request: a weighted choice among a route's backends, then the less busy of two or the
//! next in turn among a backend's endpoints. Those that are not well are passed over, as long as any other is.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::Endpoint;

/// A route's backends with their weights.
#[derive(Debug, Default)]
pub struct Balance {
    /// Backends with the running sum of weights up to and including each.
    choices: Vec<(u64, Group)>,
}

/// A backend: endpoints that are as good as each other.
#[derive(Debug)]
pub struct Group {
    endpoints: Box<[Arc<Endpoint>]>,
    choice: Choice,
    next: AtomicUsize,
}

/// How an endpoint is chosen among several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// The less busy of two drawn at random.
    LeastRequest,
    /// One after the other.
    RoundRobin,
}

impl Balance {
    /// Backends with their weights. A weight of zero gets nothing.
    pub fn new(backends: impl IntoIterator<Item = (u32, Group)>) -> Self {
        let mut sum = 0;
        let choices = backends
            .into_iter()
            .filter(|(weight, group)| *weight > 0 && !group.endpoints.is_empty())
            .map(|(weight, group)| {
                sum += u64::from(weight);
                (sum, group)
            })
            .collect();
        Self { choices }
    }

    /// The next request's endpoint; `None` when there is no backend, or all weights are zero. When none is well, one
    /// of those that are not must do.
    pub fn pick(&self) -> Option<&Arc<Endpoint>> {
        match self.choices.as_slice() {
            [] => None,
            [(_, only)] => only.pick_well().or_else(|| only.pick_any()),
            [.., (sum, _)] => {
                let ticket = random() % sum;
                let at = self.choices.iter().position(|(up_to, _)| ticket < *up_to)?;
                let (before, from) = self.choices.split_at_checked(at)?;
                let (_, chosen) = from.first()?;
                from.iter().chain(before).find_map(|(_, group)| group.pick_well()).or_else(|| chosen.pick_any())
            }
        }
    }

    /// All endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.choices.iter().flat_map(|(_, group)| &group.endpoints)
    }
}

impl Group {
    /// All of them.
    pub fn endpoints(&self) -> &[Arc<Endpoint>] {
        &self.endpoints
    }

    /// A backend's endpoints.
    pub fn new(endpoints: Vec<Arc<Endpoint>>, choice: Choice) -> Self {
        // each begins elsewhere, so that many gateways that start together do not all ask the first
        let next = AtomicUsize::new(endpoints.len().checked_sub(1).map_or(0, |last| turn(last + 1)));
        Self { endpoints: endpoints.into(), choice, next }
    }

    fn pick_well(&self) -> Option<&Arc<Endpoint>> {
        let count = self.endpoints.len();
        match (&*self.endpoints, self.choice) {
            ([only], _) => is_well(only).then_some(only),
            ([], _) => None,
            (_, Choice::RoundRobin) => self.first_well(self.next.fetch_add(1, Relaxed) % count),
            (_, Choice::LeastRequest) => {
                let one = turn(count);
                let other = (one + 1 + turn(count - 1)) % count;
                let busy = |endpoint: &&Arc<Endpoint>| endpoint.load.as_ref().map_or(0, |load| load.in_flight());
                let drawn = [one, other].into_iter().filter_map(|at| self.endpoints.get(at));
                drawn.filter(|endpoint| is_well(endpoint)).min_by_key(busy).or_else(|| self.first_well(turn(count)))
            }
        }
    }

    fn first_well(&self, start: usize) -> Option<&Arc<Endpoint>> {
        let (before, from) = self.endpoints.split_at_checked(start)?;
        from.iter().chain(before).find(|endpoint| is_well(endpoint))
    }

    fn pick_any(&self) -> Option<&Arc<Endpoint>> {
        match &*self.endpoints {
            [] => None,
            [only] => Some(only),
            several => several.get(turn(several.len())),
        }
    }
}

fn is_well(endpoint: &Endpoint) -> bool {
    endpoint.load.as_ref().is_none_or(|load| load.is_well())
}

/// A number below `length`, which must not be zero, for taking turns.
pub(super) fn turn(length: usize) -> usize {
    usize::try_from(random() % (length as u64)).unwrap_or(0)
}

/// A thread's own sequence of numbers (SplitMix64). Good enough to spread load; never for secrets.
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
    use crate::upstream::load::{Limits, Load};
    use crate::upstream::{Address, Protocol};
    use std::collections::BTreeMap;
    use std::time::Duration;

    fn endpoint(name: &str) -> Arc<Endpoint> {
        let limits =
            Limits { max_connections: None, consecutive_failures: 1, ejection_time: Duration::from_secs(3600) };
        let address = Address::Tcp { host: name.into(), port: 80 };
        let load = Some(Load::new(limits));
        Arc::new(Endpoint { load, ..Endpoint::new(name, address, Protocol::Auto, Duration::from_secs(1)) })
    }

    fn group(names: &[&str], choice: Choice) -> Group {
        Group::new(names.iter().map(|name| endpoint(name)).collect(), choice)
    }

    fn picked(balance: &Balance, times: usize) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for _ in 0..times {
            *counts.entry(balance.pick().unwrap().label.to_string()).or_insert(0) += 1;
        }
        counts
    }

    #[test]
    fn weights_are_kept_and_zero_gets_nothing() {
        let one = |name| group(&[name], Choice::LeastRequest);
        let balance = Balance::new([(3, group(&["a", "A"], Choice::LeastRequest)), (0, one("b")), (1, one("c"))]);
        let counts = picked(&balance, 4000);
        assert!(!counts.contains_key("b"));
        assert!(
            (2700..3300).contains(&(counts["a"] + counts["A"])),
            "a backend's weight is not multiplied: {counts:?}"
        );
        assert!(Balance::new([(0, one("b"))]).pick().is_none());
    }

    #[test]
    fn taking_turns_is_exact_and_the_less_busy_of_two_gets_more() {
        let names = ["a", "b", "c"];
        let turns = Balance::new([(1, group(&names, Choice::RoundRobin))]);
        assert_eq!(picked(&turns, 300).into_values().collect::<Vec<_>>(), [100, 100, 100]);
        let least = Balance::new([(1, group(&names, Choice::LeastRequest))]);
        let busy = least.endpoints().next().unwrap().load.as_ref().unwrap().begin();
        let counts = picked(&least, 300);
        drop(busy);
        assert!(!counts.contains_key("a") && counts.len() == 2, "two of three are always less busy: {counts:?}");
    }

    #[test]
    fn who_is_not_well_is_passed_over_as_long_as_somebody_else_is() {
        for choice in [Choice::LeastRequest, Choice::RoundRobin] {
            let balance = Balance::new([(1, group(&["a", "b"], choice)), (1, group(&["c"], choice))]);
            let fail = |label: &str| {
                let found = balance.endpoints().find(|endpoint| &*endpoint.label == label).unwrap();
                found.load.as_ref().unwrap().ended(false);
            };
            fail("a");
            assert!(!picked(&balance, 100).contains_key("a"), "{choice:?}");
            fail("b");
            assert_eq!(picked(&balance, 100).into_keys().collect::<Vec<_>>(), ["c"], "another backend steps in");
            fail("c");
            assert_eq!(picked(&balance, 300).len(), 3, "when nobody is well, all are tried");
        }
    }
}
