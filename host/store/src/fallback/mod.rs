//! A queue that another one stands in for while it fails.
//!
//! Every operation goes to the best queue that works; which that is, [`machine`] decides. A switch carries no tasks over:
//! whoever [watches](FallbackQueue::watch) fills the queue in use again from the truth, at once, and what is left on the
//! other one is found to be somebody's or done when it is seen again. So a task may be on two queues, and two workers may
//! get it: one gets the lease. Opened by the binary; called by the relay and the workers.

mod figures;
mod machine;

pub use figures::{LATENCY_BOUNDS_US, QueueFigures, QueueStats};
pub use machine::{FallbackTerms, QueueRole, SwitchReason};

use crate::rows::PortResult;
use async_trait::async_trait;
use chimera_core::clock::{Clock, Timestamp};
use chimera_core::ids::TaskId;
use chimera_core::ports::{PortError, PortErrorKind, Queue, Queued};
use figures::Figures;
use futures::future::BoxFuture;
use machine::{Machine, Outcome, Switch};
use serde::Serialize;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuid::Uuid;

/// Switches that are kept for a slow listener; it is told when some were lost.
const SWITCHES: usize = 64;
/// The shard that probes use; no planner can have this name.
const PROBE_SHARD: &str = ".probe";
/// How long a probe's task is hidden if the prober dies.
const PROBE_CLAIM: Duration = Duration::from_secs(5);

/// The queues, from the one that is wanted to the one that is always there.
#[derive(Clone)]
pub struct FallbackQueues {
    /// The one that is wanted.
    pub primary: Arc<dyn Queue>,
    /// Used while the primary fails, if there is one.
    pub backup: Option<Arc<dyn Queue>>,
    /// Used while the others fail; never given up.
    pub last: Arc<dyn Queue>,
}

impl fmt::Debug for FallbackQueues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackQueues").field("has_backup", &self.backup.is_some()).finish_non_exhaustive()
    }
}

/// Another queue is used from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct QueueSwitch {
    /// The one that was used.
    pub from: QueueRole,
    /// The one that is used now.
    pub to: QueueRole,
    /// Why.
    #[serde(flatten)]
    pub why: SwitchReason,
    /// When.
    pub at: Timestamp,
}

/// A queue that others stand in for; see [`Queue`]. Cloning it is cheap; the clones share everything.
///
/// An operation that fails is done again on the next queue before its caller hears of it. A receipt names the queue that
/// gave it.
#[derive(Clone)]
pub struct FallbackQueue {
    shared: Arc<Shared>,
    /// Ends the prober with the last clone.
    _stop: Arc<DropGuard>,
}

struct Shared {
    members: Vec<Member>,
    terms: FallbackTerms,
    machine: Mutex<Machine>,
    began: Instant,
    clock: Arc<dyn Clock>,
    switches: broadcast::Sender<QueueSwitch>,
    switched: AtomicU64,
    /// Tells the prober that there is something to probe.
    probe: Notify,
}

struct Member {
    role: QueueRole,
    queue: Arc<dyn Queue>,
    figures: Figures,
}

impl fmt::Debug for FallbackQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FallbackQueue").field("in_use", &self.shared.machine().in_use()).finish_non_exhaustive()
    }
}

