//! Reports what became of an attempt, for the host's own workers and for workers that come in through the API.
//!
//! A report counts only while its lease and attempt are current: a late one is refused and changes nothing. It judges
//! nothing. Called by the worker pool and by `POST /report_result`.

use super::deferred::DeferredLease;
use super::executor::Executed;
use crate::error::{AgentError, AgentErrorKind};
use crate::judge::VERDICT_CAP;
use crate::judge::validator::{self, Case};
use crate::planner::LeasedTask;
use crate::planner::scheduler::{MAX_TRIES, Scheduler, Tried, Verdicts, pause};
use chimera_core::approval::ApprovalState;
use chimera_core::audit::Actor;
use chimera_core::change::{Change, Context, Guard, OutboxTopic, Write};
use chimera_core::failpoint;
use chimera_core::failure::{Failure, FailureKind, codes};
use chimera_core::ids::{AgentId, ApprovalId, LeaseId, TaskId};
use chimera_core::json::{MAX_DEPTH, is_deeper_than};
use chimera_core::machine::{TaskEvent, step};
use chimera_core::route::RunMark;
use chimera_core::task::{Lease, Outcome, Task, TaskSpec, TaskState, Usage};
use chimera_core::text::{printable, truncated};
use chimera_core::verdict::Decision;
use chimera_registry::check_value_soon;
use chimera_sandbox::RunEnd;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::{Duration, Instant};

/// A report from outside: `POST /report_result`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExternalReport {
    /// The task.
    pub task_id: TaskId,
    /// The output; ignored when there is an `error_code`.
    #[serde(default)]
    pub result: Value,
    /// 0 to 1; needed when there is a result.
    #[serde(default)]
    pub confidence: Option<f64>,
    /// What it failed with: a failure kind (`transient`, `permanent`, `invalid-input`, `denied`), a code the host knows, or
    /// `kind:code`. Anything else is permanent.
    #[serde(default)]
    pub error_code: Option<String>,
    /// The lease; if absent, the one live lease of the caller.
    #[serde(default)]
    pub lease_id: Option<LeaseId>,
    /// The attempt; if absent, the current one.
    #[serde(default)]
    pub attempt: Option<u32>,
}

/// What became of a report: the answer of `POST /report_result`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reported {
    /// The task's state now.
    pub status: TaskState,
    /// Whether a human will have to decide.
    pub hitl_required: bool,
}

/// Says how a run of the host's own worker ended, and writes its lease with that if it is not written yet. Tries again while
/// the truth cannot be reached and the lease lasts.
///
/// # Errors
/// `Conflict` when the run was fenced off (nothing was written); `NotFound`; `Unavailable` when the lease ran out first.
pub(crate) async fn report_run(
    scheduler: &Scheduler,
    held: &LeasedTask,
    lease: &Lease,
    deferred: Option<&DeferredLease>,
    executed: Executed,
) -> Result<Task, AgentError> {
    failpoint::hit("worker.before_report");
    let actor = Actor::Worker(lease.worker);
    let mut pause = Duration::from_millis(50);
    let Task { id: task, epoch, .. } = held.task;
    // What the journal still lacks becomes durable with the report, or not at all; and a result with the verdict on it.
    let mut rest = Change::new().with_next();
    let entries = executed.last_entries();
    if !entries.is_empty() {
        rest.write(Write::AppendJournal { task, epoch, entries });
    }
    let mark = mark_of(&executed.end);
    rest.writes.extend(mark.map(|mark| Write::CountRun(executed.skill.clone(), mark)));
    loop {
        let run = Run { held, lease: lease.id, deferred, executed: &executed };
        let reported = report_once(scheduler, run, &rest, actor.clone()).await;
        match reported {
            Err(error) if error.kind() == AgentErrorKind::Unavailable && scheduler.clock().now() < lease.until => {
                tracing::warn!(%task, %error, "the report could not be written; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(2));
            }
            Ok(task) => {
                failpoint::hit("worker.after_report");
                return Ok(task);
            }
            Err(error) => return Err(error),
        }
    }
}

/// A run that is over.
#[derive(Clone, Copy)]
struct Run<'r> {
    held: &'r LeasedTask,
    lease: LeaseId,
    deferred: Option<&'r DeferredLease>,
    executed: &'r Executed,
}

