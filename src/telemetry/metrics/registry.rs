//! The registry of all series. It assigns the ids by which shards count.

use std::collections::HashMap;

use super::{CounterId, CounterVecId, Family, Labels};

/// The names of all series of the process. An id is an index into a list here and into the values of every shard.
#[derive(Debug, Default)]
pub(super) struct SeriesRegistry {
    pub(super) counters: Vec<(Family, Labels)>,
    counter_ids: HashMap<(Family, Labels), CounterId>,
    pub(super) counter_vecs: Vec<(Family, Labels)>,
    counter_vec_ids: HashMap<(Family, Labels), CounterVecId>,
    pub(super) routes: Vec<Labels>,
    route_ids: HashMap<Labels, u32>,
}

impl SeriesRegistry {
    pub(super) fn counter(&mut self, family: Family, labels: Labels) -> CounterId {
        if let Some(id) = self.counter_ids.get(&(family, labels.clone())) {
            return *id;
        }
        let id = CounterId(next_id(&self.counters));
        self.counters.push((family, labels.clone()));
        self.counter_ids.insert((family, labels), id);
        id
    }

    pub(super) fn counter_vec(&mut self, family: Family, labels: Labels) -> CounterVecId {
        if let Some(id) = self.counter_vec_ids.get(&(family, labels.clone())) {
            return *id;
        }
        let id = CounterVecId(next_id(&self.counter_vecs));
        self.counter_vecs.push((family, labels.clone()));
        self.counter_vec_ids.insert((family, labels), id);
        id
    }

    /// Returns the counter of a [`CounterVecId`] with the labels that only the request determines.
    pub(super) fn member(&mut self, id: CounterVecId, labels: &Labels) -> Option<CounterId> {
        let (family, shared) = self.counter_vecs.get(id.0 as usize)?;
        let (family, labels) = (*family, shared.with(labels));
        Some(self.counter(family, labels))
    }

    /// Returns the index of a route's histograms.
    pub(super) fn route(&mut self, labels: Labels) -> u32 {
        let next = next_id(&self.routes);
        let id = *self.route_ids.entry(labels.clone()).or_insert(next);
        if id == next {
            self.routes.push(labels);
        }
        id
    }
}

fn next_id<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}
