//! Tasks without a campaign, and leases for workers: what `POST /assign_task` and a polling worker ask for.
//!
//! A task given twice with the same content is one task; with other content it is refused. Nothing here runs a skill.
//! Called by the API and the worker pool.

use super::campaign_file::LimitsWish;
use super::catalogue::{Catalogue, Trials};
use super::scheduler::{Leases, Scheduler, stale};
use crate::error::{AgentError, AgentErrorKind};
use chimera_core::audit::Actor;
use chimera_core::campaign::new_task;
use chimera_core::change::{Change, Committed, Guard, Write};
use chimera_core::clock::Timestamp;
use chimera_core::failure::{Failure, FailureKind, codes};
use chimera_core::ids::{AgentId, LeaseId, SpecId, TaskId};
use chimera_core::json::{MAX_DEPTH, is_deeper_than};
use chimera_core::machine::{TaskEvent, transition};
use chimera_core::ports::{Queued, Truth};
use chimera_core::task::{Lease, Task, TaskSpec, TaskState, Usage};
use chimera_core::text::{printable, truncated};
use chimera_registry::check_value_soon;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// How long `assign` waits for a worker to take the task.
pub const ASSIGN_WAIT: Duration = Duration::from_millis(250);
/// How soon it is looked whether a worker of another process has it; twice as long after each look.
const FIRST_LOOK: Duration = Duration::from_millis(8);
/// How long a task that was taken from the queue stays invisible to others.
const INVISIBLE: Duration = Duration::from_secs(30);
/// Longest description of a standalone task in bytes.
const MAX_GOAL: usize = 2048;

/// What a standalone task has to do: the `spec` of `POST /assign_task`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssignSpec {
    /// `namespace/name`, or `namespace/name@requirement`.
    pub skill: String,
    /// The input.
    #[serde(default)]
    pub input: Value,
    /// Tighter limits than the skill's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsWish>,
    /// What it is for, in words; at most 2 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub goal: Option<String>,
    /// A JSON subset that the output must contain, else a human is asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expect: Option<Value>,
}

/// A standalone task to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// Its id, drawn by the caller: given twice with the same content it is one task.
    pub id: TaskId,
    /// What it has to do.
    pub spec: AssignSpec,
    /// 0 to 9, higher first.
    pub priority: u8,
    /// After this moment it is not started any more.
    pub deadline: Option<Timestamp>,
}

/// What became of an assigned task: the answer of `POST /assign_task`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// Whether a worker has it.
    pub status: AssignStatus,
    /// The worker that leased it.
    pub assigned_worker_id: Option<AgentId>,
}

/// Whether a worker has an assigned task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AssignStatus {
    /// A worker leased it (and may be done with it already).
    Assigned,
    /// It waits for a worker.
    Queued,
}

/// A task that was leased, with what it has to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeasedTask {
    /// The task, running, with its lease.
    pub task: Task,
    /// What it has to do.
    pub spec: TaskSpec,
}

/// A task that was taken from the queue for a worker of this process.
pub(crate) struct Taken {
    pub(crate) leased: LeasedTask,
    /// What leases it in the truth, where that is still to be written; its claim on the queue is still held then.
    pub(crate) unwritten: Option<Change>,
}

/// What becomes of a task that was claimed from the queue.
enum Prepared {
    /// It is not ready any more.
    Gone,
    /// Its lease is being written.
    Leased(Task, Option<TaskSpec>),
    /// Its lease is to be written later.
    Deferred(LeasedTask, Change),
}

impl Scheduler {
    /// Makes a standalone task, once, and waits up to [`ASSIGN_WAIT`] for a worker to lease it.
    ///
    /// `priority` is 0 to 9, higher first; after `deadline` it is not started any more.
    ///
    /// # Errors
    /// `Invalid` when the spec cannot be done (unknown skill, input that does not fit, a priority over 9); `Conflict` when
    /// the id belongs to a task with other content; `Unavailable`.
    pub async fn assign(
        &self,
        id: TaskId,
        spec: AssignSpec,
        priority: u8,
        deadline: Option<Timestamp>,
        actor: Actor,
    ) -> Result<Assigned, AgentError> {
        let leased = self.when_leased(id);
        let made = self.make_once(NewTask { id, spec, priority, deadline }, actor).await;
        let answer = match made {
            Ok(Made::New) => match self.lease_soon(id, leased).await {
                Some(worker) => Ok(Assigned { status: AssignStatus::Assigned, assigned_worker_id: Some(worker) }),
                None => Ok(Assigned { status: AssignStatus::Queued, assigned_worker_id: None }),
            },
            Ok(Made::Before(task)) => {
                drop(leased);
                let waits = matches!(task.state, TaskState::Pending | TaskState::Queued) && task.worker_id.is_none();
                let status = if waits { AssignStatus::Queued } else { AssignStatus::Assigned };
                Ok(Assigned { status, assigned_worker_id: task.worker_id })
            }
            Err(error) => {
                drop(leased);
                Err(error)
            }
        };
        self.stop_waiting(id);
        answer
    }

