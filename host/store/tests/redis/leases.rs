//! Queue, leases and fences together: whatever is lost, late or twice, each task is done, once.
//!
//! Random events against two real queues that stand in for each other, core's own state machine as the truth, and a naive
//! account of what must be on the queues.

use crate::Keys;
use crate::contract::fixtures::{at, skill, task};
use async_trait::async_trait;
use chimera_core::audit::Actor;
use chimera_core::change::Context;
use chimera_core::clock::{Clock as _, SystemClock, Timestamp};
use chimera_core::failure::{Failure, FailureKind};
use chimera_core::ids::*;
use chimera_core::machine::{LeaseEnd, TaskEvent, transition};
use chimera_core::ports::{Queue, Queued};
use chimera_core::task::{Lease, Outcome, Task, TaskState, Usage};
use chimera_store::{MemoryQueue, RedisQueue};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const SHARD: &str = "main";
const WORKERS: usize = 3;

/// How many cases: as many as the nightly run wants, or so few that nobody waits for them.
fn cases(full: u32, quick: u32) -> u32 {
    if std::env::var("CHIMERA_TEST_SIZE").is_ok_and(|size| size == "full") { full } else { quick }
}

/// A queue that can be lost, and the time that it goes by.
#[async_trait]
trait Place: Send {
    fn queue(&self) -> Arc<dyn Queue>;
    /// It comes back empty.
    async fn lose(&mut self);
    fn now(&self) -> Timestamp;
    /// How long a claim lasts.
    const CLAIM: Duration;
    /// Until every claim is over.
    async fn pass(&mut self);
    /// Does time go by only when it is passed?
    const IS_BY_HAND: bool;
}

struct InMemory {
    queue: Arc<MemoryQueue>,
    now: i64,
}

#[async_trait]
impl Place for InMemory {
    const CLAIM: Duration = Duration::from_millis(100);
    const IS_BY_HAND: bool = true;

    fn queue(&self) -> Arc<dyn Queue> {
        self.queue.clone()
    }

    async fn lose(&mut self) {
        self.queue = Arc::new(MemoryQueue::new());
    }

    fn now(&self) -> Timestamp {
        at(self.now)
    }

    async fn pass(&mut self) {
        self.now += 100;
    }
}

struct InRedis {
    queue: Arc<RedisQueue>,
    keys: Keys,
}

impl InRedis {
    async fn open() -> Self {
        let keys = Keys::new();
        Self { queue: Arc::new(RedisQueue::new(keys.redis().await)), keys }
    }
}

#[async_trait]
impl Place for InRedis {
    const CLAIM: Duration = Duration::from_millis(5);
    const IS_BY_HAND: bool = false;

    fn queue(&self) -> Arc<dyn Queue> {
        self.queue.clone()
    }

    async fn lose(&mut self) {
        self.keys.remove_all();
    }

    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    async fn pass(&mut self) {
        tokio::time::sleep(Self::CLAIM * 2).await;
    }
}

#[derive(Debug, Clone)]
enum Event {
    /// A task is queued in the truth; the relay may die before it is on the queue.
    New {
        priority: u8,
        is_pushed: bool,
    },
    Claim {
        worker: usize,
        limit: u32,
    },
    /// A worker asks for the lease of what it has claimed; the acknowledgement may be lost.
    Take {
        worker: usize,
        is_acked: bool,
    },
    /// A worker dies with what it has claimed.
    Die {
        worker: usize,
    },
    /// A run reports, however old it is.
    Report(Index),
    /// A receipt is used, however old it is.
    LateAck(Index),
    /// A lease is over; the sweeper may die before the task is on the queue again.
    Expire {
        run: Index,
        is_pushed: bool,
    },
    Lose,
    /// The other queue is used; what has watched fills it, or died.
    Switch {
        is_filled: bool,
    },
    Redrive,
    Pass,
}

fn event() -> impl Strategy<Value = Event> {
    let worker = || 0..WORKERS;
    let mostly = || proptest::bool::weighted(0.8);
    prop_oneof![
        4 => (0..10_u8, mostly()).prop_map(|(priority, is_pushed)| Event::New { priority, is_pushed }),
        6 => (worker(), 1..4_u32).prop_map(|(worker, limit)| Event::Claim { worker, limit }),
        6 => (worker(), mostly()).prop_map(|(worker, is_acked)| Event::Take { worker, is_acked }),
        1 => worker().prop_map(|worker| Event::Die { worker }),
        4 => any::<Index>().prop_map(Event::Report),
        3 => any::<Index>().prop_map(Event::LateAck),
        3 => (any::<Index>(), mostly()).prop_map(|(run, is_pushed)| Event::Expire { run, is_pushed }),
        1 => Just(Event::Lose),
        2 => mostly().prop_map(|is_filled| Event::Switch { is_filled }),
        1 => Just(Event::Redrive),
        2 => Just(Event::Pass),
    ]
}