impl FallbackQueue {
    /// Uses the primary, and starts the task that probes it while it is not in use; the task ends with the last clone. To
    /// be called within a runtime.
    pub fn start(queues: FallbackQueues, terms: FallbackTerms, clock: Arc<dyn Clock>) -> Self {
        let members = [
            Some((QueueRole::Primary, queues.primary)),
            queues.backup.map(|queue| (QueueRole::Backup, queue)),
            Some((QueueRole::Last, queues.last)),
        ];
        let member = |(role, queue)| Member { role, queue, figures: Figures::default() };
        let members: Vec<Member> = members.into_iter().flatten().map(member).collect();
        let machine = Machine::new(members.iter().map(|member| member.role), terms.clone());
        let shared = Arc::new(Shared {
            members,
            terms,
            machine: Mutex::new(machine),
            began: Instant::now(),
            clock,
            switches: broadcast::channel(SWITCHES).0,
            switched: AtomicU64::new(0),
            probe: Notify::new(),
        });
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(probe(shared.clone())));
        Self { shared, _stop: Arc::new(stop.drop_guard()) }
    }

    /// Hears of every switch from now on. It is told after the switch: what is put on the queue then is put on the new one.
    /// Who hears that it was too slow ([`broadcast::error::RecvError::Lagged`]) has missed a switch, and acts as on one.
    pub fn watch(&self) -> broadcast::Receiver<QueueSwitch> {
        self.shared.switches.subscribe()
    }

    /// Which queue is in use, and what the operations took.
    pub fn stats(&self) -> QueueStats {
        let shared = &self.shared;
        QueueStats {
            in_use: shared.machine().in_use(),
            switches: shared.switched.load(Ordering::Relaxed),
            queues: shared.members.iter().map(|member| member.figures.read(member.role)).collect(),
        }
    }
}