    /// Which worker leases the task within [`ASSIGN_WAIT`], if one does.
    async fn lease_soon(&self, id: TaskId, mut leased: oneshot::Receiver<AgentId>) -> Option<AgentId> {
        let until = Instant::now() + ASSIGN_WAIT;
        let mut pause = match self.inner.deps.leases {
            Leases::Here => ASSIGN_WAIT,
            Leases::Anywhere => FIRST_LOOK,
        };
        loop {
            match tokio::time::timeout_at(until.min(Instant::now() + pause), &mut leased).await {
                Ok(worker) => return worker.ok(),
                Err(_) if self.inner.deps.leases == Leases::Here => return None,
                // A truth that cannot be asked now is no reason to refuse what was made.
                Err(_) => match self.truth().task(id).await {
                    Ok(Some(Task { worker_id: Some(worker), .. })) => return Some(worker),
                    _ if Instant::now() >= until => return None,
                    _ => pause *= 2,
                },
            }
        }
    }

    /// Makes many standalone tasks, each once and each by itself, as [`Scheduler::assign`] does, without waiting for
    /// workers: answers in the order of the tasks, once all that were made are on disk.
    pub async fn assign_all(&self, tasks: Vec<NewTask>, actor: Actor) -> Vec<Result<(), AgentError>> {
        self.make_all(tasks, actor).await.into_iter().map(|made| made.map(drop)).collect()
    }

    async fn make_once(&self, task: NewTask, actor: Actor) -> Result<Made, AgentError> {
        let mut made = self.make_all(vec![task], actor).await;
        made.pop().unwrap_or_else(|| Err(AgentError::Unavailable("the task was lost".to_owned())))
    }

    /// The answers are in the order of the tasks.
    async fn make_all(&self, tasks: Vec<NewTask>, actor: Actor) -> Vec<Result<Made, AgentError>> {
        let mut choosing = Choosing::default();
        let (mut changes, mut decided) = (Vec::with_capacity(tasks.len()), Vec::with_capacity(tasks.len()));
        for task in &tasks {
            decided.push(match check_form(task) {
                Ok(()) => match self.creation(task, &mut choosing, actor.clone()).await {
                    Ok(change) => {
                        changes.push(change);
                        Decided::Make
                    }
                    Err(error) => Decided::Impossible(error),
                },
                Err(error) => Decided::Malformed(error),
            });
        }
        let mut committed = self.truth().commit_all(changes).await.into_iter();
        let (mut answers, mut ready) = (Vec::with_capacity(tasks.len()), Vec::with_capacity(tasks.len()));
        for (task, decided) in tasks.iter().zip(decided) {
            let answer = match decided {
                Decided::Make => match committed.next() {
                    Some(Ok(Committed::Applied)) => {
                        ready.push((task.id, task.priority));
                        Ok(Made::New)
                    }
                    Some(Ok(Committed::Stale(Guard::TaskAbsent(_)))) => self.same_as_before(task).await,
                    Some(Ok(Committed::Stale(guard))) => Err(stale(&guard)),
                    Some(Err(error)) => Err(error.into()),
                    None => Err(AgentError::Unavailable("the store did not answer".to_owned())),
                },
                // What was given before may have become impossible since, and is given again all the same.
                Decided::Impossible(error) => match self.truth().task(task.id).await {
                    Ok(Some(_)) => self.same_as_before(task).await,
                    Ok(None) => Err(error),
                    Err(unread) => Err(unread.into()),
                },
                Decided::Malformed(error) => Err(error),
            };
            answers.push(answer);
        }
        self.put_on_queue(&ready).await;
        answers
    }

    /// Tasks that are queued in the truth. Were the queue not reached, or this process killed just now: whoever fills the
    /// queue from the truth finds them.
    async fn put_on_queue(&self, ready: &[(TaskId, u8)]) {
        if ready.is_empty() {
            return;
        }
        if let Err(error) = self.queue().push(self.planner_id(), ready, self.clock().now()).await {
            tracing::warn!(tasks = ready.len(), %error, "new tasks wait until the queue is filled from the truth");
            return;
        }
        self.tell_queued();
    }