impl Run<'_> {
    /// Has the truth know of the lease.
    async fn write_lease(&self) -> Result<(), AgentError> {
        match self.deferred {
            Some(deferred) => deferred.write().await,
            None => Ok(()),
        }
    }
}

async fn report_once(scheduler: &Scheduler, run: Run<'_>, rest: &Change, actor: Actor) -> Result<Task, AgentError> {
    let Run { held, lease, executed, .. } = run;
    let (task, attempt) = (held.task.id, held.task.attempt);
    let Executed { end, usage, skill, .. } = executed;
    let (usage, skill) = (*usage, skill.clone());
    let event = match end {
        RunEnd::Finished(outcome) => {
            if let Some(done) = report_judged(scheduler, run, outcome, rest, &actor).await? {
                return Ok(done);
            }
            TaskEvent::Finished { lease, attempt, outcome: outcome.clone(), usage }
        }
        RunEnd::Failed(failure) => TaskEvent::Failed { lease, attempt, failure: failure.clone(), usage, skill },
        RunEnd::Diverged(divergence) => TaskEvent::Diverged { lease, attempt, divergence: divergence.clone(), usage },
        RunEnd::Suspended(approval) => {
            run.write_lease().await?;
            return Box::pin(suspend(scheduler, task, lease, attempt, *approval, executed, actor)).await;
        }
    };
    run.write_lease().await?;
    let done = Box::pin(scheduler.apply_with(task, event, rest, actor)).await?;
    if mark_of(end) == Some(RunMark::Bad) {
        scheduler.settle_canary(&executed.skill.name).await;
    }
    Ok(done)
}

/// What a run says of the version that was run.
fn mark_of(end: &RunEnd) -> Option<RunMark> {
    match end {
        RunEnd::Finished(_) => Some(RunMark::Good),
        RunEnd::Failed(failure) => RunMark::of_failure(failure),
        RunEnd::Suspended(_) | RunEnd::Diverged(_) => None,
    }
}

/// Reports what a run returned with the verdict on it, in one change: one wait for the disk, and no row for the judge to
/// find. None when the verdict is the judge's loop's to give: it is elsewhere, or takes longer than a moment.
async fn report_judged(
    scheduler: &Scheduler,
    run: Run<'_>,
    outcome: &Outcome,
    rest: &Change,
    actor: &Actor,
) -> Result<Option<Task>, AgentError> {
    let Run { held, lease, deferred, executed } = run;
    if scheduler.verdicts() == Verdicts::Apart {
        return Ok(None);
    }
    let Some(manifest) = &executed.manifest else { return Ok(None) };
    let mut unwritten = match deferred {
        Some(deferred) => deferred.unwritten().await?,
        None => None,
    };
    let mut now: Option<Task> = None;
    for attempt in 0..MAX_TRIES {
        // Hardly ever has anything happened to it since it was leased; the guard says so if it has.
        let task = now.as_ref().unwrap_or(&held.task);
        let started = Instant::now();
        let by_worker = scheduler.context(actor.clone());
        let (before, rev) = (task.state, task.rev);
        let event =
            TaskEvent::Finished { lease, attempt: held.task.attempt, outcome: outcome.clone(), usage: executed.usage };
        let (reported, mut change) = step(task.clone(), event, &by_worker)?;
        let policy = Case::policy_of(scheduler, &reported).await?;
        let case = Case { task: reported, spec: held.spec.clone(), manifest: Some(manifest.clone()), policy };
        let Some(mut verdict) = validator::decide_in_passing(&case) else { return Ok(None) };
        verdict.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        failpoint::hit("judge.before_verdict");
        let by_judge = Context { actor: Actor::Judge, ..by_worker };
        let (judged, verdict) = step(case.task, TaskEvent::Judged { verdict }, &by_judge)?;
        // The judge need not be told of what is judged.
        change.writes.retain(|write| !matches!(write, Write::PutOutbox(row) if row.topic == OutboxTopic::Judge));
        change.extend(verdict);
        change.guard(Guard::TaskRev(judged.id, rev));
        change.write(Write::PutTask(judged.clone()));
        change.extend(rest.clone());
        let is_leasing = unwritten.is_some();
        if let Some(mut leasing) = unwritten.take() {
            let durability = change.durability;
            leasing.then(change);
            change = Change { durability, ..leasing };
        }
        match scheduler.commit_move(before, judged, change, &by_judge).await? {
            Tried::Done(done) => {
                if let Some(deferred) = deferred.filter(|_| is_leasing) {
                    deferred.reported().await;
                }
                return Ok(Some(*done));
            }
            // A lease whose write was not waited for may have been written all the same; if not, nothing fits below.
            Tried::Stale(_) => pause(attempt).await,
        }
        now = Some(scheduler.task(held.task.id).await?);
    }
    Err(AgentError::Unavailable(format!("task {} changes too often to be reported; try again", held.task.id)))
}