/// What must be on one queue.
#[derive(Default)]
struct Account {
    tasks: HashMap<TaskId, Standing>,
}

#[derive(Clone)]
struct Standing {
    priority: u8,
    /// The only receipt that takes it off.
    receipt: Option<String>,
    hidden_until: Timestamp,
}

struct Run {
    task: TaskId,
    lease: LeaseId,
    attempt: u32,
}

struct World<P> {
    places: [P; 2],
    accounts: [Account; 2],
    in_use: usize,
    truth: HashMap<TaskId, Task>,
    /// Of which attempts a result was accepted.
    accepted: HashMap<TaskId, Vec<u32>>,
    hands: [Vec<(usize, Queued)>; WORKERS],
    receipts: Vec<(usize, String)>,
    runs: Vec<Run>,
}

impl<P: Place> World<P> {
    fn new(places: [P; 2]) -> Self {
        Self {
            places,
            accounts: Default::default(),
            in_use: 0,
            truth: HashMap::new(),
            accepted: HashMap::new(),
            hands: Default::default(),
            receipts: Vec::new(),
            runs: Vec::new(),
        }
    }

    /// Moves a task as the host does; false if the state machine refuses.
    fn apply(&mut self, id: TaskId, event: TaskEvent) -> bool {
        let cx = Context { now: at(0), ids: &SystemIds, actor: Actor::System, chance: 0.5 };
        match transition(&self.truth[&id], event, &cx) {
            Ok((task, _)) => {
                self.truth.insert(id, task);
                true
            }
            Err(_) => false,
        }
    }

    async fn push(&mut self, ids: &[TaskId]) {
        let place = &self.places[self.in_use];
        let tasks: Vec<(TaskId, u8)> = ids.iter().map(|id| (*id, self.truth[id].priority)).collect();
        place.queue().push(SHARD, &tasks, place.now()).await.unwrap();
        for (id, priority) in tasks {
            let standing = Standing { priority, receipt: None, hidden_until: Timestamp::EPOCH };
            self.accounts[self.in_use].tasks.entry(id).or_insert(standing);
        }
    }

    async fn redrive(&mut self) {
        let waits = |task: &&Task| task.state == TaskState::Queued;
        let ids: Vec<TaskId> = self.truth.values().filter(waits).map(|task| task.id).collect();
        self.push(&ids).await;
    }

    async fn claim(&mut self, worker: usize, limit: u32) {
        let place = &self.places[self.in_use];
        let (now, until) = (place.now(), place.now().plus(P::CLAIM));
        let claimed = place.queue().claim(SHARD, limit, now, until).await.unwrap();
        let account = &mut self.accounts[self.in_use];
        let mut waiting: Vec<u8> =
            account.tasks.values().filter(|task| task.hidden_until <= now).map(|task| task.priority).collect();
        waiting.sort_unstable_by(|a, b| b.cmp(a));
        waiting.truncate(limit as usize);
        let mut priorities = Vec::new();
        for queued in claimed {
            let standing = account.tasks.get_mut(&queued.task).expect("it was put there");
            assert!(!P::IS_BY_HAND || standing.hidden_until <= now, "it was claimed by somebody");
            priorities.push(standing.priority);
            standing.hidden_until = until;
            standing.receipt = Some(queued.receipt.clone());
            self.receipts.push((self.in_use, queued.receipt.clone()));
            self.hands[worker].push((self.in_use, queued));
        }
        if P::IS_BY_HAND {
            assert_eq!(priorities, waiting, "all that waits comes, the highest priority first");
        }
    }

    async fn ack(&mut self, (from, receipt): (usize, String)) {
        self.places[from].queue().ack(SHARD, &receipt).await.unwrap();
        // By its text, whatever the task: a queue in memory that was lost counts its claims from one again.
        self.accounts[from].tasks.retain(|_, standing| standing.receipt.as_ref() != Some(&receipt));
    }

    async fn take(&mut self, worker: usize, is_acked: bool) {
        let Some((from, queued)) = self.hands[worker].pop() else { return };
        let lease = LeaseId::new(&SystemIds);
        let held = Lease { id: lease, worker: AgentId::new(&SystemIds), until: Timestamp::MAX };
        // Whether it gets the lease or is too late: it need not be seen again.
        if self.apply(queued.task, TaskEvent::Leased { lease: held }) {
            self.runs.push(Run { task: queued.task, lease, attempt: self.truth[&queued.task].attempt });
        }
        if is_acked {
            self.ack((from, queued.receipt)).await;
        }
    }

