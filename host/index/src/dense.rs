//! Learned vectors, and the ones nearest to a vector: exactly among a few thousand, by a graph among more.
//!
//! The graph is HNSW (Malkov and Yashunin, 2016) by the crate `usearch` (Apache-2.0): it is released every few weeks, a document
//! can be taken out of it again and its place is used anew, and its safe interface needs a C++ compiler and nothing else. Of
//! the pure Rust ones, `hnsw_rs` cannot delete and `instant-distance` cannot even add once it is built. The graph holds the
//! numbers as bytes and only names candidates; what is returned is computed from the numbers themselves. Owned by
//! [`crate::corpus`].

use crate::corpus::DocId;
use crate::embed::{ModelName, Vector};
use std::fmt;
use usearch::{Index, IndexOptions, MetricKind, ScalarKind};

/// Up to this many vectors all are compared: it takes less than a millisecond and forgets nothing.
const EXACT_UP_TO: usize = 4096;
/// Neighbours of a place in the graph, and how widely they are looked for when one is added. Chosen by measuring: see
/// `tests/many.rs`.
const CONNECTIVITY: usize = 16;
const EXPANSION_ADD: usize = 96;
/// Candidates that the graph keeps in view during a search at least; the more, the surer and slower.
const EXPANSION_SEARCH: usize = 192;
/// Searches that may run in the graph at once; one more is answered exactly.
const THREADS: usize = 64;

/// Vectors by document, all of one model.
#[derive(Default)]
pub(crate) struct Dense {
    model: Option<(ModelName, usize)>,
    /// Vector of document `id` at `id * dimensions`.
    values: Vec<f32>,
    is_there: Vec<bool>,
    count: usize,
    graph: Option<Graph>,
}

impl fmt::Debug for Dense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dense").field("count", &self.count).field("has_graph", &self.graph.is_some()).finish()
    }
}

impl Dense {
    /// Keeps a document's vector. One of another model than those that are there is not kept: the document is then found
    /// by its words alone.
    pub(crate) fn put(&mut self, id: DocId, vector: &Vector) {
        self.remove(id);
        let values = vector.values();
        if values.iter().all(|value| *value == 0.0) {
            return;
        }
        if self.count == 0 {
            *self = Self { model: Some((vector.model().clone(), values.len())), ..Self::default() };
        }
        if !self.is_of_this_model(vector) {
            tracing::warn!(model = %vector.model(), "a vector of another model is not put among the others");
            return;
        }
        let (at, dimensions) = (id as usize, values.len());
        if self.is_there.len() <= at {
            self.is_there.resize(at + 1, false);
            self.values.resize((at + 1) * dimensions, 0.0);
        }
        self.values[at * dimensions..(at + 1) * dimensions].copy_from_slice(values);
        self.is_there[at] = true;
        self.count += 1;
        if let Some(graph) = &mut self.graph {
            if !graph.add(id, values) {
                self.graph = None;
            }
        } else if self.count == EXACT_UP_TO + 1 || (self.count > EXACT_UP_TO && self.count.is_power_of_two()) {
            // A graph that could not be made is not tried for again with every vector.
            self.graph = self.build(dimensions);
        }
    }

    /// Forgets a document's vector, if it has one.
    pub(crate) fn remove(&mut self, id: DocId) {
        let Some(is_there) = self.is_there.get_mut(id as usize).filter(|is_there| **is_there) else { return };
        *is_there = false;
        self.count -= 1;
        if self.graph.as_mut().is_some_and(|graph| !graph.remove(id)) {
            self.graph = None;
        }
    }

    /// Can a vector be compared with these?
    pub(crate) fn is_of_this_model(&self, vector: &Vector) -> bool {
        self.model.as_ref().is_some_and(|(model, size)| model == vector.model() && *size == vector.values().len())
    }

    /// The cosine of a document's vector and another of the same model.
    pub(crate) fn cosine(&self, id: DocId, vector: &Vector) -> Option<f32> {
        let at = id as usize;
        let size = self.model.as_ref()?.1;
        (*self.is_there.get(at)?).then(|| dot(&self.values[at * size..(at + 1) * size], vector.values()))
    }