/// A human may have decided while the guest was being parked: then nobody would ever wake the task, so it is run again
/// instead.
async fn suspend(
    scheduler: &Scheduler,
    task: TaskId,
    lease: LeaseId,
    attempt: u32,
    approval: ApprovalId,
    executed: &Executed,
    actor: Actor,
) -> Result<Task, AgentError> {
    let mut still_open = Change::new();
    still_open.guard(Guard::ApprovalOpen(approval));
    let parked = TaskEvent::Suspended { lease, attempt, approval, usage: executed.usage };
    let refused = match scheduler.apply_with(task, parked, &still_open, actor.clone()).await {
        Err(error) if error.kind() == AgentErrorKind::Conflict => error,
        other => return other,
    };
    let asked = scheduler.truth().approval(approval).await?;
    if asked.as_ref().is_some_and(|asked| asked.state == ApprovalState::Open) {
        return Err(refused);
    }
    let failure = match asked.map(|asked| asked.state) {
        Some(ApprovalState::Rejected) => {
            Failure::new(FailureKind::Denied, codes::REFUSED, "a human refused it while it was asked")
        }
        _ => Failure::new(
            FailureKind::Transient,
            codes::DECIDED_MEANWHILE,
            "the question was decided while it was asked",
        ),
    };
    let event = TaskEvent::Failed { lease, attempt, failure, usage: executed.usage, skill: executed.skill.clone() };
    scheduler.apply(task, event, actor).await
}

/// Takes a report from outside. It counts only for a live lease of the caller's own.
///
/// # Errors
/// `NotFound`; `Conflict` when the caller holds no live lease on the task, or another one than it says; `Invalid` when
/// result or confidence cannot be used; `Unavailable`.
pub async fn report_external(
    scheduler: &Scheduler,
    report: ExternalReport,
    agent: AgentId,
) -> Result<Reported, AgentError> {
    let task = scheduler.task(report.task_id).await?;
    let lease = live_lease(&task, &report, agent, scheduler)?;
    let spec = scheduler.spec_of(&task).await?;
    let usage = Usage {
        wall_ms: u64::try_from(scheduler.clock().now().since(task.updated_at).as_millis()).unwrap_or(u64::MAX),
        ..Usage::default()
    };
    let event = match &report.error_code {
        Some(code) => TaskEvent::Failed {
            lease: lease.id,
            attempt: task.attempt,
            failure: failure_of(code),
            usage,
            skill: spec.skill.clone(),
        },
        None => {
            let outcome = outcome_of(&report)?;
            match check_output(scheduler, &spec, &outcome).await? {
                Ok(()) => TaskEvent::Finished { lease: lease.id, attempt: task.attempt, outcome, usage },
                Err(failure) => TaskEvent::Failed {
                    lease: lease.id,
                    attempt: task.attempt,
                    failure,
                    usage,
                    skill: spec.skill.clone(),
                },
            }
        }
    };
    let mut seen = Change::new();
    let mark = match &event {
        TaskEvent::Failed { failure, .. } => RunMark::of_failure(failure),
        _ => Some(RunMark::Good),
    };
    seen.writes.extend(mark.map(|mark| Write::CountRun(spec.skill.clone(), mark)));
    seen.write(Write::TouchAgent(agent, scheduler.clock().now()));
    let task = scheduler.apply_with(task.id, event, &seen, Actor::Agent(agent)).await?;
    let hitl_required = match task.state {
        TaskState::AwaitingApproval => true,
        TaskState::Judging => will_escalate(scheduler, &task, &spec).await?,
        _ => false,
    };
    Ok(Reported { status: task.state, hitl_required })
}