    fn report(&mut self, run: usize) {
        let Run { task, lease, attempt } = self.runs[run];
        let current = self.truth[&task].attempt;
        let outcome = Outcome { output: json!(attempt), confidence: 1.0, evidence: Vec::new() };
        if self.apply(task, TaskEvent::Finished { lease, attempt, outcome, usage: Usage::default() }) {
            assert_eq!(attempt, current, "the result of an attempt that was over");
            let accepted = self.accepted.entry(task).or_default();
            accepted.push(attempt);
            assert_eq!(accepted.len(), 1, "a second result was accepted");
        }
    }

    /// A failure that is told too late must not end the newer attempt either.
    fn fail_late(&mut self, run: usize) {
        let Run { task, lease, attempt } = self.runs[run];
        if self.truth[&task].is_held_by(lease, attempt) {
            return;
        }
        let failure = Failure::new(FailureKind::Permanent, "test", "too late");
        let failed = TaskEvent::Failed { lease, attempt, failure, usage: Usage::default(), skill: skill() };
        assert!(!self.apply(task, failed), "an attempt that was over ended the newer one");
    }

    async fn happen(&mut self, event: Event) {
        match event {
            Event::New { priority, is_pushed } => {
                let (_, task) = task();
                let task = Task { priority, state: TaskState::Queued, ..task };
                let id = task.id;
                self.truth.insert(id, task);
                if is_pushed {
                    self.push(&[id]).await;
                }
            }
            Event::Claim { worker, limit } => self.claim(worker, limit).await,
            Event::Take { worker, is_acked } => self.take(worker, is_acked).await,
            Event::Die { worker } => self.hands[worker].clear(),
            Event::Report(run) if !self.runs.is_empty() => {
                let run = run.index(self.runs.len());
                self.fail_late(run);
                self.report(run);
            }
            Event::LateAck(receipt) if !self.receipts.is_empty() => {
                let receipt = self.receipts[receipt.index(self.receipts.len())].clone();
                self.ack(receipt).await;
            }
            Event::Expire { run, is_pushed } if !self.runs.is_empty() => {
                let task = self.runs[run.index(self.runs.len())].task;
                if self.apply(task, TaskEvent::LeaseExpired { cause: LeaseEnd::HostStopped }) {
                    assert_eq!(self.truth[&task].state, TaskState::Queued);
                    if is_pushed {
                        self.push(&[task]).await;
                    }
                }
            }
            Event::Report(_) | Event::LateAck(_) | Event::Expire { .. } => {}
            Event::Lose => {
                self.places[self.in_use].lose().await;
                self.accounts[self.in_use] = Account::default();
            }
            Event::Switch { is_filled } => {
                self.in_use = 1 - self.in_use;
                if is_filled {
                    self.redrive().await;
                }
            }
            Event::Redrive => self.redrive().await,
            Event::Pass => {
                for place in &mut self.places {
                    place.pass().await;
                }
            }
        }
        for (place, account) in self.places.iter().zip(&self.accounts) {
            assert_eq!(place.queue().len(SHARD).await.unwrap(), account.tasks.len() as u64);
        }
    }

    /// Whatever has happened: the next filling of the queue and a living worker are enough.
    async fn end(&mut self) {
        self.hands = Default::default();
        for run in 0..self.runs.len() {
            let task = self.runs[run].task;
            self.apply(task, TaskEvent::LeaseExpired { cause: LeaseEnd::HostStopped });
        }
        self.redrive().await;
        for _ in 0..100 {
            if self.accepted.len() == self.truth.len() && self.accounts[self.in_use].tasks.is_empty() {
                break;
            }
            self.happen(Event::Pass).await;
            self.claim(0, 100).await;
            while !self.hands[0].is_empty() {
                self.take(0, true).await;
            }
            for run in 0..self.runs.len() {
                self.report(run);
            }
        }
        for (task, state) in self.truth.iter().map(|(id, task)| (id, task.state)) {
            assert_eq!(
                (state, self.accepted.get(task).map(Vec::len)),
                (TaskState::Judging, Some(1)),
                "a task was lost"
            );
        }
        assert_eq!(
            self.places[self.in_use].queue().len(SHARD).await.unwrap(),
            0,
            "something stays on the queue for ever"
        );
    }
}

async fn play<P: Place>(places: [P; 2], events: Vec<Event>) {
    let mut world = World::new(places);
    for event in events {
        world.happen(event).await;
    }
    world.end().await;
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(10_000, 300), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_task_is_lost_or_done_twice_in_memory(events in proptest::collection::vec(event(), 0..150)) {
        let place = || InMemory { queue: Arc::new(MemoryQueue::new()), now: 0 };
        runtime().block_on(play([place(), place()], events));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(1_000, 30), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_task_is_lost_or_done_twice_in_redis(events in proptest::collection::vec(event(), 0..100)) {
        runtime().block_on(async {
            play([InRedis::open().await, InRedis::open().await], events).await;
        });
    }
}