impl Shared {
    fn machine(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn member(&self, role: QueueRole) -> Option<&Member> {
        self.members.iter().find(|member| member.role == role)
    }

    /// Does it on the queue in use, and on the next one if that fails.
    async fn run<'s, T>(
        &'s self,
        operation: impl Fn(&'s Arc<dyn Queue>) -> BoxFuture<'s, PortResult<T>> + Send,
    ) -> PortResult<(QueueRole, T)> {
        let mut tries = self.members.len();
        loop {
            let role = self.machine().in_use();
            let member = self.member(role).ok_or_else(no_such_queue)?;
            tries -= 1;
            match self.run_on(member, operation(&member.queue)).await {
                Ok(answer) => return Ok((role, answer)),
                Err(error) if is_trouble(&error) && role != QueueRole::Last && tries > 0 => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn run_on<T>(&self, member: &Member, operation: BoxFuture<'_, PortResult<T>>) -> PortResult<T> {
        let started = Instant::now();
        let answer = self.bounded(member.role, operation).await;
        let took = started.elapsed();
        let trouble = answer.as_ref().err().filter(|error| is_trouble(error));
        member.figures.count(took, trouble.is_some(), took > self.terms.slow);
        let outcome = trouble.map_or(Outcome::Done(took), |error| Outcome::Failed(error.message.clone()));
        let chance = rand::random();
        let mut machine = self.machine();
        let switch = machine.done(member.role, outcome, self.began.elapsed(), chance);
        self.tell(switch);
        drop(machine);
        answer
    }

    /// The last queue is never given up: nothing else could be asked.
    async fn bounded<T>(&self, role: QueueRole, operation: BoxFuture<'_, PortResult<T>>) -> PortResult<T> {
        if role == QueueRole::Last {
            return operation.await;
        }
        tokio::time::timeout(self.terms.gives_up, operation).await.unwrap_or_else(|_| {
            let message = format!("the {role} queue does not answer within {:?}", self.terms.gives_up);
            Err(PortError::new(PortErrorKind::Unavailable, message))
        })
    }

    /// Called under the machine's lock, so that switches are told in their order.
    fn tell(&self, switch: Option<Switch>) {
        let Some(Switch { from, to, why }) = switch else { return };
        if to > from {
            tracing::warn!(%from, %to, %why, "another queue is used");
        } else {
            tracing::info!(%from, %to, %why, "a better queue is used again");
        }
        self.switched.fetch_add(1, Ordering::Relaxed);
        // Nobody watching is no error.
        let _ = self.switches.send(QueueSwitch { from, to, why, at: self.clock.now() });
        self.probe.notify_one();
    }

    async fn probe(&self, role: QueueRole) {
        let Some(member) = self.member(role) else { return };
        let outcome = match self.bounded(role, Box::pin(round_trip(&*member.queue, self.clock.now()))).await {
            Ok(longest) => Outcome::Done(longest),
            Err(error) => Outcome::Failed(error.message),
        };
        let mut machine = self.machine();
        let switch = machine.probed(role, outcome, self.began.elapsed(), rand::random());
        self.tell(switch);
    }
}

/// Everything that is asked of a queue, with a task that is nobody's; how long the longest part took. All hosts use one task
/// on one shard, so at most one is ever left behind; that another host has it just now is as good.
async fn round_trip(queue: &dyn Queue, now: Timestamp) -> PortResult<Duration> {
    let nobody = TaskId::from_uuid(Uuid::nil());
    let mut longest = Duration::ZERO;
    let started = Instant::now();
    queue.push(PROBE_SHARD, &[(nobody, 5)], now).await?;
    longest = longest.max(started.elapsed());
    let started = Instant::now();
    let claimed = queue.claim(PROBE_SHARD, 1, now, now.plus(PROBE_CLAIM)).await?;
    longest = longest.max(started.elapsed());
    for queued in claimed {
        let started = Instant::now();
        queue.ack(PROBE_SHARD, &queued.receipt).await?;
        longest = longest.max(started.elapsed());
    }
    Ok(longest)
}

/// Probes the queues that are better than the one in use, when it is their time; sleeps otherwise.
async fn probe(shared: Arc<Shared>) {
    loop {
        let next = shared.machine().next_probe();
        let told = shared.probe.notified();
        match next.map(|at| at.saturating_sub(shared.began.elapsed())) {
            None => told.await,
            Some(pause) if !pause.is_zero() => {
                // Whichever comes first: a switch may have changed what is next.
                let _ = tokio::time::timeout(pause, told).await;
            }
            Some(_) => {
                let due = shared.machine().due(shared.began.elapsed());
                for role in due {
                    shared.probe(role).await;
                }
            }
        }
    }
}

/// What a caller does wrong is no fault of the queue's.
fn is_trouble(error: &PortError) -> bool {
    error.kind != PortErrorKind::Permanent
}

fn no_such_queue() -> PortError {
    PortError::new(PortErrorKind::Permanent, "the receipt is not one that these queues have given")
}

fn sign(role: QueueRole) -> char {
    match role {
        QueueRole::Primary => 'p',
        QueueRole::Backup => 'b',
        QueueRole::Last => 'l',
    }
}

#[async_trait]
impl Queue for FallbackQueue {
    async fn push(&self, planner_id: &str, tasks: &[(TaskId, u8)], now: Timestamp) -> Result<(), PortError> {
        if tasks.is_empty() {
            return Ok(());
        }
        self.shared.run(|queue| queue.push(planner_id, tasks, now)).await.map(drop)
    }

    async fn claim(
        &self,
        planner_id: &str,
        limit: u32,
        now: Timestamp,
        visible_again: Timestamp,
    ) -> Result<Vec<Queued>, PortError> {
        let (role, mut claimed) = self.shared.run(|queue| queue.claim(planner_id, limit, now, visible_again)).await?;
        for queued in &mut claimed {
            queued.receipt.insert(0, sign(role));
        }
        Ok(claimed)
    }

    /// What was given by a queue that has failed since is not taken off it: it is found to be done when it is seen again.
    async fn ack(&self, planner_id: &str, receipt: &str) -> Result<(), PortError> {
        let is_signed = |member: &&Member| receipt.starts_with(sign(member.role));
        let member = self.shared.members.iter().find(is_signed).ok_or_else(no_such_queue)?;
        if self.shared.machine().was_left(member.role) {
            return Ok(());
        }
        self.shared.run_on(member, member.queue.ack(planner_id, &receipt[1..])).await
    }

    /// On every queue that works: claims may be left on any of them. An error only if none does.
    async fn release_claims(&self) -> Result<(), PortError> {
        let mut released = Err(no_such_queue());
        for member in &self.shared.members {
            let answer = self.shared.run_on(member, member.queue.release_claims()).await;
            if answer.is_ok() || released.is_err() {
                released = answer;
            }
        }
        released
    }

    /// Of the queue in use.
    async fn len(&self, planner_id: &str) -> Result<u64, PortError> {
        self.shared.run(|queue| queue.len(planner_id)).await.map(|(_, length)| length)
    }
}