fn live_lease<'t>(
    task: &'t Task,
    report: &ExternalReport,
    agent: AgentId,
    scheduler: &Scheduler,
) -> Result<&'t Lease, AgentError> {
    let held = task.lease.as_ref().filter(|lease| {
        task.state == TaskState::Running && lease.worker == agent && lease.until > scheduler.clock().now()
    });
    let Some(lease) = held else {
        return Err(AgentError::Conflict(format!(
            "task {} is {} and you hold no live lease on it: lease it first",
            task.id,
            task.state.as_str()
        )));
    };
    let other_lease = report.lease_id.is_some_and(|id| id != lease.id);
    let other_attempt = report.attempt.is_some_and(|attempt| attempt != task.attempt);
    if other_lease || other_attempt {
        return Err(AgentError::Conflict(format!(
            "the report is of another lease or attempt; task {} is in attempt {} now",
            task.id, task.attempt
        )));
    }
    Ok(lease)
}

fn outcome_of(report: &ExternalReport) -> Result<Outcome, AgentError> {
    let confidence = report.confidence.ok_or_else(|| {
        AgentError::Invalid("confidence is missing: send a number from 0 to 1, or an error_code".to_owned())
    })?;
    if !(0.0..=1.0).contains(&confidence) {
        return Err(AgentError::Invalid(format!("confidence {confidence} is outside 0 to 1")));
    }
    if is_deeper_than(&report.result, MAX_DEPTH) {
        return Err(AgentError::Invalid(format!("result is nested deeper than {MAX_DEPTH}: flatten it")));
    }
    Ok(Outcome { output: report.result.clone(), confidence, evidence: Vec::new() })
}

async fn check_output(
    scheduler: &Scheduler,
    spec: &TaskSpec,
    outcome: &Outcome,
) -> Result<Result<(), Failure>, AgentError> {
    let versions = scheduler.truth().skills(Some(&spec.skill.name)).await?;
    let Some(version) = versions.iter().find(|version| version.skill == spec.skill) else { return Ok(Ok(())) };
    Ok(check_value_soon(&version.manifest.io.output, &outcome.output).await.map_err(|problem| {
        let about = "the output does not fit the skill's schema";
        problem.into_failure(FailureKind::Permanent, codes::OUTPUT_INVALID, about)
    }))
}

/// The judge decides from the same values in a moment, by the same function.
async fn will_escalate(scheduler: &Scheduler, task: &Task, spec: &TaskSpec) -> Result<bool, AgentError> {
    let case = Case::read(scheduler, task.clone(), spec.clone()).await?;
    Ok(validator::decide_soon(case, VERDICT_CAP).await.decision == Decision::Escalate)
}

/// The failure that an error code from outside means. `security` and `poison` are the host's alone to say.
pub(crate) fn failure_of(code: &str) -> Failure {
    let code = truncated(printable(code.trim()), 2 * Failure::MAX_CODE);
    let (kind, code) = match code.split_once(':') {
        Some((kind, rest)) if kind_named(kind).is_some() => (kind_named(kind), rest.trim().to_owned()),
        _ => (kind_named(&code), code),
    };
    const PASSING: [&str; 5] = [codes::UNREACHABLE, codes::LEASE_EXPIRED, "rate-limited", "timeout", "unavailable"];
    let kind = kind.unwrap_or(match code.as_str() {
        passing if PASSING.contains(&passing) => FailureKind::Transient,
        codes::INPUT_INVALID => FailureKind::InvalidInput,
        codes::NOT_GRANTED => FailureKind::Denied,
        _ => FailureKind::Permanent,
    });
    let code = if code.is_empty() { "unknown".to_owned() } else { code };
    let message = format!("the worker reported `{code}`");
    Failure::new(kind, code, message)
}

fn kind_named(name: &str) -> Option<FailureKind> {
    [FailureKind::Transient, FailureKind::Permanent, FailureKind::InvalidInput, FailureKind::Denied]
        .into_iter()
        .find(|kind| kind.as_str() == name)
}

#[cfg(test)]
#[path = "reporter_tests.rs"]
mod tests;
