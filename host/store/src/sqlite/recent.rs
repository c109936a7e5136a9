//! Tasks and specifications as they were written last.
//!
//! A task on its way is read a dozen times within milliseconds of having been written, each time by another part of the
//! house. What the writer commits is kept here until newer things push it out, so those reads cost no command to the
//! database. Only the writer puts anything in, once it is committed and before anybody is answered, so nothing older than the
//! truth is ever found; a guard that turns out stale has its task forgotten, in case another program wrote to the file.
//! Only a cache: it decides nothing. Told by the writer, asked by the reads.

use chimera_core::change::{Guard, Write};
use chimera_core::ids::{SpecId, TaskId};
use chimera_core::task::{Task, TaskSpec};
use quick_cache::Weighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder};
use serde_json::Value;
use std::hash::Hash;
use std::sync::Arc;

/// Most bytes of each kind, roughly: some ten thousand small tasks may wait for a worker and still be found here.
const MOST_BYTES: u64 = 16 << 20;
/// Things larger than this, roughly in bytes, are not kept.
const MOST_BYTES_OF_ONE: u64 = 64 << 10;
/// What a thing weighs beside the JSON values in it, roughly in bytes.
const OWN_BYTES: u64 = 1 << 10;

/// What was written last.
#[derive(Debug)]
pub(super) struct Recent {
    tasks: Cache<TaskId, Arc<Task>, ByBytes>,
    specs: Cache<SpecId, Arc<TaskSpec>, ByBytes>,
}

impl Default for Recent {
    fn default() -> Self {
        Self { tasks: cache(), specs: cache() }
    }
}

/// Most of the room is for what has not been read yet: a task waits for its worker longer than it then takes. (As the library
/// comes, that gets three hundredths of it.)
fn cache<K: Copy + Eq + Hash, T: Weigh>() -> Cache<K, Arc<T>, ByBytes> {
    let items = usize::try_from(MOST_BYTES / OWN_BYTES).unwrap_or(usize::MAX);
    let options = OptionsBuilder::new()
        .estimated_items_capacity(items)
        .weight_capacity(MOST_BYTES)
        .hot_allocation(0.25)
        .ghost_allocation(0.0)
        .build();
    match options {
        Ok(options) => {
            Cache::with_options(options, ByBytes, DefaultHashBuilder::default(), DefaultLifecycle::default())
        }
        // It refuses only what lacks a capacity.
        Err(_) => Cache::with_weighter(items, MOST_BYTES, ByBytes),
    }
}

impl Recent {
    pub(super) fn task(&self, id: TaskId) -> Option<Task> {
        self.tasks.get(&id).map(|task| Task::clone(&task))
    }

    pub(super) fn spec(&self, id: SpecId) -> Option<TaskSpec> {
        self.specs.get(&id).map(|spec| TaskSpec::clone(&spec))
    }

    /// These writes are in the database now.
    pub(super) fn written(&self, writes: impl IntoIterator<Item = Write>) {
        for write in writes {
            match write {
                Write::PutTask(task) => keep(&self.tasks, task.id, task),
                Write::PutSpec(spec) => keep(&self.specs, spec.id, spec),
                _ => {}
            }
        }
    }

    /// This did not hold.
    pub(super) fn stale(&self, guard: &Guard) {
        if let Guard::TaskRev(task, _) | Guard::LeaseCurrent(task, ..) = guard {
            self.tasks.remove(task);
        }
    }
}

fn keep<K: Copy + Eq + Hash, T: Weigh>(cache: &Cache<K, Arc<T>, ByBytes>, key: K, thing: T) {
    if thing.bytes() > MOST_BYTES_OF_ONE {
        cache.remove(&key);
    } else {
        cache.insert(key, Arc::new(thing));
    }
}

/// Says what a thing weighs.
trait Weigh {
    /// In bytes, roughly.
    fn bytes(&self) -> u64;
}

impl Weigh for Task {
    fn bytes(&self) -> u64 {
        let outcome = self.outcome.as_ref().map_or(0, |outcome| {
            let evidence: u64 = outcome.evidence.iter().map(|entry| entry.len() as u64).sum();
            bytes_of(&outcome.output) + evidence
        });
        OWN_BYTES + outcome
    }
}

impl Weigh for TaskSpec {
    fn bytes(&self) -> u64 {
        OWN_BYTES + bytes_of(&self.input) + self.expect.as_ref().map_or(0, bytes_of) + self.goal.len() as u64
    }
}

/// As deep as values may be, which is bounded before they are stored.
fn bytes_of(value: &Value) -> u64 {
    let own = size_of::<Value>() as u64;
    own + match value {
        Value::String(text) => text.len() as u64,
        Value::Array(items) => items.iter().map(bytes_of).sum(),
        Value::Object(map) => map.iter().map(|(key, item)| own + key.len() as u64 + bytes_of(item)).sum(),
        _ => 0,
    }
}

#[derive(Debug, Clone)]
struct ByBytes;

impl<K, T: Weigh> Weighter<K, Arc<T>> for ByBytes {
    fn weight(&self, _: &K, thing: &Arc<T>) -> u64 {
        thing.bytes()
    }
}
