//! Which of a route's backends gets the next request: a weighted choice.

use std::cell::Cell;
use std::sync::Arc;

use super::Endpoint;

/// A route's backends with their weights.
#[derive(Debug, Default)]
pub struct Balance {
    /// Endpoints with the running sum of weights up to and including each.
    choices: Vec<(u64, Arc<Endpoint>)>,
}

impl Balance {
    /// Endpoints with their weights. A weight of zero gets nothing.
    pub fn new(endpoints: impl IntoIterator<Item = (u32, Arc<Endpoint>)>) -> Self {
        let mut sum = 0;
        let choices = endpoints
            .into_iter()
            .filter(|(weight, _)| *weight > 0)
            .map(|(weight, endpoint)| {
                sum += u64::from(weight);
                (sum, endpoint)
            })
            .collect();
        Self { choices }
    }

    /// The next request's endpoint; `None` when there is no backend, or all weights are zero.
    pub fn pick(&self) -> Option<&Arc<Endpoint>> {
        match self.choices.as_slice() {
            [] => None,
            [(_, only)] => Some(only),
            [.., (sum, _)] => {
                let ticket = random() % sum;
                self.choices.iter().find(|(up_to, _)| ticket < *up_to).map(|(_, endpoint)| endpoint)
            }
        }
    }

    /// All endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.choices.iter().map(|(_, endpoint)| endpoint)
    }
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
    use crate::upstream::{Address, Protocol};

    fn endpoint(name: &str) -> Arc<Endpoint> {
        Arc::new(Endpoint {
            key: 0,
            label: name.into(),
            address: Address::Tcp { host: name.into(), port: 80 },
            protocol: Protocol::Auto,
            tls: None,
            connect_timeout: std::time::Duration::from_secs(1),
        })
    }

    #[test]
    fn weights_are_kept_and_zero_gets_nothing() {
        let balance = Balance::new([(3, endpoint("a")), (0, endpoint("b")), (1, endpoint("c"))]);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..4000 {
            *counts.entry(balance.pick().unwrap().label.to_string()).or_insert(0) += 1;
        }
        assert!(!counts.contains_key("b"));
        assert!((2700..3300).contains(&counts["a"]), "{counts:?}");
        assert!(Balance::new([(0, endpoint("b"))]).pick().is_none());
    }
}