    /// What makes the task, unless there is one of this id. It is queued from the beginning: its row is all that a queue is
    /// filled from, so nothing has to be relayed.
    async fn creation(&self, wanted: &NewTask, choosing: &mut Choosing, actor: Actor) -> Result<Change, AgentError> {
        let NewTask { id, spec, priority, deadline } = wanted;
        let catalogue = choosing.catalogue(self.truth().as_ref(), &spec.skill, *id).await?;
        let version = catalogue.require(&spec.skill).map_err(AgentError::Invalid)?;
        check_value_soon(&version.manifest.io.input, &spec.input)
            .await
            .map_err(|problem| AgentError::unfit(problem, &format!("the input does not fit {}", version.skill)))?;
        let cx = self.context(actor);
        let task_spec = TaskSpec {
            id: SpecId::new(cx.ids),
            goal: goal_of(spec, &version.manifest.skill.summary),
            skill: version.skill.clone(),
            input: spec.input.clone(),
            limits: spec.limits.unwrap_or_default().within(version.manifest.limits),
            expect: spec.expect.clone(),
        };
        let task = Task {
            id: *id,
            planner_id: self.planner_id().to_owned(),
            spec_id: task_spec.id,
            priority: *priority,
            deadline: *deadline,
            state: TaskState::Queued,
            ..new_task(&cx)
        };
        let mut change = Change::new();
        change.guard(Guard::TaskAbsent(*id));
        let detail = json!({ "skill": task_spec.skill.to_string(), "digest": task_spec.skill.digest });
        change.audit(cx.event("task.created").about(None, Some(*id)).detail(detail));
        change.write(Write::PutSpec(task_spec));
        change.write(Write::PutTask(task));
        Ok(change)
    }

    async fn same_as_before(&self, given: &NewTask) -> Result<Made, AgentError> {
        let NewTask { id, spec: wanted, priority, deadline } = given;
        let task = self.task(*id).await?;
        let spec = self.spec_of(&task).await?;
        let (name, requirement) = super::campaign_file::parse_skill(&wanted.skill).map_err(AgentError::Invalid)?;
        let same_skill =
            spec.skill.name == name && requirement.is_none_or(|requirement| requirement.matches(&spec.skill.version));
        let same_limits = wanted.limits.unwrap_or_default().within(spec.limits) == spec.limits;
        let same = same_skill
            && same_limits
            && task.campaign.is_none()
            && spec.input == wanted.input
            && spec.expect == wanted.expect
            && task.priority == *priority
            && task.deadline == *deadline;
        if same {
            return Ok(Made::Before(Box::new(task)));
        }
        Err(AgentError::Conflict(format!("task {} exists already with other content: use a new task_id", task.id)))
    }

    pub(crate) async fn spec_of(&self, task: &Task) -> Result<TaskSpec, AgentError> {
        let spec = self.truth().spec(task.spec_id).await?;
        spec.ok_or_else(|| no_spec(task))
    }

    /// Leases the next ready task to an agent; none when there is none. For workers that come in through the API.
    ///
    /// # Errors
    /// `Unavailable`.
    pub async fn lease_next(&self, agent: AgentId) -> Result<Option<LeasedTask>, AgentError> {
        // What is on the queue but no longer ready costs a turn each; a caller with none left simply asks again.
        for _ in 0..16 {
            let Some(item) = self.claim_queue(1).await?.pop() else { return Ok(None) };
            if let Some(leased) = self.take(&item, agent).await? {
                return Ok(Some(leased));
            }
        }
        Ok(None)
    }

    /// Says that a worker is alive; the lease lasts [`Lease::DURATION`] from now. Gives the moment when it ends.
    ///
    /// # Errors
    /// `Conflict` when lease or attempt are not current any more, or the lease is another worker's: drop the run.
    /// `NotFound`, `Unavailable`.
    pub async fn heartbeat(
        &self,
        task: TaskId,
        lease: LeaseId,
        attempt: u32,
        agent: AgentId,
    ) -> Result<Timestamp, AgentError> {
        let held = self.task(task).await?;
        if held.lease.as_ref().is_some_and(|held| held.worker != agent) {
            return Err(AgentError::Conflict(format!("task {task} is leased to another worker")));
        }
        let now = self.clock().now();
        let mut seen = Change::new().with_next();
        seen.write(Write::TouchAgent(agent, now));
        let event = TaskEvent::Heartbeat { lease, attempt, until: now.plus(Lease::DURATION) };
        let held = self.apply_with(task, event, &seen, Actor::Worker(agent)).await?;
        Ok(held.lease.map_or(now, |lease| lease.until))
    }