    /// The documents whose vectors are nearest, best first, at most `limit`; none if the vector is another model's.
    pub(crate) fn nearest(&self, vector: &Vector, limit: usize) -> Vec<(DocId, f32)> {
        if !self.is_of_this_model(vector) {
            return Vec::new();
        }
        let candidates = self.graph.as_ref().and_then(|graph| graph.nearest(vector.values(), limit));
        let mut found: Vec<(DocId, f32)> = match candidates {
            Some(ids) => ids.into_iter().filter_map(|id| Some((id, self.cosine(id, vector)?))).collect(),
            None => (0..self.is_there.len() as DocId).filter_map(|id| Some((id, self.cosine(id, vector)?))).collect(),
        };
        let order = |a: &(DocId, f32), b: &(DocId, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if found.len() > limit {
            found.select_nth_unstable_by(limit, order);
            found.truncate(limit);
        }
        found.sort_unstable_by(order);
        found
    }

    fn build(&self, dimensions: usize) -> Option<Graph> {
        let mut graph = Graph::new(dimensions, self.count)?;
        let mut known = self.is_there.iter().enumerate().filter(|(_, is_there)| **is_there);
        known
            .all(|(at, _)| graph.add(at as DocId, &self.values[at * dimensions..(at + 1) * dimensions]))
            .then_some(graph)
    }
}

/// Sixteen sums side by side: the processor adds them at once, which one sum in order would forbid.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0_f32; 16];
    let (whole_a, rest_a) = a.as_chunks::<16>();
    let (whole_b, rest_b) = b.as_chunks::<16>();
    for (a, b) in whole_a.iter().zip(whole_b) {
        for at in 0..16 {
            sums[at] += a[at] * b[at];
        }
    }
    sums.iter().sum::<f32>() + rest_a.iter().zip(rest_b).map(|(a, b)| a * b).sum::<f32>()
}

/// The graph; whatever goes wrong in it is answered by doing without.
struct Graph {
    index: Index,
    room: usize,
}

impl Graph {
    fn new(dimensions: usize, count: usize) -> Option<Self> {
        let options = IndexOptions {
            dimensions,
            metric: MetricKind::Cos,
            quantization: ScalarKind::I8,
            connectivity: CONNECTIVITY,
            expansion_add: EXPANSION_ADD,
            expansion_search: EXPANSION_SEARCH,
            multi: false,
        };
        let index = told(Index::new(&options))?;
        let mut graph = Self { index, room: 0 };
        graph.make_room(count * 2).then_some(graph)
    }

    fn make_room(&mut self, room: usize) -> bool {
        self.room = room;
        told(self.index.reserve_capacity_and_threads(room, THREADS)).is_some()
    }

    /// False if the graph is of no more use.
    fn add(&mut self, id: DocId, values: &[f32]) -> bool {
        if self.index.size() + 1 >= self.room && !self.make_room(self.room * 2) {
            return false;
        }
        told(self.index.add(u64::from(id), values)).is_some()
    }

    fn remove(&mut self, id: DocId) -> bool {
        told(self.index.remove(u64::from(id))).is_some()
    }

    fn nearest(&self, values: &[f32], limit: usize) -> Option<Vec<DocId>> {
        // The bytes' order is not quite the numbers': some more than are wanted are looked at.
        let found = told(self.index.search(values, (2 * limit).max(32)))?;
        Some(found.keys.into_iter().filter_map(|key| DocId::try_from(key).ok()).collect())
    }
}

fn told<T, E: fmt::Display>(result: Result<T, E>) -> Option<T> {
    result.inspect_err(|error| tracing::warn!(%error, "the graph of vectors failed; it is done without")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector(model: &str, number: u64) -> Vector {
        let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let values = (0..24).map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        });
        Vector::new(ModelName::new(model), values.collect())
    }

    #[test]
    fn what_is_removed_is_found_no_more_with_a_graph_too() {
        let mut dense = Dense::default();
        let many = EXACT_UP_TO as u64 + 500;
        for number in 0..many {
            dense.put(number as DocId, &vector("m", number));
        }
        assert!(dense.graph.is_some());
        for number in (0..many).step_by(2) {
            dense.remove(number as DocId);
        }
        for number in (0..many).step_by(97) {
            let found = dense.nearest(&vector("m", number), 1)[0];
            assert_eq!(found.0 as u64 == number, number % 2 == 1, "{number}");
        }
        for number in (0..many).step_by(2) {
            dense.put(number as DocId, &vector("m", number + many));
        }
        let hits = (0..many).step_by(2).filter(|n| dense.nearest(&vector("m", n + many), 1)[0].0 as u64 == *n).count();
        assert!(hits * 100 >= many as usize / 2 * 98, "{hits}");
    }

    #[test]
    fn vectors_of_two_models_are_never_compared() {
        let mut dense = Dense::default();
        dense.put(0, &vector("old", 0));
        dense.put(1, &vector("new", 1));
        assert!(dense.nearest(&vector("new", 1), 5).is_empty());
        assert_eq!(dense.nearest(&vector("old", 0), 5).len(), 1);
        // Once nothing of the old one is left, the new one may come.
        dense.remove(0);
        dense.put(1, &vector("new", 1));
        assert_eq!(dense.nearest(&vector("new", 1), 5)[0].0, 1);
        assert!(dense.nearest(&vector("old", 0), 5).is_empty());
    }
}
