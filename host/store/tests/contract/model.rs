//! Random sequences of changes against a model in memory.

use super::fixtures::*;
use chimera_core::audit;
use chimera_core::change::{Change, Committed, Guard, Write};
use chimera_core::effect::Effect;
use chimera_core::ids::*;
use chimera_core::ports::{PortError, Truth};
use chimera_core::task::{Task, TaskSpec};
use futures::future::join_all;
use proptest::prelude::*;
use std::collections::BTreeMap;

const TASKS: usize = 4;

/// What is asked of a store.
#[derive(Debug, Clone)]
pub enum Step {
    /// Moves a task on from the revision it has, or from one that is this much too old.
    Bump { task: usize, behind: u64 },
    /// Moves two tasks on together.
    BumpBoth { first: usize, second: usize, behind: u64 },
    /// Moves a task on and then cannot: an effect of the same key is there.
    Fail { task: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let behind = || prop_oneof![3 => Just(0_u64), 1 => 1..3_u64];
    prop_oneof![
        4 => (0..TASKS, behind()).prop_map(|(task, behind)| Step::Bump { task, behind }),
        2 => (0..TASKS, 0..TASKS, behind()).prop_map(|(first, second, behind)| Step::BumpBoth { first, second, behind }),
        1 => (0..TASKS).prop_map(|task| Step::Fail { task }),
    ]
}

#[derive(Debug, PartialEq)]
enum Expected {
    Applied,
    Stale(Guard),
    Error,
}

impl Expected {
    fn check(&self, result: &Result<Committed, PortError>) -> bool {
        match (self, result) {
            (Self::Applied, Ok(Committed::Applied)) | (Self::Error, Err(_)) => true,
            (Self::Stale(expected), Ok(Committed::Stale(guard))) => expected == guard,
            _ => false,
        }
    }
}

struct Model {
    tasks: Vec<Task>,
    taken: Effect,
    events: usize,
}

impl Model {
    /// The change of a step, and what must become of it; the model moves on as if it had.
    fn take(&mut self, step: &Step) -> (Change, Expected) {
        let mut change = Change::new();
        change.audit(draft(None, "task.bumped"));
        let (moved, behind) = match step {
            Step::Bump { task, behind } => (vec![*task], *behind),
            Step::BumpBoth { first, second, behind } if first != second => (vec![*first, *second], *behind),
            Step::BumpBoth { first, behind, .. } => (vec![*first], *behind),
            Step::Fail { task } => (vec![*task], 0),
        };
        let mut stale = None;
        let mut next: BTreeMap<usize, Task> = BTreeMap::new();
        for index in moved {
            let task = &self.tasks[index];
            let rev = task.rev.checked_sub(behind).unwrap_or(task.rev + 1);
            let guard = Guard::TaskRev(task.id, rev);
            if rev != task.rev {
                stale.get_or_insert(guard.clone());
            }
            change.guard(guard);
            next.insert(index, Task { rev: rev + 1, retries: task.retries + 1, ..task.clone() });
        }
        change.writes.extend(next.values().cloned().map(Write::PutTask));
        if let Step::Fail { .. } = step {
            change.write(Write::PutEffect(Effect { id: EffectId::new(&SystemIds), ..self.taken.clone() }));
            return (change, Expected::Error);
        }
        if let Some(guard) = stale {
            return (change, Expected::Stale(guard));
        }
        for (index, task) in next {
            self.tasks[index] = task;
        }
        self.events += 1;
        (change, Expected::Applied)
    }
}

/// What can be closed and opened again with all it has.
pub trait Lasting {
    /// The store that it is.
    type Store: Truth;
    /// Opens it.
    async fn open(&self) -> Self::Store;
    /// Closes it.
    async fn close(&self, store: Self::Store);
}

/// Does what the steps say, on a store that takes changes in the order in which they are handed in.
pub async fn random_changes_do_what_the_model_says(lasting: &impl Lasting, batches: Vec<Vec<Step>>) {
    let store = lasting.open().await;
    let (specs, tasks): (Vec<TaskSpec>, Vec<Task>) = (0..TASKS).map(|_| task()).unzip();
    let taken = effect(LineageId::new(&SystemIds), 0);
    let mut setup = writes([Write::PutEffect(taken.clone())]);
    for (spec, task) in specs.iter().zip(&tasks) {
        setup.extend(creation(spec, task));
    }
    let _ = store.commit(setup).await.unwrap();
    let mut model = Model { tasks, taken, events: 0 };
    for batch in batches {
        let (changes, expected): (Vec<_>, Vec<_>) = batch.iter().map(|step| model.take(step)).unzip();
        // Polled in this order, so handed to the writer in this order, whatever transactions they end up in.
        let results = join_all(changes.into_iter().map(|change| store.commit(change))).await;
        for ((step, expected), result) in batch.iter().zip(&expected).zip(&results) {
            assert!(expected.check(result), "{step:?}: expected {expected:?}, got {result:?}");
        }
        compare(&store, &model).await;
    }
    lasting.close(store).await;
    let store = lasting.open().await;
    compare(&store, &model).await;
    lasting.close(store).await;
}

async fn compare(store: &impl Truth, model: &Model) {
    for task in &model.tasks {
        assert_eq!(store.task(task.id).await.unwrap().as_ref(), Some(task));
    }
    let events = store.audit(None, 0, u32::MAX).await.unwrap();
    assert_eq!(events.len(), model.events);
    audit::verify(None, &events).unwrap();
}

/// Batches of steps.
pub fn batches() -> impl Strategy<Value = Vec<Vec<Step>>> {
    prop::collection::vec(prop::collection::vec(step(), 1..8), 1..6)
}