    pub(crate) async fn claim_queue(&self, limit: u32) -> Result<Vec<Queued>, AgentError> {
        let now = self.clock().now();
        Ok(self.queue().claim(self.planner_id(), limit, now, now.plus(INVISIBLE)).await?)
    }

    /// Leases a task that was claimed from the queue; none when it is not ready any more.
    pub(crate) async fn take(&self, item: &Queued, agent: AgentId) -> Result<Option<LeasedTask>, AgentError> {
        let mut taken = self.take_all(&[(item, agent)], &|_, _| false).await;
        taken.pop().unwrap_or(Ok(None)).map(|taken| taken.map(|taken| taken.leased))
    }

    /// Leases tasks that were claimed from the queue, each to its agent; in their order, none for one that is not ready any
    /// more. Together they cost hardly more than one. `defers` says of which the caller writes the lease itself.
    pub(crate) async fn take_all(
        &self,
        wanted: &[(&Queued, AgentId)],
        defers: &(dyn Fn(&Task, &TaskSpec) -> bool + Sync),
    ) -> Vec<Result<Option<Taken>, AgentError>> {
        let ids: Vec<TaskId> = wanted.iter().map(|(item, _)| item.task).collect();
        let read = match self.truth().tasks_by_ids(&ids).await {
            Ok(read) => read,
            Err(error) => return wanted.iter().map(|_| Err(error.clone().into())).collect(),
        };
        let ready: Vec<Option<Task>> = read
            .into_iter()
            .map(|task| task.filter(|task| matches!(task.state, TaskState::Pending | TaskState::Queued)))
            .collect();
        // Never changed once written, so they may be read before it is known who gets the task.
        let spec_ids: Vec<SpecId> = ready.iter().flatten().map(|task| task.spec_id).collect();
        let specs = match self.truth().specs_by_ids(&spec_ids).await {
            Ok(specs) => specs,
            Err(error) => return wanted.iter().map(|_| Err(error.clone().into())).collect(),
        };
        let mut specs = specs.into_iter();
        let (mut changes, mut prepared) = (Vec::with_capacity(wanted.len()), Vec::with_capacity(wanted.len()));
        for ((_, agent), task) in wanted.iter().zip(ready) {
            prepared.push(match task {
                None => Ok(Prepared::Gone),
                Some(task) => {
                    let spec = specs.next().flatten();
                    self.leasing(&task, *agent).map(|(leased, change)| match spec {
                        Some(spec) if defers(&task, &spec) => {
                            Prepared::Deferred(LeasedTask { task: leased, spec }, change)
                        }
                        spec => {
                            changes.push(change);
                            Prepared::Leased(leased, spec)
                        }
                    })
                }
            });
        }
        let mut committed = self.truth().commit_all(changes).await.into_iter();
        let mut taken = Vec::with_capacity(wanted.len());
        for ((item, agent), prepared) in wanted.iter().zip(prepared) {
            taken.push(match prepared {
                Err(error) => Err(error),
                Ok(Prepared::Gone) => {
                    self.ack(item).await;
                    Ok(None)
                }
                Ok(Prepared::Deferred(leased, change)) => {
                    self.tell_if_leased(&leased.task);
                    Ok(Some(Taken { leased, unwritten: Some(change) }))
                }
                Ok(Prepared::Leased(task, spec)) => match committed.next() {
                    Some(Ok(Committed::Applied)) => {
                        self.tell_if_leased(&task);
                        self.ack(item).await;
                        self.check_leased(task, spec, *agent).await.map(written)
                    }
                    Some(Ok(Committed::Stale(_))) => Box::pin(self.take_anew(item, *agent)).await.map(written),
                    Some(Err(error)) => Err(error.into()),
                    None => Err(AgentError::Unavailable("the store did not answer".to_owned())),
                },
            });
        }
        taken
    }

    /// Leases a task that changed since it was read.
    async fn take_anew(&self, item: &Queued, agent: AgentId) -> Result<Option<LeasedTask>, AgentError> {
        let now = self.clock().now();
        let lease = Lease { id: LeaseId::new(self.ids().as_ref()), worker: agent, until: now.plus(Lease::DURATION) };
        let extra = Change::new().with_next();
        match self.apply_with(item.task, TaskEvent::Leased { lease }, &extra, Actor::Worker(agent)).await {
            Ok(task) => {
                self.ack(item).await;
                let spec = self.truth().spec(task.spec_id).await?;
                self.check_leased(task, spec, agent).await
            }
            // Not acknowledged: it is seen again, and found to be somebody's or nobody's then.
            Err(error) if matches!(error.kind(), AgentErrorKind::Conflict | AgentErrorKind::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What gives a ready task to an agent.
    fn leasing(&self, task: &Task, agent: AgentId) -> Result<(Task, Change), AgentError> {
        let cx = self.context(Actor::Worker(agent));
        let lease = Lease { id: LeaseId::new(cx.ids), worker: agent, until: cx.now.plus(Lease::DURATION) };
        let event = TaskEvent::Leased { lease };
        let durability = event.durability();
        let (leased, mut change) = transition(task, event, &cx)?;
        change.durability = durability;
        if self.is_seen_anew(agent, cx.now) {
            change.write(Write::TouchAgent(agent, cx.now));
        }
        Ok((leased, change))
    }

    /// A task past its deadline, or without a specification, is not started.
    async fn check_leased(
        &self,
        task: Task,
        spec: Option<TaskSpec>,
        agent: AgentId,
    ) -> Result<Option<LeasedTask>, AgentError> {
        let spec = spec.ok_or_else(|| no_spec(&task))?;
        if task.deadline.is_none_or(|deadline| deadline > self.clock().now()) {
            return Ok(Some(LeasedTask { task, spec }));
        }
        let Some(lease) = &task.lease else { return Ok(None) };
        let failure =
            Failure::new(FailureKind::Permanent, codes::DEADLINE, "its deadline passed before a worker could start it");
        let event = TaskEvent::Failed {
            lease: lease.id,
            attempt: task.attempt,
            failure,
            usage: Usage::default(),
            skill: spec.skill,
        };
        match Box::pin(self.apply(task.id, event, Actor::Worker(agent))).await {
            Ok(_) => Ok(None),
            Err(error) if error.kind() == AgentErrorKind::Conflict => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Takes a task off the queue for good.
    pub(crate) async fn ack(&self, item: &Queued) {
        if let Err(error) = self.queue().ack(self.planner_id(), &item.receipt).await {
            tracing::warn!(task = %item.task, %error, "a task could not be taken off the queue; it is seen again and skipped");
        }
    }
}

/// What becomes of a task that is to be made.
enum Decided {
    /// Its change is made.
    Make,
    /// It is nothing that could ever have been made.
    Malformed(AgentError),
    /// It cannot be made now.
    Impossible(AgentError),
}

/// Reads what is installed once for many tasks that name the same skill.
#[derive(Default)]
struct Choosing {
    read: HashMap<String, Catalogue>,
    /// The last one of a skill on trial: there it depends on the task which version it gets.
    on_trial: Catalogue,
}

impl Choosing {
    async fn catalogue(&mut self, truth: &dyn Truth, skill: &str, task: TaskId) -> Result<&Catalogue, AgentError> {
        if !self.read.contains_key(skill) {
            let (catalogue, trials) = Catalogue::read_for(truth, skill, task.as_uuid()).await?;
            if trials == Trials::Some {
                self.on_trial = catalogue;
                return Ok(&self.on_trial);
            }
            self.read.insert(skill.to_owned(), catalogue);
        }
        Ok(self.read.get(skill).unwrap_or(&self.on_trial))
    }
}

fn check_form(task: &NewTask) -> Result<(), AgentError> {
    if task.priority > 9 {
        return Err(AgentError::Invalid(format!("priority {} is outside 0 to 9", task.priority)));
    }
    check_depth("spec.input", Some(&task.spec.input))?;
    check_depth("spec.expect", task.spec.expect.as_ref())
}

/// What is nested too deep could be stored and never read again.
fn check_depth(field: &str, value: Option<&Value>) -> Result<(), AgentError> {
    if value.is_some_and(|value| is_deeper_than(value, MAX_DEPTH)) {
        return Err(AgentError::Invalid(format!("{field} is nested deeper than {MAX_DEPTH}: flatten it")));
    }
    Ok(())
}

fn no_spec(task: &Task) -> AgentError {
    AgentError::Unavailable(format!("the specification of task {} is missing", task.id))
}

fn written(leased: Option<LeasedTask>) -> Option<Taken> {
    leased.map(|leased| Taken { leased, unwritten: None })
}

enum Made {
    New,
    Before(Box<Task>),
}

fn goal_of(spec: &AssignSpec, summary: &str) -> String {
    let goal = spec.goal.as_deref().map(str::trim).filter(|goal| !goal.is_empty()).unwrap_or(summary);
    truncated(printable(goal), MAX_GOAL)
}
